"""Verdicts: a target is verified only on full evidence; whatever is missing from it, it is not."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import TARGET

from orchestrator.core.model import Finding, TargetTally
from orchestrator.core.verdicts import CheckEvidence, judge
from vecfleet.digests import Tally

IDS = ["a", "b", "c"]
DIGEST, IDS_DIGEST = Tally.of_ids(f"{id}'s content" for id in IDS).digest, Tally.of_ids(IDS).digest
PROVEN = CheckEvidence(
    target=TARGET,
    expected=TargetTally(1, 3, DIGEST, IDS_DIGEST, None),
    found_count=3,
    found_digest=DIGEST,
    listed_count=3,
    listed_ids_digest=IDS_DIGEST,
    surveys=1,
    missing=0,
    extra=0,
    different=0,
    samples=(),
)
NOTHING = replace(
    PROVEN,
    expected=TargetTally(1, 0, 0, 0, None),
    found_count=0,
    found_digest=0,
    listed_count=0,
    listed_ids_digest=0,
)


def test_what_was_read_back_equal_and_listed_whole_is_verified() -> None:
    verdict = judge(PROVEN)
    assert (verdict.state, verdict.reason) == ("verified", "3 records read back and equal")
    assert verdict.evidence["verified"] is True


def test_a_verdict_says_what_it_rests_on() -> None:
    evidence = judge(replace(PROVEN, missing=1, samples=(Finding("missing", "b"),))).evidence
    assert evidence["sequence"] == TARGET.check_sequence
    assert (evidence["expected"], evidence["read"], evidence["listed"]) == (3, 3, 3)
    assert evidence["digest"] == f"{DIGEST:032x}"
    assert evidence["samples"] == [{"kind": "missing", "id": "b"}]


SWAPPED = Tally.of_ids(["a", "b", "intruder"]).digest
OTHER_CONTENT = Tally.of_ids(["other content"]).digest


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        pytest.param(
            replace(PROVEN, target=replace(TARGET, sequence=4)), "written to while it was checked", id="a late write"
        ),
        pytest.param(
            replace(PROVEN, target=replace(TARGET, check_sequence=None)), "written to while", id="no sequence noted"
        ),
        pytest.param(replace(PROVEN, surveys=0), "its ids were not listed", id="no survey"),
        pytest.param(replace(PROVEN, listed_count=None), "its ids were not listed", id="a survey without a count"),
        pytest.param(replace(PROVEN, missing=1), "1 missing, 0 extra, 0 different", id="one missing"),
        pytest.param(replace(PROVEN, extra=2), "0 missing, 2 extra, 0 different", id="two extra"),
        pytest.param(replace(PROVEN, different=3), "0 missing, 0 extra, 3 different", id="three different"),
        pytest.param(replace(PROVEN, found_count=2), "do not add up", id="fewer records read back"),
        pytest.param(replace(PROVEN, found_count=4), "do not add up", id="more records read back"),
        pytest.param(
            replace(PROVEN, found_digest=OTHER_CONTENT), "do not add up", id="equal counts, different content"
        ),
        pytest.param(
            replace(PROVEN, listed_ids_digest=SWAPPED), "do not add up", id="an insert and a delete, equal counts"
        ),
        pytest.param(replace(PROVEN, listed_count=4), "do not add up", id="one more id listed"),
        pytest.param(replace(PROVEN, found_count=0, found_digest=0), "do not add up", id="nothing read back"),
        pytest.param(
            replace(NOTHING, listed_count=1, listed_ids_digest=7), "do not add up", id="something where nothing was"
        ),
        pytest.param(replace(NOTHING, found_count=1, found_digest=7, listed_count=1), "do not add up", id="a stray"),
    ],
)
def test_without_full_evidence_nothing_is_verified(evidence: CheckEvidence, reason: str) -> None:
    verdict = judge(evidence)
    assert verdict.state == "mismatched"
    assert reason in verdict.reason
    assert verdict.evidence["verified"] is False


def test_zero_records_prove_nothing() -> None:
    verdict = judge(NOTHING)
    assert (verdict.state, verdict.evidence["verified"]) == ("empty", False)


def test_zero_records_that_were_not_listed_are_not_even_empty() -> None:
    assert judge(replace(NOTHING, surveys=0)).state == "mismatched"
    assert judge(replace(NOTHING, target=replace(TARGET, sequence=4))).state == "mismatched"


_COUNT = st.integers(0, 3)
_DIGEST = st.sampled_from([0, DIGEST, IDS_DIGEST, SWAPPED, 2**128 - 1])


@given(
    st.builds(
        replace,
        st.sampled_from([PROVEN, NOTHING]),
        found_count=_COUNT,
        found_digest=_DIGEST,
        listed_count=st.one_of(st.none(), _COUNT),
        listed_ids_digest=st.one_of(st.none(), _DIGEST),
        surveys=st.integers(0, 1),
        missing=_COUNT,
        extra=_COUNT,
        different=_COUNT,
        target=st.sampled_from([TARGET, replace(TARGET, sequence=4)]),
    )
)
def test_whatever_was_found_verified_means_that_every_figure_agrees(evidence: Any) -> None:
    if judge(evidence).state == "verified":
        assert evidence.expected.count > 0
        assert (evidence.found_count, evidence.found_digest) == (3, DIGEST)
        assert (evidence.listed_count, evidence.listed_ids_digest) == (3, IDS_DIGEST)
        assert not evidence.missing + evidence.extra + evidence.different
        assert evidence.surveys and evidence.target.sequence == evidence.target.check_sequence
