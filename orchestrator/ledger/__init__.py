"""The only SQL of the job table. Each function takes an open connection: the caller says what shares a transaction.

tables         every table, as SQLAlchemy sees it
transitions    every change of a state, and the triggers that refuse what has no edge
database       an engine for each process, short transactions, errors that say what to do
leadership     the dispatcher that leads
continuity     the identity of the job table: its server and its count of looks
doubts         lost commits put every live job in doubt: it stops
jobs           jobs, their claims and their changes of state
sides          the two sides of a job, as columns of its row
whole_indexes  the jobs on an index as a whole
index_acts     acts on an index outside of any job: a wipe, a filling by the service
moves          moves and targets: the state of each source, and its targets
passes         further passes: sources listed and read again while writers go on
batches        the lease queue: ready, dispatched, leased, settled
leasing        takes leases, and shortens those of a dead process
listings       the records of listing
copies         the records of copying
parked         records and batches that wait for a person
checks         verification: check batches, their results, verdicts
check_results  the evidence of a target's checks, and the queries to ask
differences    ids that a check found missing, extra or different
cleanup        clean-up: its batches, its intents, its counts
deletions      the evidence for a source's deletion: looks and their times
rollback       rollback: its batches and its progress
late_calls     what a call concerns that came after its lease had ended
routes         the place where readers find each twin
rollout        the steps of a roll-out
route_table    the routes of all jobs as applications read them
clients        the clients that ask for the routes, and when each did last
embeddings     vectors of texts: reserved, kept, forgotten, and what they cost
erasures       erased tenants and their certificates
erased_ids     removes the ids of an erased tenant from the accounts
anonymise      removes a tenant's names from every row
ownership      owners of namespaces and ids, as the job table knows them
audit          the acts of people and every deletion, chained
hooks          the questions to hooks, and their answers
consents       consents to acts that need two persons
notices        the queue of notices of changes of state
request_keys   keys of requests over HTTP, each kept with its act
retention      the rows of an ended job: which stay and which may go
roles          the rights of the fleet's own role
status         a job read in a few bounded queries
dashboards     figures for the page and for monitoring
"""
