"""Hooks that hold a job: a refusal, a failure or a silence keeps the act back, in the hook's words."""

import base64
import socketserver
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa
from job_table import JobTable
from stages import AUTO, PATIENCE_S, proven_again, verified

from orchestrator.core.hooks import Hook
from orchestrator.core.next_steps import next_steps
from orchestrator.core.notices import TROUBLE
from orchestrator.core.states import JobState
from orchestrator.ledger import audit, hooks, notices, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, Database
from orchestrator.ledger.request_keys import KeyedRequest
from orchestrator.services import acts, keyed_acts
from orchestrator.services import hooks as asking
from orchestrator.services.background import repeating
from orchestrator.services.hook_calls import answer_next
from orchestrator.services.hooks import LeaveMissing
from orchestrator.services.hooks_file import CommandHook, WebHook
from tests.contracts.answering import Answer, Answering

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ...").decode()
CUT_OVER, CLEAN_UP = Hook.BEFORE_CUT_OVER, Hook.BEFORE_CLEAN_UP
AT_ONCE = {"cut_over": "operator", "clean_up": "operator", "soak_seconds": 0}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does much else may take long to ask a hook."""
    monkeypatch.setattr(asking, "_WAITS_S", PATIENCE_S)
    monkeypatch.setattr(asking, "_TAKEN_WITHIN_S", PATIENCE_S)


@pytest.fixture
def leaves_at_once(monkeypatch: pytest.MonkeyPatch, patience: None) -> None:
    """Whoever asks a hook does not wait for its answer."""
    monkeypatch.setattr(asking, "_WAITS_S", 0.0)


def command(tmp_path: Path, *lines: str, timeout_seconds: float = 30.0) -> CommandHook:
    """A hook that is a shell script of these lines."""
    path = tmp_path / "hook"
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return CommandHook(command=(str(path),), timeout_seconds=timeout_seconds)


def declare(database: Database, *names: Hook, timeout_s: float = 30.0) -> None:
    with database.begin() as connection:
        hooks.declare(connection, dict.fromkeys(names, timeout_s))


@contextmanager
def dispatcher_asks(database: Database, hook: Hook, entry: CommandHook | WebHook) -> Iterator[None]:
    """A dispatcher whose operator has this hook in the file."""
    declare(database, hook, timeout_s=entry.timeout_seconds)
    with repeating({hook: lambda: answer_next(database, hook, entry)}):
        yield


def next_of(table: JobTable) -> tuple[str, ...]:
    with table.begin() as connection:
        return next_steps(status.reading(connection, table.job_id, namespaces=0))


def acts_of(table: JobTable) -> list[tuple[str, str]]:
    with table.begin() as connection:
        return [(act.who, act.action) for act in reversed(audit.of_job(connection, table.job_id, 20))]


def test_a_hook_that_allows_it_lets_a_cut_over_through_with_what_it_needs_to_know(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a hook that notes what it is given
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    table = verified(database, **AT_ONCE)
    heard, known = tmp_path / "heard", tmp_path / "known"
    hook = command(tmp_path, f"cat > {heard}", f"env > {known}", "echo fine with me")

    # When a person cuts over
    with dispatcher_asks(database, CUT_OVER, hook):
        acts.cut_over(database, table.job_id, "ana", 100)

    # Then it is done, the hook knows job, namespaces and counts, and nothing of the fleet's environment
    assert table.job.state is JobState.CUT_OVER and table.job.reason is None
    facts = orjson.loads(heard.read_bytes())
    assert (facts["hook"], facts["asked_by"], facts["percent"], facts["job"]["id"]) == (
        CUT_OVER,
        "ana",
        100,
        table.job_id,
    )
    assert facts["counts"]["written"] == sum(row["written"] for row in facts["namespaces"]) > 0
    assert "secret" not in known.read_text() and "DATABASE_URL" not in known.read_text()
    # And question, answer and act are on record
    assert acts_of(table)[-3:] == [("ana", "ask hook"), (f"hook {CUT_OVER}", "allow"), ("ana", "cut over")]


Entry = Callable[[Path], CommandHook]
REFUSALS: dict[str, tuple[Entry, str]] = {
    "refusal": (lambda path: command(path, "echo 'the release is frozen'", "exit 1"), "the release is frozen"),
    "failure without a word": (lambda path: command(path, "exit 7"), "it ended with 7"),
    "silence": (lambda path: command(path, "sleep 60", timeout_seconds=0.5), "no answer within 0.5 s"),
    "absence": (lambda path: CommandHook(command=(str(path / "none"),)), "it cannot be run: No such file or directory"),
}


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("hook", list(Hook))
def test_a_refusal_a_failure_and_a_silence_hold_the_job_in_the_hooks_words(
    database: Database, tmp_path: Path, hook: Hook, how: str
) -> None:
    entry, words = REFUSALS[how]
    table = verified(database, **AT_ONCE)
    if hook is CLEAN_UP:
        acts.cut_over(database, table.job_id, "ana", 100)
    before = table.job.state

    with dispatcher_asks(database, hook, entry(tmp_path)), pytest.raises(LeaveMissing) as held:
        act(table, hook)

    # Then nothing was done, and status, reason and next step say why and what to type
    assert table.job.state is before and held.value.code == "hook-refused"
    assert held.value.message == table.job.reason and f"held by the hook {hook}" in held.value.message
    assert held.value.message.endswith(f": {words}")
    again = f"vecfleet cutover {table.job_id} --percent 100" if hook is CUT_OVER else f"vecfleet cleanup {table.job_id}"
    assert next_of(table)[0] == held.value.next_step == again


def act(table: JobTable, hook: Hook, who: str = "ana") -> None:
    if hook is CUT_OVER:
        acts.cut_over(table.database, table.job_id, who, 100)
    else:
        acts.clean_up(table.database, table.job_id, who, by_ids=False)


def test_after_a_refusal_a_persons_verb_asks_again(database: Database, tmp_path: Path) -> None:
    table = verified(database, **AT_ONCE)
    gate = tmp_path / "open"
    with dispatcher_asks(database, CUT_OVER, command(tmp_path, f"test -e {gate} || {{ echo not yet; exit 1; }}")):
        with pytest.raises(LeaveMissing, match="not yet"):
            act(table, CUT_OVER)
        gate.touch()
        act(table, CUT_OVER)
    assert table.job.state is JobState.CUT_OVER


def test_a_policy_waits_for_the_hook_and_after_a_refusal_for_a_person(database: Database, tmp_path: Path) -> None:
    table = verified(database, **AUTO)
    gate, asked = tmp_path / "open", tmp_path / "asked"
    with table.begin() as connection:
        notices.subscribe(connection, {"on-call": ["job.held"], "others": ["job.cleaned"]})
    entry = command(tmp_path, f"echo x >> {asked}", f"test -e {gate} || {{ echo not yet; exit 1; }}")
    declare(database, CUT_OVER)

    # Given the policy asks, and goes on asking for nothing else while it has no answer
    table.advance(3)
    assert table.job.state is JobState.VERIFIED and "asks the hook before-cut-over" in (table.job.reason or "")
    assert answer_next(database, CUT_OVER, entry)
    assert not answer_next(database, CUT_OVER, entry)

    # When it refused, then the policy asks no more
    table.advance(3)
    assert table.job.reason == "the policy waits: held by the hook before-cut-over at 100 %: not yet"
    assert not answer_next(database, CUT_OVER, entry)
    assert next_of(table) == (f"vecfleet cutover {table.job_id} --percent 100",)

    # And whoever waits for that is told, once, in the hook's words
    with table.begin() as connection:
        told = notices.take(connection, "on-call", 60)
        assert told is not None and notices.take(connection, "others", 60) is None
        notice = notices.read(connection, told)
        notices.delivered(connection, told)
        assert notices.take(connection, "on-call", 60) is None
    assert notice.event == "job.held" and notice.event in TROUBLE
    assert notice.sentence.endswith(") is held by the hook before-cut-over at 100 %: not yet")
    assert notice.to_json()["because"] == "a hook, or the lack of a second person, holds what would come next"

    # And a person's verb asks again
    gate.touch()
    with dispatcher_asks(database, CUT_OVER, entry):
        act(table, CUT_OVER)
    assert table.job.state is JobState.CUT_OVER and asked.read_text() == "x\nx\n"


def test_an_allowed_policy_goes_on_by_itself(database: Database, tmp_path: Path) -> None:
    table = verified(database, **AUTO)
    declare(database, CUT_OVER)
    table.advance()
    answer_next(database, CUT_OVER, command(tmp_path, "exit 0"))
    table.advance()
    assert (table.job.state, table.job.reason) == (JobState.CUT_OVER, None)


@pytest.mark.usefixtures("leaves_at_once")
def test_where_no_dispatcher_asks_it_the_job_stays_held_and_says_what_to_start(database: Database) -> None:
    table = verified(database, **AT_ONCE)
    declare(database, CUT_OVER)
    with pytest.raises(LeaveMissing) as held:
        act(table, CUT_OVER)
    assert held.value.code == "hook-asked" and "`vecfleet dispatcher`" in (held.value.next_step or "")
    assert "asks the hook before-cut-over at 100 %" in (table.job.reason or "")
    assert table.job.state is JobState.VERIFIED


@pytest.mark.usefixtures("leaves_at_once")
def test_one_answer_allows_one_act_of_the_same_share_and_not_for_long(database: Database, tmp_path: Path) -> None:
    table = verified(database, "a", "b", "c", "d", dwell_seconds=0, **AT_ONCE)
    declare(database, CUT_OVER)
    # Given a person who left while the hook thought, and an answer since
    with pytest.raises(LeaveMissing):
        acts.cut_over(database, table.job_id, "ana", 50)
    answer_next(database, CUT_OVER, command(tmp_path, "exit 0"))
    # Then it is for no other share
    with pytest.raises(LeaveMissing):
        acts.cut_over(database, table.job_id, "ana", 100)
    # And an old one is for nothing
    with table.begin() as connection:
        connection.execute(sa.update(t.hook_call).values(answered_at=NOW - sa.text("interval '1 hour'")))
    with pytest.raises(LeaveMissing):
        acts.cut_over(database, table.job_id, "ana", 50)
    # A new one lets the same act through, once
    answer_next(database, CUT_OVER, command(tmp_path, "exit 0"))
    answer_next(database, CUT_OVER, command(tmp_path, "exit 0"))
    acts.cut_over(database, table.job_id, "ana", 50)
    assert table.job.cut_over_percent == 50
    acts.reverse(database, table.job_id, "ana")
    proven_again(table)
    with pytest.raises(LeaveMissing):
        acts.cut_over(database, table.job_id, "ana", 50)


@pytest.mark.usefixtures("leaves_at_once")
def test_a_dispatcher_that_dies_while_the_hook_runs_leaves_the_question_to_another(
    database: Database, tmp_path: Path
) -> None:
    table = verified(database, **AT_ONCE)
    declare(database, CUT_OVER)
    with pytest.raises(LeaveMissing):
        act(table, CUT_OVER)
    # Given one that took the question and never answered
    with table.begin() as connection:
        first = hooks.take(connection, CUT_OVER, 60.0)
    assert first is not None and not answer_next(database, CUT_OVER, command(tmp_path, "exit 0"))
    # When its time is over
    with table.begin() as connection:
        connection.execute(sa.update(t.hook_call).values(due_at=NOW))
    # Then another asks under the same id, and its answer counts
    assert answer_next(database, CUT_OVER, command(tmp_path, f"cat > {tmp_path}/heard"))
    assert orjson.loads((tmp_path / "heard").read_bytes())["id"] == first.delivery_id
    act(table, CUT_OVER)
    assert table.job.state is JobState.CUT_OVER


@pytest.mark.usefixtures("leaves_at_once")
def test_a_hook_that_says_more_than_a_pipe_holds_is_heard_to_its_end(database: Database, tmp_path: Path) -> None:
    table = verified(database, **AT_ONCE)
    declare(database, CUT_OVER)
    with pytest.raises(LeaveMissing):
        act(table, CUT_OVER)
    answer_next(database, CUT_OVER, command(tmp_path, "head -c 300000 /dev/zero | tr '\\0' x"))
    act(table, CUT_OVER)
    assert table.job.state is JobState.CUT_OVER


def test_an_address_is_asked_with_a_signature_and_its_words_hold_the_job(database: Database) -> None:
    table = verified(database, **AT_ONCE)
    answers = iter(
        (Answer(409, b"the index is  being\nbacked up"), Answer(302, headers={"location": "/"}), Answer(204))
    )
    with Answering(lambda asked: next(answers)) as server:
        entry = WebHook(url=server.address, secrets=(SECRET,))  # type: ignore[arg-type]
        with dispatcher_asks(database, CUT_OVER, entry):
            with pytest.raises(LeaveMissing, match=r": the index is being backed up\n"):
                act(table, CUT_OVER)
            with pytest.raises(LeaveMissing):  # a redirect is not followed, and allows nothing
                act(table, CUT_OVER)
            act(table, CUT_OVER)
    assert table.job.state is JobState.CUT_OVER
    assert all(asked.headers["webhook-signature"].startswith("v1,") for asked in server.asked)
    assert len({asked.headers["webhook-id"] for asked in server.asked}) == 3


def test_an_address_that_answers_bit_by_bit_for_longer_than_its_time_allows_nothing(database: Database) -> None:
    table = verified(database, **AT_ONCE)
    with dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n", b"fine with me") as address:
        entry = WebHook(url=address, secrets=(SECRET,), timeout_seconds=0.5)  # type: ignore[arg-type]
        with dispatcher_asks(database, CUT_OVER, entry), pytest.raises(LeaveMissing, match=r"no answer within 0.5 s"):
            act(table, CUT_OVER)
    assert table.job.state is JobState.VERIFIED


@contextmanager
def dripping(at_once: bytes, slowly: bytes) -> Iterator[str]:
    """A server that answers each request with the first bytes, and then with one every tenth of a second."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            with suppress(ConnectionError):
                self.request.sendall(at_once)
                for byte in slowly:
                    time.sleep(0.1)
                    self.request.sendall(bytes([byte]))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_address_where_nobody_listens_holds_the_job(database: Database) -> None:
    table = verified(database, **AT_ONCE)
    entry = WebHook(url="http://127.0.0.1:1", secrets=(SECRET,))  # type: ignore[arg-type]
    with (
        dispatcher_asks(database, CUT_OVER, entry),
        pytest.raises(LeaveMissing, match="it cannot be asked: ConnectError"),
    ):
        act(table, CUT_OVER)
    assert table.job.state is JobState.VERIFIED


def test_readers_go_back_and_stay_where_they_are_without_any_leave(database: Database) -> None:
    table = verified(database, **AT_ONCE)
    acts.cut_over(database, table.job_id, "ana", 100)
    declare(database, CUT_OVER, CLEAN_UP)
    acts.cut_over(database, table.job_id, "ana", 100)
    acts.reverse(database, table.job_id, "ana")
    assert table.job.cut_over_percent == 0


def test_what_a_hook_holds_is_not_answered_as_done_under_its_key(database: Database, tmp_path: Path) -> None:
    table = verified(database, **AT_ONCE)
    gate = tmp_path / "open"

    def asked() -> keyed_acts.Answered:
        request = KeyedRequest.of("token", "k", "cutover")
        return keyed_acts.once(database, request, lambda: act(table, CUT_OVER))

    with dispatcher_asks(database, CUT_OVER, command(tmp_path, f"test -e {gate} || {{ echo not yet; exit 1; }}")):
        # When a program asks, and sends the same request again
        for _ in range(2):
            with pytest.raises(LeaveMissing, match="not yet"):
                asked()
        assert table.job.state is JobState.VERIFIED
        # Then it is done once the hook allows it, and the act is its answer
        gate.touch()
        done = asked()
    assert table.job.state is JobState.CUT_OVER
    assert (done.replayed, done.answer.action) == (False, "cut over")
