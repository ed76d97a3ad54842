"""The command line, a skin over the services and the recipes: it asks, shows and explains.

app            from the words typed to the exit code; an error becomes a sentence here
commands       which commands there are, and the module of each
session        the parts of a fleet for one command, and the person who typed it
options        options that several commands share
examples       lines to type at the end of each help
output         text with a `next:` line, or one JSON document
rendering      plans, audits and reports as text
watching       `--watch`
freshness      waits for fresh reads, with a line for the person who waits
demo           `demo`
running        `up`, `down`, `dispatcher`, `migrate`
processes      `worker`, `flower`, `emulator`
serving        `serve`, `token`
auditing       `audit`, `analyze`
planning       `plan creators`, `plan index`, `apply`
between        `plan stores`, `plan tables`
exports        `plan export`, `plan import`
reversing      `plan reverse`
backups        `backup`
jobs           `jobs`, `status`
looking        `doctor`, `show`, `show-evidence`, `report`
steering       every command that changes a job
pacing         `pace`
erasing        `forget`, `readmit`, `rehearse`
whole_indexes  `wipe`, `decommission`
purging        `purge`
audit_log      `audit-log`
pg             `pg`: namespaces in Postgres
pg_documents   `pg process`, `pg search`
pg_moving      `pg check`, `pg legacy`, `pg copy`, `pg move`
"""
