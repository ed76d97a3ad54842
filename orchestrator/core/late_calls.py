"""Sentences about calls of a worker that had lost its lease. A job's reason keeps them until they are settled.

Each change of state gives a job a new reason. A person must see these sentences all the same, because nobody else can
tell a late write from an application's. A verification or a rollback that a person asks for settles them.
"""

import re
from collections.abc import Collection

_WHO = "a worker that had lost its lease may have "
_DO = ": compare them with the application's records"
_SENTENCE = re.compile(f"{re.escape(_WHO)}.*?{re.escape(_DO)}(?:, then `vecfleet verify [0-9]+`)?")


def written_late(batch_id: int, job_id: int, namespaces: Collection[str], told: int | None) -> str:
    """Return the sentence about a late write. `told`: the live job whose reason it becomes, which can be verified."""
    where = ", ".join(sorted(namespaces))
    return f"{_WHO}written older records of batch {batch_id} of job {job_id} to {where} late{_DO}{_then(told)}"


def deleted_late(batch_id: int, job_id: int, namespace: str, told: int | None) -> str:
    """Return the sentence about a late deletion."""
    return f"{_WHO}deleted records of {namespace} late (batch {batch_id} of job {job_id}){_DO}{_then(told)}"


def _then(told: int | None) -> str:
    return "" if told is None else f", then `vecfleet verify {told}`"


def told_in(reason: str | None) -> list[str]:
    """Return the sentences of this kind in a job's reason."""
    return _SENTENCE.findall(reason or "")


def kept(reason: str | None, before: str | None) -> str | None:
    """Return a job's new reason with the sentences of the one before that it lacks."""
    lacking = [sentence for sentence in told_in(before) if sentence not in (reason or "")]
    return "; ".join([reason, *lacking] if reason else lacking) or None


def settled(reason: str | None) -> str | None:
    """Return the reason without these sentences."""
    for sentence in told_in(reason):
        reason = (reason or "").replace(f"; {sentence}", "").replace(sentence, "")
    return (reason or "").removeprefix("; ") or None
