"""The orchestrator decides and remembers: plans become jobs, jobs become moves, moves become batches.

core             decisions and values, pure
ledger           the only SQL of the job table
services         one file a use case
cli              the command line
web              the operator's page, the tenants' API, the metrics
embedded         Postgres, Redis and the fleet's processes on one machine
bootstrap        settings in, the parts of a fleet out
dispatcher       the small process that keeps the fleet busy
queue            the Celery app: wake-ups and nothing more
schema           the revisions of the job table
counters         what the processes of a fleet count together, in Redis
pace_view        the pace of the fleet, read from Redis
doctor           is everything there that a fleet needs?
logs             events on stderr, for people or as JSON
flower_settings  what Flower shows, and to whom

Imports point down: core ← ledger ← services ← dispatcher, cli and web.
"""
