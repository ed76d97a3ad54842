"""The seeds' own import paths: put `vecfleet.seeds.` where an application of the seeds says `backend.`, or nothing.

`modules` is that of seeds 000, 001 and 003, as the application's own code and tests call it; `dynamic_embeddings` is
that of seed 004. Both are thin: what they do is done by `vecfleet.tenancy` and `vecfleet.pgvector`. Where the seeds
disagree with each other, the names, keywords and returned shapes are those of the application that was built on them.
"""
