"""`plan documents --via convert` and its `apply`, as a person types them."""

from terminal import Brain, Vecfleet

PLAN = ("plan", "documents", "brain", "mind", "--via", "convert", "--out", "mind.yaml")
APPLY = ("apply", "mind.yaml", "--no-backup")


def test_an_index_is_converted_as_it_is_typed(vecfleet: Vecfleet, brain: Brain) -> None:
    # Given an index of vectors, and a plan for the service to convert it
    planned = vecfleet(*PLAN)
    assert planned.code == 0, planned.err
    assert "two ways lead there, and both are proven" in planned.out
    # When it is applied, then the service makes the index, and a job begins
    applied = vecfleet(*APPLY)
    assert applied.code == 0, applied.err
    assert "the service converts brain into mind" in applied.out and "job 1 is planned: 4 records" in applied.out
    made = brain.store.open(brain.store.describe("mind"))
    assert set(made.fetch("first", ["a-1", "a-2"]).records) == {"a-1", "a-2"}
