"""The key with which our own job table's audit trail is sealed: in a file beside the database, never in it."""

import secrets
from pathlib import Path

from orchestrator.ledger import audit
from orchestrator.ledger.audit import Seals
from orchestrator.ledger.database import Database
from vecfleet.private import write_private

AUDIT_KEY = "audit.key"


def audit_key(state_dir: Path, url: str) -> str:
    """The key, made once; what was sealed before without a key, it locks.

    Died in the middle: the same key is taken into use at the next start.
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
