"""The only SQL of the job table. Each function takes an open connection: the caller says what shares a transaction.

`jobs`, `moves`, `batches` (the lease queue), `copies` (what listing and copying record), `checks` (verification),
`removals` (clean-up and roll back), `parked`, `routes`, `audit`, `reads` (what people look at).
"""
