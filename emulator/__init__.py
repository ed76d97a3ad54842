"""A Pinecone-compatible server for laptops and tests: API 2024-07 to 2026-07, in memory or a folder, cruel on demand.

It imports nothing of the fleet, so its report on the fleet's work is an independent witness.
"""
