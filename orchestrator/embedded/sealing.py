"""The key that seals our own job table's audit trail: in a file beside the database, never in it."""

import secrets
from pathlib import Path

from orchestrator.ledger import audit
from orchestrator.ledger.audit import Seals
from orchestrator.ledger.database import Database
from vecfleet.private import write_private

AUDIT_KEY = "audit.key"


def audit_key(state_dir: Path, url: str) -> str:
    """Return the key, made once. Making it locks the rows that were sealed without a key.

    After a crash, the next start uses the same key.
    """
    place = state_dir / AUDIT_KEY
    unfinished = place.with_suffix(".unfinished")
    if not place.exists():
        if not unfinished.exists():
            write_private(unfinished, secrets.token_hex(32))
        database = Database(url, pool_size=1)
        try:
            with database.begin() as connection:
                audit.lock(connection, Seals(unfinished.read_text()), "vecfleet up")
        finally:
            database.dispose()
        unfinished.rename(place)
    return place.read_text()
