"""The stack with what has a web address: the emulator with the seeds' index, and Flower."""

import base64
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shutil import copy

import httpx
import orjson
import pytest
import redis
from job_table import JobTable, plan_of, planned

from orchestrator import schema
from orchestrator.embedded.addresses import SUITS_EMULATOR
from orchestrator.embedded.background import up_in_background
from orchestrator.embedded.ports import claim_port, free_port, listening
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.process import DidNotStart
from orchestrator.embedded.programs import Program
from orchestrator.embedded.record import StackRecord
from orchestrator.embedded.sealing import AUDIT_KEY
from orchestrator.embedded.stack import Stack, down
from orchestrator.ledger import audit
from orchestrator.ledger.audit import Seals
from orchestrator.ledger.database import Database
from tests.contracts.answering import Answer, Answering
from vecfleet.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
NOTHING = Settings(database_url=None, redis_url=None, pinecone_api_key=None, flower_password=None)

UP = """
import sys
from pathlib import Path
from orchestrator.embedded.foreground import run
from orchestrator.embedded.stack import Stack
from vecfleet.settings import Settings

nothing = Settings(database_url=None, redis_url=None, pinecone_api_key=None)
run(Stack(Path(sys.argv[1]), durable=False, settings=nothing), lambda environment: None)
"""


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "state"
    yield place
    down(place, erase=True)


def test_its_addresses_lead_to_the_seeds_index_and_to_flower(state_dir: Path) -> None:
    # Given a stack for a demonstration
    with Stack(state_dir, emulator=True, load="seeds", flower=True, durable=False, settings=NOTHING) as stack:
        at = stack.environment
        # Then the emulator has the index, and Flower lets in who has the password
        [index] = httpx.get(f"{at['PINECONE_CONTROLLER_HOST']}/indexes", headers=key(stack)).json()["indexes"]
        assert (index["name"], index["status"]["ready"]) == ("digital-twin-brain", True)
        account = (at["FLOWER_USER"], at["FLOWER_PASSWORD"])
        assert httpx.get(at["FLOWER_URL"]).status_code == 401
        assert httpx.get(at["FLOWER_URL"], auth=account).is_success
        processes = recorded(state_dir).processes
    # And when it is over, nothing of it is left
    assert not any(process.alive() or (process.port and listening(process.port)) for process in processes)
    assert not state_dir.exists()


def test_the_emulator_keeps_its_indexes_and_their_addresses_from_one_up_to_the_next(state_dir: Path) -> None:
    # Given a lasting stack that was stopped, whose addresses no other stack of this machine takes meanwhile
    claim_port(state_dir, "emulator")
    with Stack(state_dir, emulator=True, load="seeds", settings=NOTHING) as stack:
        before = httpx.get(f"{stack.environment['PINECONE_CONTROLLER_HOST']}/indexes", headers=key(stack)).json()
    # When it is started again
    with Stack(state_dir, emulator=True, settings=NOTHING) as stack:
        after = httpx.get(f"{stack.environment['PINECONE_CONTROLLER_HOST']}/indexes", headers=key(stack)).json()
    # Then a job that was under way finds its index where it was
    assert after == before and after["indexes"]


def test_an_index_whose_address_was_taken_is_told_before_anybody_counts_on_it(state_dir: Path) -> None:
    # Given a lasting stack that was stopped, and a program that took the address of its index meanwhile
    claim_port(state_dir, "emulator")
    with Stack(state_dir, emulator=True, load="seeds", settings=NOTHING) as stack:
        described = httpx.get(f"{stack.environment['PINECONE_CONTROLLER_HOST']}/indexes", headers=key(stack)).json()
    port = int(described["indexes"][0]["host"].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        # When it is started again, then it does not, and the reason is told
        with pytest.raises(DidNotStart, match=f"Port {port}, the address of an index"):
            Stack(state_dir, emulator=True, settings=NOTHING).start()
        # And nothing of it runs, and its indexes are kept
        assert StackRecord.read(state_dir) is None
    with Stack(state_dir, emulator=True, settings=NOTHING) as stack:
        again = httpx.get(f"{stack.environment['PINECONE_CONTROLLER_HOST']}/indexes", headers=key(stack)).json()
    assert again == described


def test_it_waits_a_second_longer_than_its_own_emulators_reads_lag_unless_told_otherwise(state_dir: Path) -> None:
    # Given a stack whose emulator's reads lag
    with Stack(state_dir, emulator=True, reads_lag_s=2.5, durable=False, settings=NOTHING) as stack:
        # Then the emulator says so, and whoever joins waits longer than that, and not a minute
        health = httpx.get(f"{stack.environment['PINECONE_CONTROLLER_HOST']}/_emulator/health").json()
        assert health["reads_lag_s"] == 2.5
        joined = Settings.model_validate({name.lower(): value for name, value in stack.environment.items()})
        assert joined.freshness_wait_seconds == 3.5
        assert joined.routes_cache_seconds < joined.routes_stale_seconds == 1
    # But what the user set is not changed
    own = Settings.model_validate(
        {**NOTHING.model_dump(include=NOTHING.model_fields_set), "freshness_wait_seconds": 7, "routes_cache_seconds": 9}
    )
    with Stack(state_dir, emulator=True, durable=False, settings=own) as stack:
        joined = Settings.model_validate({name.lower(): value for name, value in stack.environment.items()})
        waits = (joined.freshness_wait_seconds, joined.routes_cache_seconds, joined.routes_stale_seconds)
        assert waits == (7, 9, 9)


def test_a_copy_of_the_example_chooses_no_waits_beside_an_emulator(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names Pinecone's minute, and the demo used to take minutes with it."""
    for spellings in Settings.variables().values():
        for name in spellings:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    copy(REPOSITORY / ".env.example", ".env")
    with Stack(state_dir, emulator=True, durable=False, settings=Settings.load()) as stack:
        told = {name: value for name, value in stack.environment.items() if name in SUITS_EMULATOR}
    with Stack(state_dir, emulator=True, durable=False, settings=NOTHING) as stack:
        assert told == {name: stack.environment[name] for name in SUITS_EMULATOR}


def test_of_two_stacks_that_find_the_emulators_usual_port_free_both_get_one(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a port that somebody takes between the look at it and the start of the emulator
    contested, other = free_port(), free_port()
    answers = iter([contested, other])
    monkeypatch.setattr("orchestrator.embedded.programs.claim_port", lambda *_: next(answers))
    with (
        socket.create_server(("127.0.0.1", contested)),
        Stack(state_dir, emulator=True, durable=False, settings=NOTHING) as stack,
    ):
        # Then it is at another, and answers there
        address = stack.environment["PINECONE_CONTROLLER_HOST"]
        assert address == f"http://127.0.0.1:{other}"
        assert httpx.get(f"{address}/indexes", headers=key(stack)).json()["indexes"] == []
        assert [process.name for process in recorded(state_dir).processes].count("emulator") == 1


@pytest.mark.parametrize("named", [None, "https://fleet.example.com"])
def test_its_notices_lead_to_its_page_or_to_the_address_that_was_named_for_it(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    told, hooks = threading.Event(), tmp_path / "hooks.toml"
    with Answering(lambda asked: Answer(after=told.set)) as receiver:
        # Given a file that names a receiver of what jobs do
        secret = base64.b64encode(b"a secret of thirty-two bytes ...").decode()
        hooks.write_text(
            f'[notices.ops]\nto = "webhook"\nurl = "{receiver.address}"\nsecrets = ["whsec_{secret}"]\n'
            'events = ["job.running"]\n'
        )
        hooks.chmod(0o600)
        monkeypatch.setenv("VECFLEET_HOOKS", str(hooks))
        settings = NOTHING.model_copy(update={"web_url": named})
        # When a job begins in a stack with a page
        with Stack(state_dir, dispatcher=True, web=True, durable=False, settings=settings) as stack:
            database = Database(stack.environment["DATABASE_URL"], pool_size=1)
            job_id = JobTable(database).apply(plan_of(planned("s", "t")))
            database.dispose()
            assert told.wait(120)
            # Then its notice leads to its page
            page = named or stack.environment["WEB_URL"]
            assert [orjson.loads(asked.body)["url"] for asked in receiver.asked] == [f"{page}/jobs/{job_id}"]


def test_work_may_begin_before_flower_runs_and_who_waits_for_it_is_told_how_it_ended(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a Flower that takes long to start
    slow = Program("flower", ["sleep", "600"], state_dir=state_dir, env={}, uses=("PATH",), port=free_port())
    monkeypatch.setattr("orchestrator.embedded.programs.flower", lambda *_: slow)
    stack = Stack(state_dir, flower=True, durable=False, settings=NOTHING)
    stack.begin()
    try:
        # Then the servers can be used, and no other shell joins a stack that is not whole
        with closing(redis.Redis.from_url(stack.environment["REDIS_URL"])) as client:
            assert client.ping()
        assert not recorded(state_dir).ready
        # And when Flower ends before it answered, who waits for all is told
        stack.launch_looks()
        [flower] = [process for process in recorded(state_dir).processes if process.name == "flower"]
        flower.stop(5.0)
        with pytest.raises(DidNotStart, match="flower stopped by signal SIGTERM while starting"):
            stack.complete()
    finally:
        stack.stop()


def test_up_in_the_background_returns_once_everything_is_ready(state_dir: Path) -> None:
    record = up_in_background([sys.executable, "-c", UP, str(state_dir)], state_dir)
    assert record.ready and record.supervisor.alive()
    assert {process.name for process in record.processes} == {"postgres", "redis"}
    assert down(state_dir) and not record.supervisor.alive()


def test_up_in_the_background_says_why_it_failed(state_dir: Path) -> None:
    with pytest.raises(DidNotStart, match="no such luck"):
        up_in_background([sys.executable, "-c", "raise SystemExit('no such luck')"], state_dir)


def recorded(state_dir: Path) -> StackRecord:
    record = StackRecord.read(state_dir)
    assert record is not None
    return record


def key(stack: Stack) -> dict[str, str]:
    return {"Api-Key": stack.environment["PINECONE_API_KEY"]}


def test_the_audit_of_a_stack_is_sealed_with_a_key_that_only_its_owner_reads(state_dir: Path) -> None:
    # Given a stack whose job table has a trail of before there were keys
    with Stack(state_dir, settings=NOTHING) as stack:
        [postgres] = [server for server in stack._servers if isinstance(server, Postgres)]
        schema.upgrade(postgres.owner_url, postgres.client_url)
        database = Database(stack.environment["DATABASE_URL"], pool_size=1)
        with database.begin() as connection:
            audit.note(connection, "ana", "apply", 1)
            audit.seal(connection, Seals())
        database.dispose()
    # When a stack with a dispatcher starts there, and starts again
    keys = set()
    for _ in range(2):
        with Stack(state_dir, dispatcher=True, settings=NOTHING) as stack:
            keys.add(stack.environment["AUDIT_KEY"])
            database = Database(stack.environment["DATABASE_URL"], pool_size=1)
            with database.begin() as connection:
                chain = audit.walk(connection, Seals(*keys))
            database.dispose()
    # Then the trail is sealed with one key, in a file of mode 0600
    assert chain.broken is None and chain.sealed == 2 and audit.with_key(chain.head)
    assert [(state_dir / AUDIT_KEY).read_text()] == list(keys)
    assert (state_dir / AUDIT_KEY).stat().st_mode & 0o777 == 0o600
    # And it goes with its data
    down(state_dir, erase=True)
    assert not (state_dir / AUDIT_KEY).exists()
