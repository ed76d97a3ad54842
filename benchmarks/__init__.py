"""The measured claims, one command each. `python -m benchmarks` runs them all, `make bench` its quick form.

Reading order: `__main__` (the parts), `runner` (how they are run, shown and kept), `figures` and `reach` (what a figure
is, and what it should be), `fleet` (real processes, driven as an operator would), `data`, and then any part.
"""
