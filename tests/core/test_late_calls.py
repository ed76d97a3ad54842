"""Sentences about late calls stay in a job's reason, once each, until they are settled."""

import pytest

from orchestrator.core.late_calls import deleted_late, kept, settled, told_in, written_late

WRITTEN = written_late(7, 1, ["b; c", "a"], 2)
DELETED = deleted_late(8, 1, "s", None)


def test_a_sentence_says_what_may_be_where_and_what_to_do() -> None:
    assert WRITTEN == (
        "a worker that had lost its lease may have written older records of batch 7 of job 1 to a, b; c late: compare "
        "them with the application's records, then `vecfleet verify 2`"
    )
    assert DELETED.endswith("(batch 8 of job 1): compare them with the application's records")


@pytest.mark.parametrize("reason", [None, "ana asked for a pass", f"{WRITTEN}; and more", f"paused; {DELETED}"])
def test_a_new_reason_keeps_what_it_lacks(reason: str | None) -> None:
    new = kept(reason, f"before; {WRITTEN}; {DELETED}") or ""
    assert new.startswith(reason or WRITTEN)
    assert sorted(told_in(new)) == sorted([WRITTEN, DELETED])


@pytest.mark.parametrize("reason", [None, "", "copied"])
def test_a_reason_without_them_is_what_it_was(reason: str | None) -> None:
    assert kept(reason, "before") == (reason or None) and settled(reason) == (reason or None)


def test_what_is_settled_is_gone_and_the_rest_stays() -> None:
    assert settled(f"paused; {WRITTEN}; {DELETED}") == "paused"
    assert settled(f"{WRITTEN}; held") == "held"
    assert settled(WRITTEN) is None
