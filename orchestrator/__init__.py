"""The orchestrator decides and remembers: plans become jobs, jobs become moves, moves become batches.

core             decisions and values, pure
ledger           the only SQL of the job table
services         one file for each use case
cli              the command line
web              the operator's page, the tenants' API, the metrics
telemetry        logs, reports of errors, traces and counts
embedded         Postgres, Redis and the fleet's processes on one machine
bootstrap        makes the parts of a fleet from the settings
dispatcher       the small process that keeps the fleet busy
queue            the Celery app: wake-ups and nothing more
rabbitmq         its client, which waits for no alarm to end
schema           the revisions of the job table
pace_view        the pace of the fleet, read from Redis
doctor           checks whether everything is there that a fleet needs
flower_settings  the options of Flower: views, address, password

Imports point down: core ← ledger ← services ← dispatcher, cli and web.
"""
