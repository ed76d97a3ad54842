"""The measured claims, one command each. `make bench` runs `main_job`, whose raw samples `make bench JSON=FILE` keeps,
and `tenancy`.

Reading order: `main_job` (what is measured, in which order), `fleet` (real processes, driven as an operator would),
`seed_loop` (what it is compared with), `data`, `showing`.
"""
