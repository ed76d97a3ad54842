"""Decisions and values, without SQL, I/O or a clock of their own. In reading order:

states      every state and every edge of a job, a move, a batch, with who causes it
model       values read from the job table: job, move, target, lease
freshness   how long a look must wait before a deletion may rest on it
deciding    what a job does next
retrying    what follows a failure: retry, split, park or pause
guards      what stands against an irreversible step: caps, proofs, routes
clean_up_guards  what stands against deleting a job's sources: soak, accounts, verdicts
confirming  how a person confirms what went missing
budget      what a job may spend
verdicts    what the evidence of a check means
agreement   whether both sides answer the same queries alike
quality     whether a new model answers as well as the plan asks
manifests   the packed ids of a batch; members as bits; short digests
windows     when a job's batches may begin
redaction   a tenant's name in texts: match whole words and replace them
reading     a job as people see it at one moment
following   who follows a job's routes
waiting     why a job does not go on, and whether it rests until a person acts
progress    how far a job is, how fast it goes
next_steps  what a person can type next
late_calls  sentences about calls that came after their lease had ended, which reasons keep
hooks       hooks that may hold a job: their names and the sentences about them
two_persons  acts that two persons have to ask for, and who counts as one
notices     changes of state as others are told of them: body, signature, shapes
wording     sentences that several places share
"""
