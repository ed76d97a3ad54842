"""The command line, a skin over the services and the recipes: it asks, shows and explains.

app            from the words typed to the exit code; an error becomes a sentence here
commands       which commands there are, and the module of each
signatures     what a command asks for, read out of its source
misuse         sentences about what is no command line: the command that was meant, the value that is not taken
session        the parts of a fleet for one command, the person who typed it, and the waits for fresh reads
options        options that several commands share
hours          options of a maintenance window
mapping        options of a metadata map, and what it makes of ten records
examples       lines to type at the end of each help
output         text with a `next:` line, or one JSON document
rendering      plans, audits and reports as text
watching       `--watch`
demo           `demo`
running        `up`, `down`, `dispatcher`, `migrate`
processes      `worker`, `flower`, `emulator`
serving        `serve`, `token`
looking        `doctor`, `audit`, `analyze`, `show`, `show-evidence`, `report`, `pace`
comparing      `check`
certifying     `certify`
reembedding    `plan reembed`
planning       `plan creators`, `plan index`, `plan reverse`, `apply`
to_documents   `plan documents`
between        `plan export`, `plan import`, `plan stores`, `plan tables`
jobs           `jobs`, `status`
steering       every command that changes a job
parking        `park`
erasing        `forget`, `readmit`, `rehearse`
filtered       `delete`
fillings       `filling`
whole_indexes  `backup`, `wipe`, `decommission`
books          `purge`, `audit-log`
pg             `pg`: namespaces in Postgres
pg_documents   `pg process`, `pg search`
pg_moving      `pg check`, `pg legacy`, `pg copy`, `pg move`
"""
