"""One file a use case: each locks the job, asks the guards, changes the job table and writes the audit row.

acts          what a person asks of a job: pause, verify, cut over, clean up, roll back
guard_facts   the facts that the guards decide on, read from the job table
apply         a reviewed plan becomes a job
cut_over      readers move, and the aliases that lead to them
counts        what the service itself counts in each target
exports       whether an export holds what its index holds
report        what a job moved, proved and cost
late_writes   what follows a write that came after its lease
lost_commits  how dispatchers notice that the job table lost commits
erase         a tenant erased: the books, the files, the certificate
erase_guards  what is checked before the fleet forgets a tenant
erase_redis   what Redis keeps of a tenant, deleted
purge         let go of what ended jobs needed
"""
