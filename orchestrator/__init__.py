"""The orchestrator decides and remembers: plans into jobs, jobs into moves and batches.

Reading order: `states` (every edge, with who causes it), `deciding`, `retrying`, `verdicts`, `guards` and `progress`
(pure functions, the clock passed in), `tables` and `ledger/` (the only SQL of the job table), `services` (what a person
asks for), `dispatcher` (the small process that keeps the fleet busy), `queue` (Celery), `cli/`.
"""
