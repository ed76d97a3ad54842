"""`forget` and `readmit` as a person types them."""

import json
from pathlib import Path

import pytest
from terminal import Brain, Vecfleet

from orchestrator.ledger import erasures
from orchestrator.ledger.database import Database
from vecfleet.names import Tenant
from vecfleet.tenancy.fences import FENCED, subject_of


@pytest.fixture
def tenants(brain: Brain) -> Brain:
    brain.write("creator_ana_twin_coach", "a-1", "a-2", creator_id="ana")
    brain.write("__default__", "hers", creator_id="ana")
    brain.write("__default__", "his", creator_id="bob")
    return brain


def test_forget_asks_for_the_name_and_without_anybody_to_type_it_changes_nothing(
    vecfleet: Vecfleet, tenants: Brain
) -> None:
    tenants.forget_calls()

    answer = vecfleet("forget", "--creator", "ana", "--index", "brain")

    assert answer.code == 3 and "nobody is at the terminal" in answer.err and "--yes" in answer.err.splitlines()[-1]
    assert tenants.writes() == set()


def test_forget_erases_certifies_and_says_where_the_certificate_is(
    vecfleet: Vecfleet, tenants: Brain, environment: dict[str, str]
) -> None:
    answer = vecfleet("forget", "--creator", "ana", "--index", "brain", "--export", "portable", "--yes", "--json")

    assert answer.code == 0, answer.err
    assert answer.json["confirmed"] and answer.json["records"] == 3 and answer.json["exported"] == 3
    assert answer.json["fence"] == FENCED
    (page,) = answer.json["next_steps"]
    kept = Path(page).with_suffix(".json")
    assert json.loads(kept.read_text())["subject"] == subject_of(Tenant("ana"))
    assert b"ana" not in kept.read_bytes()
    # And again: what is gone is no error, and in words it reads so
    again = vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes")
    assert again.code == 0 and "0 records erased" not in answer.out
    assert "confirmed by listing, fetching and querying" in again.out


def test_a_twin_that_came_back_is_readmitted(vecfleet: Vecfleet, tenants: Brain, database: Database) -> None:
    assert vecfleet("readmit", "--creator", "ana").code == 2
    vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes")
    with database.begin() as connection:
        assert erasures.fenced(connection, [subject_of(Tenant("ana"))])

    assert vecfleet("readmit", "--creator", "ana").code == 0

    with database.begin() as connection:
        assert not erasures.fenced(connection, [subject_of(Tenant("ana"))])
