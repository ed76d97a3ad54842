"""Fillings of which nobody can know whether they are over: what blocks a certificate, and how a person ends that."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from terminal import Brain, Vecfleet

from emulator.server import start
from orchestrator.ledger import index_acts
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import PineconeStore

KEY, MIND = "the-key-of-eu", "pinecone@eu:mind"
FORGET = ("forget", "--creator", "ana", "--yes", "--json")


@pytest.fixture
def accounts(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of named accounts, which names none yet."""
    path = tmp_path / "accounts.toml"
    path.touch(mode=0o600)
    monkeypatch.setenv("PINECONE_CONNECTIONS", str(path))
    monkeypatch.setenv("PINECONE_INDEX_NAME", "brain")
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.2")
    return path


@pytest.fixture
def eu(accounts: Path) -> Iterator[Brain]:
    """Another account, whose indexes are there whether or not the file names it."""
    running = start(api_keys=(KEY,))
    settings = Settings(pinecone_api_key=KEY, pinecone_controller_host=running.control)  # type: ignore[arg-type]
    yield Brain(running.control, PineconeStore(settings))
    running.stop()


def know(accounts: Path, eu: Brain) -> None:
    accounts.write_text(f'[eu]\napi_key = "{KEY}"\ncontroller_host = "{eu.address}"\n')


def filled(database: Database, index: str, since: timedelta = timedelta(hours=1)) -> None:
    """An `apply` had the service fill an index, and was never typed again."""
    with database.begin() as connection:
        index_acts.note_filling(connection, index, None, "sha256:1", "olga")
        connection.execute(sa.update(t.index_act).values(begun_at=t.index_act.c.begun_at - since))


def residual(answer_json: dict[str, list[str]]) -> list[str]:
    kept = json.loads(Path(answer_json["next_steps"][0]).with_suffix(".json").read_text())
    return [said for said in kept["residual"] if "nobody could tell" in said]


def test_an_index_of_an_account_that_is_gone_is_given_up_and_every_certificate_names_it(
    vecfleet: Vecfleet, brain: Brain, eu: Brain, accounts: Path, database: Database
) -> None:
    # Given an index of an account that the settings do not name any more, which the service was asked to fill
    brain.write("creator_ana_twin_coach", "a-1", creator_id="ana")
    filled(database, MIND)

    # When a tenant is erased, then what is in reach goes, and there is no certificate: a command is named that ends it
    blocked = vecfleet(*FORGET)
    assert blocked.code == 3 and "there is no account 'pinecone@eu' here" in blocked.err
    assert f"`vecfleet filling give-up {MIND}`" in " ".join(blocked.err.split())
    assert brain.store.open(brain.store.describe("brain")).namespace("creator_ana_twin_coach") is None
    assert "nobody can tell whether it is over" in vecfleet("jobs").out
    assert vecfleet("filling", "list").out.endswith(f"next: vecfleet filling give-up {MIND}\n")

    # And nobody gives it up by accident
    alone = vecfleet("filling", "give-up", MIND)
    assert alone.code == 3 and "nobody is at the terminal" in alone.err
    assert vecfleet(*FORGET).code == 3

    # When a person gives it up, then who did is on record, and certificates name the index in the place of waiting
    given_up = vecfleet("filling", "give-up", MIND, "--yes")
    assert given_up.code == 0, given_up.err
    assert "may hold, or still get, records of the tenant" in " ".join(given_up.out.split())
    with database.begin() as connection:
        [act] = connection.execute(sa.select(t.audit).where(t.audit.c.action == "give up filling")).all()
    assert act.payload["index"] == MIND and "no account" in act.payload["why"]
    erased = vecfleet(*FORGET)
    assert erased.code == 0, erased.err
    [said] = residual(erased.json)
    assert said.startswith(f"{MIND}: the service was asked") and act.who in said
    assert "filling" not in vecfleet("jobs").out and MIND not in vecfleet("jobs").out
    again = vecfleet("filling", "give-up", MIND, "--yes")
    assert again.code == 3 and f"{act.who} gave up the filling of {MIND} already" in again.err

    # When the account is known again, and has records of hers there, then they are found, and nothing is named any more
    know(accounts, eu)
    eu.create("mind")
    eu.write("creator_ana_twin_coach", "a-2", index="mind", creator_id="ana")
    found = vecfleet(*FORGET)
    assert found.code == 0 and found.json["records"] == 1, found.err
    assert residual(found.json) == []


def test_an_index_that_is_gone_holds_up_nothing_and_asks_nobody(
    vecfleet: Vecfleet, brain: Brain, accounts: Path, database: Database
) -> None:
    # Given an index that somebody deleted, and whose account takes its key
    filled(database, "mind")
    # When a tenant is erased, then it is certified, and the certificate says nothing of that index
    erased = vecfleet(*FORGET)
    assert erased.code == 0, erased.err
    assert residual(erased.json) == []
    assert vecfleet("filling", "list", "--json").json["fillings"] == []


def test_a_key_that_is_refused_says_nothing_of_an_index(
    vecfleet: Vecfleet, brain: Brain, eu: Brain, accounts: Path, database: Database
) -> None:
    # Given an index that is not there, in an account whose key was withdrawn
    filled(database, MIND)
    know(accounts, eu)
    accounts.write_text(accounts.read_text().replace(KEY, "withdrawn"))
    # Then it is not taken for gone
    blocked = vecfleet(*FORGET)
    assert blocked.code == 3 and "nobody can tell whether that is over" in " ".join(blocked.err.split())
    # And with its key it is
    know(accounts, eu)
    assert vecfleet(*FORGET).code == 0


def test_what_ends_by_itself_is_not_given_up(
    vecfleet: Vecfleet, brain: Brain, accounts: Path, database: Database
) -> None:
    # Given a request that may be on its way to the service yet
    filled(database, "mind", since=timedelta(minutes=1))
    early = vecfleet("filling", "give-up", "mind", "--yes")
    assert early.code == 3 and "will say so itself" in " ".join(early.err.split())
    # And an index that nothing fills
    nothing = vecfleet("filling", "give-up", "nowhere", "--yes")
    assert nothing.code != 0 and "`vecfleet filling list`" in nothing.err


def test_a_filling_that_was_given_up_and_is_asked_for_anew_holds_up_certificates_again(
    vecfleet: Vecfleet, brain: Brain, eu: Brain, accounts: Path, database: Database
) -> None:
    filled(database, MIND)
    assert vecfleet("filling", "give-up", MIND, "--yes").code == 0
    filled(database, MIND)
    assert vecfleet(*FORGET).code == 3
