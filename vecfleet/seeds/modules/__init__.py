"""The modules of the seeds' application: `embeddings_delphi`, `tenant_guard` (needs the extra `api`), `feature_flags`,
`embeddings_v2` and `pinecone_monitoring` (needs the extra `api`).
"""
