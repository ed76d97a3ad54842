"""A standby takes no writes, and answers as its primary was a while ago: nothing begins on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestrator.bootstrap import Fleet
from orchestrator.doctor import examine
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.server import Server
from vecfleet.errors import BadInput
from vecfleet.settings import Settings


@contextmanager
def started_as_it_is(place: Path) -> Iterator[None]:
    """No role is made, and nothing else is written: a standby would refuse it."""
    server = Postgres(place)
    Server.start(server)
    try:
        yield
    finally:
        server.stop()


def test_neither_the_doctor_nor_a_plan_takes_a_standby_for_a_database(tmp_path: Path) -> None:
    # Given a database that was stopped, and is started as a standby
    with Postgres(tmp_path) as primary:
        address = primary.vectors_url()
    (tmp_path / "postgres" / "data" / "standby.signal").touch()
    with started_as_it_is(tmp_path):
        settings = Settings(pgvector_url=SecretStr(address), database_url=None, redis_url=None, pinecone_api_key=None)
        # When it is described for a plan, then it is refused
        with pytest.raises(BadInput, match="is a standby: it takes no writes") as refusal:
            Fleet(settings).store_named("pgvector").describe("public")
        assert refusal.value.next_step is not None and "the primary" in refusal.value.next_step
        # And the doctor says the same
        (found,) = [check for check in examine(settings) if check.name == "pgvector"]
    assert not found.ok and "is a standby" in found.detail and found.remedy == refusal.value.next_step
