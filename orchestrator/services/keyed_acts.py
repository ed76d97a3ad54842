"""Do what a program asks for once for each key, and give its first answer again.

The key is kept in the transaction of the act, so a process that dies leaves both or neither. A refusal changes nothing
and keeps no key: the same request may pass later.
"""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.ledger import request_keys
from orchestrator.ledger.database import Database
from orchestrator.ledger.request_keys import KeptAnswer, KeyedRequest
from vecfleet.errors import BadInput, Busy, Refused


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a request; `replayed` if an earlier one did the act."""

    answer: KeptAnswer
    replayed: bool


def once(
    database: Database, request: KeyedRequest, act: Callable[[], object], again: Callable[[], object] | None = None
) -> Answered:
    """Do `act` unless this request was answered before. Raises BadInput for another request under the same key.

    `again` is what `act` does after its transaction, safe to repeat: an earlier attempt may have died before it.
    """
    earlier = _answer(database, request)
    if earlier is None:
        try:
            with request_keys.carried(request):
                act()
        except (Refused, Busy):
            # The same request may have come first, at the same moment: then this one met what that one did.
            earlier = _answer(database, request)
            if earlier is None or earlier.attempt == request.attempt:
                raise
        else:
            return Answered(_answer(database, request) or _unchanged(database, request), replayed=False)
    if again is not None:
        again()
    return Answered(earlier, replayed=True)


def _answer(database: Database, request: KeyedRequest) -> KeptAnswer | None:
    with database.begin() as connection:
        answer = request_keys.answer(connection, request)
    if answer is not None and answer.request != request.request:
        raise BadInput(
            "this key was used for another request: nothing was changed",
            code="key-used",
            next_step="send a new key with each act; the same one only with the same request",
        )
    return answer


def _unchanged(database: Database, request: KeyedRequest) -> KeptAnswer:
    """Keep the key of a request that had nothing to change. Dies before it: asked again, it is looked at anew."""
    with database.begin() as connection, request_keys.carried(request):
        request_keys.keep(connection, None)
        answer = request_keys.answer(connection, request)
    assert answer is not None, "it was kept in this transaction"
    return answer
