"""Questions about a conversion: what the service makes of records for which a document index has no place.

The service converts a snapshot, which may lack what was written shortly before: nothing is concluded from a record that
is missing unless the conversion has counted every record, as converted or as skipped.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from migrations.certifying.question import EMBEDDING, Asker, NotShown, Question, Scratch, vector
from vecfleet.errors import StoreError
from vecfleet.patience import patiently
from vecfleet.stores.base import Conversion
from vecfleet.stores.pinecone.store import PineconeStore

SNAPSHOT_MISSES_S = 900.0
PATIENCE_S = 1_800.0

_NAMESPACE = "converted"
_PLAIN, _NAMED, _SPARSE = "plain", "named", "sparse"
_RECORDS: tuple[Mapping[str, Any], ...] = (
    vector(_PLAIN, kept="x"),
    vector(_NAMED, kept="x", _node_content="{}"),
    vector(_SPARSE, kept="x") | {"sparseValues": {"indices": [7], "values": [0.5]}},
)
UNPRICED = f"a conversion of {len(_RECORDS)} records"
_AGAIN = "run the command again: each run has indexes of its own"
NOT_ASKED = "asked with --convert alone: what the service takes for a conversion is in no price table"


def fill(source: Asker) -> None:
    """Write the records that are to be converted, and wait until a snapshot has them. Raises NotShown, StoreError."""
    reply = source.written(_NAMESPACE, *_RECORDS)
    if not reply.ok:
        raise StoreError(f"the upsert of the records to be converted was {reply.verdict}", next_step=_AGAIN)
    time.sleep(SNAPSHOT_MISSES_S)


def finish(store: PineconeStore, begun: Conversion) -> None:
    """Wait until the conversion is complete. Raises StoreError if it failed, goes on, or has not seen each record."""
    until = time.monotonic() + PATIENCE_S

    def look(conversion: Conversion) -> None:
        if time.monotonic() >= until:
            raise StoreError(
                f"the conversion into {conversion.target!r} has not ended within {PATIENCE_S / 60:.0f} minutes: "
                f"{conversion.so_far}",
                next_step=_AGAIN,
            )

    ended = patiently(lambda: store.conversions().finish(begun, look))
    if ended.records + ended.skipped != len(_RECORDS):
        raise StoreError(
            f"the conversion counts {ended.records} records as converted and {ended.skipped} as skipped, of "
            f"{len(_RECORDS)}: its snapshot may be older than they are",
            next_step=_AGAIN,
        )


def _came_over(id: str) -> Callable[[Asker], str]:
    """Return the question what came over of a record."""

    def ask(asker: Asker) -> str:
        def documents() -> Mapping[str, Any]:
            body = asker.wire.documents("fetch", _NAMESPACE, {"ids": [_PLAIN, id]}).body
            found: Mapping[str, Any] = body.get("documents") or {}
            return found

        asker.eventually(lambda: documents().keys() >= {_PLAIN, id})
        found = documents()
        if _PLAIN not in found:
            raise NotShown
        if id not in found:
            return "the record is left out"
        return f"the record is there, with the keys {sorted(found[id].keys() - {'_id', EMBEDDING})}"

    return ask


QUESTIONS = (
    Question(
        "converted-names",
        "What does a conversion make of a record with a metadata key that begins with an underscore?",
        "the record is left out",
        "`--via convert` leaves such a record to the job, which gives the key another name",
        Scratch.CONVERTED,
        _came_over(_NAMED),
        "converted-names",
    ),
    Question(
        "converted-sparse",
        "What does a conversion make of a record with sparse values that the schema has no field for?",
        "the record is left out",
        "`--via convert` copies what is left out, and proves each record afterwards",
        Scratch.CONVERTED,
        _came_over(_SPARSE),
        "converted-sparse",
    ),
)
