"""The command line, a skin over `services`, `applying`, `reports` and the recipes: it asks, shows and explains.

`app` lists the commands and is the one place where an error becomes a sentence and an exit code. The commands are in
`looking` (read only), `planning`, `steering` (what changes a job), `running` (processes) and `demo`; `output`,
`rendering` and `watching` say how things look.
"""
