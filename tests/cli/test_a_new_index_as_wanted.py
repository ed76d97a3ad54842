"""A target that a plan creates is as it was asked for, and what the service would refuse is refused when planning."""

from pathlib import Path

import pytest
from terminal import Brain, Vecfleet

from migrations.plan import read_plan

INTO = ("plan", "index", "brain", "mind", "--out", "mind.yaml")


@pytest.fixture(autouse=True)
def filled(brain: Brain) -> None:
    brain.write("prod", "p-1", "p-2")


def test_tags_protection_read_capacity_and_place_are_carried_by_the_plan_to_the_index(
    vecfleet: Vecfleet, brain: Brain
) -> None:
    # Given a plan that asks for all of it
    wanted = (
        *("--tag", "env=prod", "--tag", "cost center=a b", "--deletion-protection", "--read-capacity", "t1:2x3"),
        *("--cloud", "gcp", "--region", "europe-west4"),
    )
    refused = vecfleet(*INTO, *wanted)
    assert refused.code == 2 and "'cost center' cannot be a tag" in refused.err
    planned = vecfleet(*INTO, *(word.replace("cost center", "cost-center") for word in wanted))
    assert planned.code == 0, planned.err
    assert (
        "created in gcp europe-west4 if it is absent: tags cost-center=a b, env=prod; deletion protection; "
        "2 shards × 3 replicas of t1 nodes for its reads\n" in planned.out
    )
    assert "6 t1 nodes by the hour" in planned.out

    # When it is applied
    applied = vecfleet("apply", "mind.yaml", "--no-backup")
    assert applied.code == 0, applied.err

    # Then the service has made the index so
    made = brain.store.describe("mind")
    assert (made.cloud, made.region, made.deletion_protection) == ("gcp", "europe-west4", True)
    assert made.tags == {"env": "prod", "cost-center": "a b"}
    assert made.read_capacity is not None
    assert (made.read_capacity.type, made.read_capacity.shards, made.read_capacity.replicas) == ("t1", 2, 3)


def test_the_sources_tags_are_kept_unless_taken_away_and_its_protection_is_not_asked_for(
    vecfleet: Vecfleet, brain: Brain, tmp_path: Path
) -> None:
    assert vecfleet("plan", "index", "brain", "first", "--tag", "a=1", "--tag", "b=2", "--out", "1.yaml").code == 0
    assert vecfleet("apply", "1.yaml", "--no-backup").code == 0
    brain.write("prod", "p-1", index="first")
    planned = vecfleet("plan", "index", "first", "second", "--tag", "a=", "--tag", "c=3", "--out", "2.yaml")
    assert planned.code == 0, planned.err
    new = read_plan(tmp_path / "2.yaml").create_target
    assert new is not None and new.tags == {"b": "2", "c": "3"} and not new.deletion_protection


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--cloud", "awz"), "Pinecone has no cloud 'awz'; there are: aws, azure, gcp"),
        (("--region", "us-east-9"), "Pinecone has no region 'us-east-9' on aws; there are: us-east-1"),
        (("--cloud", "gcp"), "Pinecone has no region 'us-east-1' on gcp; there are: us-central1, europe-west4"),
        (("--tag", "env"), "--tag 'env' is not KEY=VALUE"),
        (("--tag", "a=1", "--tag", "a=2"), "--tag 'a=2' is given twice"),
        (("--tag", "a=ü"), "the tag 'a' cannot be 'ü'"),
        (("--tag", f"a={'x' * 121}"), "up to 120 printable ASCII"),
        (tuple(word for n in range(21) for word in ("--tag", f"k{n}=v")), "would have 21 tags"),
        (("--read-capacity", "p1:1x1"), "'p1:1x1' is not a read capacity"),
        (("--read-capacity", "b1:0x1"), "'b1:0x1' is not a read capacity"),
    ],
)
def test_what_the_service_does_not_take_is_refused_with_its_remedy(
    vecfleet: Vecfleet, words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    refused = vecfleet(*INTO, *words)
    assert refused.code == 2 and sentence in refused.err and "next: " in refused.err
    assert not (tmp_path / "mind.yaml").exists()


def test_an_index_that_exists_is_not_asked_to_be_otherwise(vecfleet: Vecfleet, brain: Brain) -> None:
    brain.create("mind")
    refused = vecfleet(*INTO, "--tag", "a=1", "--region", "us-west-2")
    assert refused.code == 2 and "--region, --tag would change nothing" in refused.err
    assert vecfleet(*INTO, "--cloud", "aws", "--region", "us-east-1").code == 0
    within = vecfleet("plan", "namespaces", "brain", "prod=prod_v2", "--deletion-protection")
    assert within.code == 2 and "'brain' exists already" in within.err


def test_what_a_month_costs_stands_beside_what_the_job_costs(vecfleet: Vecfleet) -> None:
    # A query of so small a namespace costs a quarter of a read unit, before and after
    planned = vecfleet(*INTO)
    assert "a month: storage $0.00 → $0.00, both until the clean-up · 1,000,000 queries $4.00 → $4.00\n" in planned.out
    assert "3,000,000 queries $12.00 → $12.00\n" in vecfleet(*INTO, "--monthly-queries", "3000000").out
    assert "3,000,000 queries $12.00 → $12.00\n" in vecfleet("show", "mind.yaml").out
