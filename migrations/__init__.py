"""What becomes what. One recipe a module: it looks at a source and makes a plan, which a person reviews.

`plan` is the reviewed file, `routing` and `enriching` are the pure functions that a plan means, `ownership` answers
whose a namespace or record is, `estimating` says what a plan costs. `schema/` beside them holds the Alembic revisions
of the job table.
"""
