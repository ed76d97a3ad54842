"""Plans: which namespace becomes which. Each recipe looks at a source and makes a plan, which a person reviews.

Reading order: `plan` is the reviewed file. `routing`, `renaming`, `mapping` and `enriching` are the pure functions that
carry it out; `mapreading` reads a metadata map from options and files, and `window` is the hours in which a job works.
`embedding` is the text that a plan embeds, by which model; `texts` reads it where the records do not hold it,
`sealing` encrypts what is kept of it, and `questions` are those that judge its vectors.
Planning starts in `recipes` (`namespaces`, `between`, `documents` and `reembedding` have their own starts); `creators`
and `index` decide, `checks`, `convertible`, `importable` and `embedding_checks` object, `estimating` and
`embedding_cost` add up the cost.
They rest on `survey` (the content of the indexes) and `ownership` (the owners, from a file, Supabase or Postgres).
`rechecking` asks whether a plan still fits when it is applied. `analysis`, `auditing`, `previewing` and `exporting`
look before anything moves. `comparing` compares two `places`.
`certifying/` asks a real account whether the service is what all of this takes it for.
`schema/` beside them holds the Alembic revisions of the job table.
"""
