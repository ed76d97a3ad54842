"""Plans: which namespace becomes which. One recipe a module looks at a source and makes a plan, which a person reviews.

Reading order: `plan` is the reviewed file; `routing`, `renaming`, `mapping` and `enriching` are the pure functions that
it means, `mapreading` reads a map as it was asked for, and `window` is the hours in which a job works;
`recipes` is the door to planning (`namespaces`, `between`: doors of their own), `creators` and `index` decide, `checks`
objects, `estimating` says what it costs.
They stand on `survey` (what is there) and `ownership` (whose it is: from a file, Supabase or Postgres). `rechecking`
asks whether a plan still fits when it is applied; `analysis`, `auditing`, `previewing` and `exporting` look before
anything moves. `comparing` compares two `places`.
`schema/` beside them holds the Alembic revisions of the job table.
"""
