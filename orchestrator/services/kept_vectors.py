"""Keeps the vectors of texts within EMBEDDING_CACHE_BYTES, beside the dispatcher's work."""

import time

import structlog

from orchestrator.bootstrap import Fleet
from orchestrator.ledger import embeddings
from orchestrator.ledger.database import Database
from orchestrator.services.background import Step

# To add up what is kept, Postgres reads a row for each vector.
_EVERY_S = 300.0

log = structlog.get_logger("vecfleet.kept_vectors")


def steps(parts: Fleet) -> dict[str, Step]:
    return {"kept vectors": Trim(parts.database, parts.settings.embedding_cache_bytes).step}


class Trim:
    """Deletes the vectors that were not used for longest. Several processes may do it at once."""

    def __init__(self, database: Database, most_bytes: int) -> None:
        self._database = database
        self._most_bytes = most_bytes
        self._trimmed = float("-inf")

    def step(self) -> bool:
        """Trim if it is time. Never says that there is more to do at once."""
        if time.monotonic() < self._trimmed + _EVERY_S:
            return False
        with self._database.begin() as connection:
            deleted = embeddings.trim(connection, self._most_bytes)
        self._trimmed = time.monotonic()
        if deleted:
            log.info("vectors of texts were deleted: more were kept than EMBEDDING_CACHE_BYTES", vectors=deleted)
        return False
