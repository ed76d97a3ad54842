"""The laws notice: an index as it should be breaks none of them, and one with a fault in it breaks the right one."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos import laws
from tests.chaos.case import Case
from tests.chaos.laws import Evidence
from tests.chaos.schedule import LAG_MS
from tests.chaos.small_index import make_case
from tests.chaos.strangers import Foreign
from tests.chaos.witness import Contents, Stored


def a_case(wanted: Callable[[Case], object]) -> Case:
    return next(case for seed in range(1, 400) if wanted(case := make_case(seed)) and not case.foreign)


def contents_of(case: Case) -> Contents:
    return {name: {one.id: one.stored() for one in rows} for name, rows in case.sources.items()}


def verified(case: Case) -> Evidence:
    """Everything was copied and nothing deleted; what an application wrote arrived, and who was erased is nowhere."""
    before = contents_of(case)
    truth = {name: dict(rows) for name, rows in before.items()}
    for write in case.writes:
        if write.made is None:
            del truth[write.namespace][write.id]
        else:
            truth[write.namespace][write.id] = write.made.stored()
    for name, rows in truth.items():
        truth[name] = {id: one for id, one in rows.items() if not case.is_erased(name, id)}
    after = {name: dict(rows) for name, rows in truth.items()}
    for name, rows in truth.items():
        for one in rows.values():
            fate = case.fate(name, one)
            if fate is not None:
                after.setdefault(fate[0], {}).setdefault(fate[1].id, fate[1])
    versions = [(one.namespace, one.made.stored()) for one in case.writes if one.made is not None]
    return Evidence(case, before, truth, after, versions, (), "verified")


def moved(evidence: Evidence) -> tuple[str, str, str, str]:
    """A record that has a twin which is its alone: its namespace and id, and its twin's."""
    candidates = evidence.case.candidates(evidence.truth)
    for name in evidence.case.sources:
        for one in evidence.truth[name].values():
            fate = evidence.case.fate(name, one)
            if fate is not None and len(candidates[fate[0], fate[1].id]) == 1:
                return name, one.id, fate[0], fate[1].id
    raise AssertionError("nothing is moved")


CALL = {"agent": None, "status": 200, "fault": None, "time": 0.0}

CASES: dict[str, Callable[[Case], object]] = {
    "nobody else": lambda case: not case.writes and case.erased is None,
    "delta": lambda case: case.writes and case.policies["writers"] == "delta" and case.erased is None,
    "dual": lambda case: case.writes and case.policies["writers"] == "dual" and case.erased is None,
    "an erasure": lambda case: not case.writes and case.erased is not None,
    "both": lambda case: case.writes and case.erased is not None,
}


@pytest.mark.parametrize("wanted", CASES.values(), ids=CASES)
def test_an_index_as_it_should_be_breaks_no_law(wanted: Callable[[Case], object]) -> None:
    evidence = verified(a_case(wanted))
    assert laws.broken(evidence) == []
    back = replace(evidence, after=evidence.truth, state="rolled_back")
    assert laws.broken(back) == []
    assert list(laws.not_as_it_was(evidence.truth, evidence.truth)) == []


def test_a_record_that_is_nowhere_is_missed() -> None:
    evidence = verified(a_case(CASES["nobody else"]))
    name, id, target, twin = moved(evidence)
    del evidence.after[name][id], evidence.after[target][twin]
    assert [sentence[:54] for sentence in laws.broken(evidence)] == [
        "1 records are neither in their source nor in their tar",
        "verified, and 1 records are not at their targets: ['" + name[:2],
    ]


@pytest.mark.parametrize("writers", ["delta", "dual"])
def test_a_target_that_holds_what_was_there_before_an_application_wrote_is_noticed(writers: str) -> None:
    evidence = verified(a_case(lambda case: CASES[writers](case) and case.policies["collisions"] == "fail"))
    case = evidence.case
    name, stale = next(
        (one.namespace, evidence.before[one.namespace][one.id])
        for one in case.writes
        if one.made is not None
        and one.id in evidence.before[one.namespace].keys() & evidence.truth[one.namespace].keys()
        and case.fate(one.namespace, evidence.before[one.namespace][one.id])
    )
    fate = case.fate(name, stale)
    assert fate is not None
    evidence.after[fate[0]][fate[1].id] = fate[1]
    said = laws.broken(evidence)
    assert any("are not at their targets" in one for one in said) and any("nobody asked for" in one for one in said)


def test_a_record_of_an_erased_tenant_is_noticed_wherever_it_is() -> None:
    evidence = verified(a_case(CASES["an erasure"]))
    case = evidence.case
    name, erased = next(
        (name, one)
        for name, rows in evidence.before.items()
        for one in rows.values()
        if case.is_erased(name, one.id) and case.fate(name, one)
    )
    fate = case.fate(name, erased)
    assert fate is not None
    for namespace, record in ((name, erased), (fate[0], fate[1])):
        planted = {**evidence.after, namespace: {**evidence.after.get(namespace, {}), record.id: record}}
        assert any("nobody asked for" in one for one in laws.broken(replace(evidence, after=planted)))


def test_a_deletion_before_its_twin_was_read_is_noticed_and_an_applications_own_is_not() -> None:
    evidence = verified(a_case(CASES["delta"]))
    name, id, target, twin = moved(evidence)
    call = {"namespace": name, "operation": "delete", "ids": [id], "applied": True, "transport": "grpc", **CALL}
    read = {"namespace": target, "operation": "fetch", "ids": [twin], "applied": True, "transport": "grpc", **CALL}
    assert len(laws.broken(replace(evidence, calls=[call]))) == 1
    assert laws.broken(replace(evidence, calls=[read, call])) == []
    assert laws.broken(replace(evidence, calls=[call | {"agent": "an application"}])) == []


def test_a_way_back_that_leaves_a_record_behind_is_noticed() -> None:
    evidence = verified(a_case(CASES["nobody else"]))
    name, id, _, _ = moved(evidence)
    short = {**evidence.truth, name: {one: rows for one, rows in evidence.truth[name].items() if one != id}}
    assert len(list(laws.not_as_it_was(evidence.truth, short))) == 1
    # But what the service lost cannot come back
    lost = frozenset({(name, id)})
    assert list(laws.not_as_it_was(evidence.truth, short, lost=lost)) == []
    other = {**evidence.truth, name: {**evidence.truth[name], id: replace(evidence.truth[name][id], metadata={})}}
    assert len(list(laws.not_as_it_was(evidence.truth, other, lost=lost))) == 1


def call(operation: str, namespace: str, at: float, *ids: str, status: int = 200, **other: object) -> dict[str, object]:
    """One of the fleet's, carried out."""
    asked = {"operation": operation, "namespace": namespace, "time": at, "ids": list(ids), "status": status}
    return {**asked, "applied": True, "transport": "grpc", "agent": None, "fault": None, **other}


@pytest.mark.parametrize("status", [0, 503, 429])
@pytest.mark.parametrize("operation", ["delete", "delete_namespace"])
def test_a_deletion_that_is_repeated_without_a_look_is_noticed(operation: str, status: int) -> None:
    evidence = verified(a_case(CASES["nobody else"]))
    failed, again = call(operation, "elsewhere", 1, "a", "b", status=status), call(operation, "elsewhere", 3, "b")
    (said,) = laws.broken(replace(evidence, calls=[failed, again]))
    assert said.startswith(f"{operation} in elsewhere was repeated without a look after {status or 'silence'}: ")
    assert said.endswith(f"{operation} of 2 2.000 s before: {status}, {operation} of 1 0.000 s before: 200")
    # But not where it was looked at in between, or other ids were meant, or the first one was answered
    look = call("list", "elsewhere", 2)
    assert laws.broken(replace(evidence, calls=[failed, look, again])) == []
    assert laws.broken(replace(evidence, calls=[{**failed, "status": 404}, again])) == []
    if operation == "delete":
        assert laws.broken(replace(evidence, calls=[failed, call(operation, "elsewhere", 3, "c")])) == []
    # And what lands late was asked for once
    assert laws.broken(replace(evidence, calls=[failed, {**again, "fault": "landed late"}])) == []


@pytest.mark.parametrize(("operation", "ids"), [("delete", "x"), ("delete_namespace", ""), ("upsert", "x")])
def test_a_strangers_record_that_was_seen_and_then_taken_is_noticed(operation: str, ids: str) -> None:
    evidence = verified(a_case(CASES["nobody else"]))
    foreign = Foreign("elsewhere", Stored("x", b"", None, {"note": "mine"}), at=10.0)
    took = call(operation, "elsewhere", 20, *ids)
    seen, too_early = call("list", "elsewhere", 15), call("list", "elsewhere", 10 + LAG_MS / 2_000)
    wronged = replace(evidence, strangers=[foreign], calls=[seen, took])
    assert [one for one in laws.broken(wronged) if "somebody else's" in one] == [
        f"{operation} in elsewhere took 'x' of somebody else's, which had been seen"
    ]
    # But not where no read showed it yet, nor where nobody knows whether it was ever there, nor where it still is
    assert laws.broken(replace(wronged, calls=[too_early, took])) == []
    assert laws.broken(replace(wronged, strangers=[replace(foreign, at=None)])) == []
    there = {**evidence.after, "elsewhere": {"x": foreign.stored}}
    assert laws.broken(replace(wronged, after=there)) == []


def test_an_erasure_takes_a_tenants_own_namespace_with_whatever_others_wrote_there() -> None:
    def has_a_namespace_of_its_own(case: Case) -> bool:
        return case.erased is not None and any(map(case.is_erased_whole, case.sources))

    evidence = verified(a_case(has_a_namespace_of_its_own))
    own = next(name for name in evidence.case.sources if evidence.case.is_erased_whole(name))
    foreign = Foreign(own, Stored("x", b"", None, {"note": "mine"}), at=10.0)
    calls = [call("list", own, 15), call("delete_namespace", own, 20)]
    told = laws.broken(replace(evidence, strangers=[foreign], calls=calls))
    assert [sentence for sentence in told if "somebody else's" in sentence] == []


def test_a_last_word_that_is_nowhere_is_missed_and_one_of_which_nobody_knows_is_not() -> None:
    case = a_case(lambda case: case.early and not case.writes and case.erased is None)
    evidence = verified(case)
    write = next(one for one in case.early if one.made is not None and case.fate(one.namespace, one.made.stored()))
    assert write.made is not None
    # Given what an application wrote just before the job, which the job did not see
    rows = {**evidence.truth[write.namespace], write.id: write.made.stored()}
    truth = {**evidence.truth, write.namespace: rows}
    said = laws.broken(replace(evidence, truth=truth))
    assert any("neither in their source nor" in one for one in said)
    # When it was not acknowledged, then nobody promised anything
    doubtful = frozenset({(write.namespace, write.id)})
    unknown = replace(evidence, truth=truth, doubtful=doubtful)
    assert not any("neither" in one or "not at their targets" in one for one in laws.broken(unknown))


def test_what_is_elsewhere_after_forth_again_is_noticed() -> None:
    contents = verified(a_case(CASES["nobody else"])).after
    assert list(laws.not_there_again(contents, contents)) == []
    name = next(name for name, rows in contents.items() if rows)
    assert len(list(laws.not_there_again(contents, {**contents, name: {}}))) == 1
