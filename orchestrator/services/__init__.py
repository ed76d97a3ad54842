"""Use cases, a file each. To change a job, lock it, ask the guards, and write the audit row with the change.

acts          the acts of a person on a job: pause, verify, cut over, clean up, roll back
left_behind   decides that parked records stay behind, or takes the decision back
readers       keeps readers from losing sight of what applications wrote
refusals      refuses an act that may not be done on a job now
apply         makes a job from a reviewed plan
conversion    has the store make a plan's target of its source
bulk_import   has the store fill a plan's target from files in a bucket
fillings      notes what the service fills before a job begins there, and settles it
cut_over      moves readers and the aliases that lead to them
counts        the service's own count of each target
exports       compares an export with its index
issues        the issues of a job, for its report
report        the records that a job moved and proved, and its cost
late_writes   handles a write that came after its lease had ended
lost_commits  notices that the job table lost commits
erase         erases a tenant: the books, the files, the certificate
erase_guards  the checks before the fleet forgets a tenant
erase_redis   deletes a tenant's traces in Redis
background    steps that a process repeats beside its work
hooks         asks a hook or a second person before an act
hook_calls    runs hooks, in the dispatcher
hooks_file    the file of hooks and of those who are told of changes of state
notices       sends notices of changes of state to those who wait for them
forget        erases a tenant in every index and export that the fleet knows
filtered      deletes a tenant's records that a filter matches
kept_vectors  keeps the vectors of texts within their bound
keyed_acts    does what a program asks for, once for each key
purge         deletes the batches of ended jobs
"""
