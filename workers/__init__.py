"""Worker processes: thin Celery tasks, and one module a step, at the fleet's common pace. In reading order:

celery             the app, where `celery -A workers` looks for it
tasks              the Celery tasks: a name, a batch id, its generation
starting           what a process needs before it begins, or says what is missing
steering           commands to a running worker: `celery control` and `inspect`
consuming          how a worker takes wake-ups from the broker
threads            the pool of threads, which can grow
showing            events that show each batch in Flower
signalling         Celery's signals of each batch
outcomes           the outcome of a batch: a state of Celery's and a sentence
process            connections, open indexes and leases of one worker process
leases             leases as their holder sees them: a heartbeat renews them
runner             the life of a batch: lease, work, settle; every error of a batch becomes a decision
work               everything a step may use
once               a property computed once, by the thread that uses the object
calls              calls for one lease: paced, inside a deadline, retried a few times
lane               calls to one index, and what they cost
embedding          texts turned into vectors: each asked for once in the fleet
pace               one allowance a limit, shared by all workers through Redis
listing            a source listed: pages of ids become copy batches
copying            a batch copied: place, choose, write, withdraw
unchanged          sources and batches that a later pass need not read
placing            the target and the form of a record
vectors            records placed with the vectors of their texts
choosing           the records of a group that are written
foreign            records that others wrote into a target being filled
repairing          a batch copied again in part
withdrawing        records that the source no longer has, removed from the targets
target_namespaces  a target namespace before its first record
old_names          the alias that a deleted namespace may leave
caps               how many records may go without a person
checking           a target read back
surveying          a target listed
querying           both sides asked the same questions
questions          what each side is asked with
cleaning           a source deleted, each record proven first
undoing            the job's own records, removed again
doubting           closer checks after lost commits
erasure_check      erased tenants: nothing of them is written
"""
