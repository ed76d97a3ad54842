"""The only SQL of the job table. Each function takes an open connection: the caller says what shares a transaction.

tables         every table, as SQLAlchemy sees it
database       an engine for each process, short transactions, errors that say what to do
leadership     which dispatcher leads
continuity     whether the job table is still the one it was
doubts         what follows where commits were lost: every live job stops
jobs           jobs, their claims and their changes of state
whole_indexes  what the job table knows of an index as a whole
moves          moves and targets: where each source stands, and where it is written to
passes         sources listed and read once more, where writers go on
batches        the lease queue: ready, dispatched, leased, settled
leasing        how a lease is taken, and how those of a dead process end
copies         what listing and copying record
parked         records and batches that wait for a person
checks         verification: check batches, what they found, verdicts
check_results  what the checks of a target found, and which queries to ask
differences    ids that a check found wanting
cleanup        clean-up: its batches, its intents, its counts
deletions      the looks that the deletion of a source rests on
rollback       roll back: its batches, and how far it is
routes         where each twin's readers find it
rollout        the steps of a roll-out
route_table    the routes of all jobs as applications read them
erasures       which tenants were erased, and their certificates
erased_ids     how the ids of an erased tenant leave the accounts
anonymise      how a tenant's names leave every row
ownership      who owns a namespace or an id, as the job table knows it
audit          what people did and what was destroyed, chained
retention      what a job that ended keeps, and what may go
roles          the rights of the fleet's own role
status         a job read in a few bounded queries
dashboards     figures for the page and for monitoring
"""
