"""Notices: queued with the edge, delivered until the receiver says so, under one id, and signed."""

import base64
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned

from orchestrator.core.notices import MACHINES, MAX_ATTEMPTS
from orchestrator.core.states import JobState
from orchestrator.ledger import notices
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, Database
from orchestrator.services import acts
from orchestrator.services.hooks_file import Email, PagerDuty, Receiver, Slack, Webhook
from orchestrator.services.notices import send_next
from tests.contracts.answering import Answer, Answering

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ...").decode()
OLDER = "whsec_" + base64.b64encode(b"the one that it takes over from.").decode()
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "hooks-and-notices.md"
WAIT_S = 60.0


def webhook(address: str, *secrets: str) -> Webhook:
    return Webhook(to="webhook", url=f"{address}/hook", secrets=secrets or (SECRET,))  # type: ignore[arg-type]


def wait_for(events: str, database: Database, name: str = "ops") -> None:
    with database.begin() as connection:
        notices.subscribe(connection, {name: events.split()})


def queued(database: Database) -> list[tuple[str, str | None, str]]:
    with database.begin() as connection:
        rows = connection.execute(sa.select(t.notice).order_by(t.notice.c.id)).all()
    return [(row.machine, row.was, row.state) for row in rows]


def make_due(database: Database) -> None:
    """The wait before the next attempt is over."""
    with database.begin() as connection:
        connection.execute(sa.update(t.notice).where(t.notice.c.due_at.is_not(None)).values(due_at=NOW))


def send_all(database: Database, receiver: Receiver, name: str = "ops") -> None:
    while send_next(database, name, receiver, "https://fleet.example.com"):
        pass


def test_every_edge_of_every_machine_is_queued_in_its_own_order(database: Database) -> None:
    # Given a receiver of everything
    wait_for("job move batch target", database)
    table = JobTable(database)

    # When a job of one batch is made, copied and verified
    table.apply(plan_of(planned("s", "t")))
    table.verified({"s": [["1", "2"]]})

    # Then each change is there, from the first to the last
    changes = queued(database)
    of_jobs = [(was, state) for machine, was, state in changes if machine == "job"]
    assert of_jobs == [(None, "planned"), ("planned", "running"), ("running", "copied"), ("copied", "verified")]
    assert [state for machine, _, state in changes if machine == "move"] == ["listing", "copying", "copied", "verified"]
    assert [state for machine, _, state in changes if machine == "target"] == ["checking", "verified"]
    assert ("batch", "leased", "done") in changes
    assert {machine for machine, _, _ in changes} == set(MACHINES)


def test_without_a_receiver_nothing_is_queued_and_one_that_is_gone_leaves_nothing(table: JobTable) -> None:
    acts.cancel(table.database, table.job_id, "ana")
    assert queued(table.database) == []
    wait_for("job.cancelled", table.database)
    table.advance()
    assert queued(table.database) == [("job", "cancelling", "cancelled")]
    wait_for("job", table.database, "another")
    assert queued(table.database) == []


def test_a_change_that_is_undone_is_told_to_nobody(table: JobTable) -> None:
    wait_for("job", table.database)
    with pytest.raises(RuntimeError), table.begin() as connection:
        connection.execute(sa.update(t.job).values(state="running"))
        raise RuntimeError("the transaction ends here")
    assert queued(table.database) == []


def test_a_receiver_that_is_down_then_fails_then_answers_gets_one_delivery_under_one_id(table: JobTable) -> None:
    wait_for("job.running", table.database)
    table.start()
    statuses = iter((500, 200))
    with Answering(lambda asked: Answer(next(statuses))) as server:
        receiver = webhook(server.address)
        # Given nobody listens
        send_all(table.database, webhook("http://127.0.0.1:1"))
        [row] = waiting(table.database)
        assert (row.waiting, row.answer) == (1, "ConnectError")
        # Nothing is sent before its wait is over
        send_all(table.database, receiver)
        assert server.asked == []

        # When it answers 500, and then 200
        for _ in range(2):
            make_due(table.database)
            send_all(table.database, receiver)

        # Then it was told the same id twice, and no more
        first, second = (asked.headers["webhook-id"] for asked in server.asked)
        assert first == second
        make_due(table.database)
        send_all(table.database, receiver)
        assert len(server.asked) == 2 and queued(table.database) == []


def waiting(database: Database) -> list[notices.Waiting]:
    with database.begin() as connection:
        return notices.waiting(connection)


def test_a_receiver_that_never_answers_is_given_up_and_asked_again_by_a_person(table: JobTable) -> None:
    wait_for("job.running", table.database)
    table.start()
    with table.begin() as connection:
        connection.execute(sa.update(t.notice).values(attempts=MAX_ATTEMPTS - 1))
    nowhere = webhook("http://127.0.0.1:1")
    assert send_next(table.database, "ops", nowhere)
    [row] = waiting(table.database)
    assert (row.waiting, row.given_up) == (0, 1)
    make_due(table.database)
    assert not send_next(table.database, "ops", nowhere)

    with table.begin() as connection:
        assert notices.again(connection) == 1

    with Answering(lambda asked: Answer()) as server:
        send_all(table.database, webhook(server.address))
        assert len(server.asked) == 1


def test_a_redirect_is_not_followed(table: JobTable) -> None:
    wait_for("job.running", table.database)
    table.start()
    with Answering(lambda asked: Answer(302, headers={"location": "/elsewhere"})) as server:
        send_all(table.database, webhook(server.address))
        assert [asked.path for asked in server.asked] == ["/hook"]
    assert waiting(table.database)[0].answer == "HTTP 302"


def test_what_comes_later_of_the_same_job_waits_for_what_was_before(table: JobTable) -> None:
    wait_for("job", table.database)
    table.start()
    acts.pause(table.database, table.job_id, "ana")
    send_all(table.database, webhook("http://127.0.0.1:1"))
    with Answering(lambda asked: Answer()) as server:
        send_all(table.database, webhook(server.address))
        assert server.asked == []
        make_due(table.database)
        send_all(table.database, webhook(server.address))
        assert [orjson.loads(asked.body)["to"] for asked in server.asked] == ["running", "pausing"]


def test_a_dispatcher_killed_between_send_and_mark_leaves_a_second_delivery_with_the_same_id(
    table: JobTable, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    acts.cancel(table.database, table.job_id, "ana")
    wait_for("job.cancelled", table.database)
    table.advance()
    processes: list[subprocess.Popen[bytes]] = []

    def dies(asked: Any) -> Answer:
        """The first dispatcher is killed as soon as its receiver has all of the notice."""
        if len(server.asked) == 1:
            processes[0].send_signal(signal.SIGKILL)
            processes[0].wait()
        return Answer()

    with Answering(dies) as server:
        file = tmp_path / "hooks.toml"
        file.write_text(
            f'[notices.ops]\nto = "webhook"\nurl = "{server.address}"\nsecrets = ["{SECRET}"]\n'
            'events = ["job.cancelled"]\n'
        )
        file.chmod(0o600)
        environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "VECFLEET_HOOKS": str(file),
            "VECFLEET_HOME": str(tmp_path / "home"),
        }
        command = [sys.executable, "-m", "orchestrator", "dispatcher"]
        try:
            # Given a dispatcher that dies with the answer in its hands
            processes.append(subprocess.Popen(command, env=environment))
            until(lambda: processes[0].poll() is not None)
            assert queued(table.database) == [("job", "cancelling", "cancelled")]
            # When its time is over, and another runs
            make_due(table.database)
            processes.append(subprocess.Popen(command, env=environment))
            # Then the receiver is told once more, and can see that it was
            until(lambda: not queued(table.database))
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait()
    assert len({asked.headers["webhook-id"] for asked in server.asked}) == 1 and len(server.asked) == 2


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def checker() -> Callable[..., bool]:
    """The receiving side's check, as the page shows it."""
    code = PAGE.read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    check: Callable[..., bool] = names["is_ours"]
    return check


def test_the_check_on_the_page_takes_what_is_ours_with_either_secret_and_nothing_else(table: JobTable) -> None:
    wait_for("job.running", table.database)
    table.start()
    with Answering(lambda asked: Answer()) as server:
        send_all(table.database, webhook(server.address, SECRET, OLDER))
    [asked] = server.asked
    is_ours = checker()
    # While secrets change over, receivers with the new and with the older one take it
    assert is_ours(asked.headers, asked.body, SECRET) and is_ours(asked.headers, asked.body, OLDER)
    # Another secret, another body, another id and an old request are refused
    stranger = "whsec_" + base64.b64encode(b"x" * 32).decode()
    assert not is_ours(asked.headers, asked.body, stranger)
    assert not is_ours(asked.headers, asked.body.replace(b"running", b"cleaned"), SECRET)
    assert not is_ours({**asked.headers, "webhook-id": "another"}, asked.body, SECRET)
    assert not is_ours({**asked.headers, "webhook-timestamp": str(int(time.time()) - 3_600)}, asked.body, SECRET)


def test_a_notice_names_job_namespace_and_counts_and_no_record(database: Database) -> None:
    wait_for("move.parked batch.parked", database)
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.listed({"s": [["record-7"]]})
    table.park(table.take()[0], "the service refuses record-7")
    with Answering(lambda asked: Answer()) as server:
        send_all(database, webhook(server.address))
    bodies = [orjson.loads(asked.body) for asked in server.asked]
    assert [(body["event"], body["namespace"], body["from"]) for body in bodies] == [
        ("batch.parked", "s", "leased"),
        ("move.parked", "s", "copying"),
    ]
    # And that of the batch says by what kind of error, and leads to it
    page = "https://fleet.example.com/jobs/1"
    assert bodies[0]["counts"] == {"records": 1} and bodies[0]["because"] == "it is beyond retry: BadRequest"
    assert bodies[0]["url"] == f"{page}/batches/{bodies[0]['number']}" and bodies[1]["url"] == page
    assert bodies[0]["job"]["id"] == table.job_id and bodies[1]["because"] == "its last open batch is parked"
    assert b"record-7" not in b"".join(asked.body for asked in server.asked)


def test_pagerduty_opens_an_incident_for_what_waits_for_a_person_and_resolves_it(table: JobTable) -> None:
    wait_for("job", table.database)
    table.put(state=JobState.NEEDS_ATTENTION, reason="2 batches are parked", resume_to="running")
    with table.begin() as connection:  # by the trigger of a change, not by hand
        connection.execute(sa.update(t.job).values(state="cancelling"))
        connection.execute(sa.delete(t.notice))
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        connection.execute(sa.update(t.job).values(state="running"))
    with table.begin() as connection:
        connection.execute(sa.update(t.job).values(state="needs_attention", reason="2 batches are parked"))
    with Answering(lambda asked: Answer(202)) as server:
        pager = PagerDuty(to="pagerduty", routing_key="R0", url=server.address)  # type: ignore[arg-type]
        send_all(table.database, pager)
        with table.begin() as connection:
            connection.execute(sa.update(t.job).values(state="running", reason=None))
        send_all(table.database, pager)
    opened, resolved = (orjson.loads(asked.body) for asked in server.asked)
    assert (opened["routing_key"], opened["event_action"], resolved["event_action"]) == ("R0", "trigger", "resolve")
    assert opened["dedup_key"] == resolved["dedup_key"] == f"vecfleet-job-{table.job_id}"
    assert opened["payload"]["severity"] == "error"
    assert opened["payload"]["summary"].endswith(") needs attention: 2 batches are parked")


def test_pagerduty_hears_nothing_of_a_job_that_never_waited_for_a_person(database: Database) -> None:
    wait_for("job move batch target", database)
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.verified({"s": [["1", "2"]]})
    with Answering(lambda asked: Answer(202)) as server:
        send_all(database, PagerDuty(to="pagerduty", routing_key="R0", url=server.address))  # type: ignore[arg-type]
        assert (server.asked, queued(database)) == ([], [])
        # But where it may have been held, leaving that state resolves it
        table.put(state=JobState.VERIFIED)
        with table.begin() as connection:
            connection.execute(sa.update(t.job).values(state="cut_over"))
        send_all(database, PagerDuty(to="pagerduty", routing_key="R0", url=server.address))  # type: ignore[arg-type]
    [event] = (orjson.loads(asked.body) for asked in server.asked)
    assert event["event_action"] == "resolve"


def test_a_chat_gets_one_line_in_which_no_name_is_a_command(database: Database) -> None:
    wait_for("move.listing", database, "chat")
    table = JobTable(database)
    table.apply(plan_of(planned("<!channel>", "t")))
    table.start()
    with Answering(lambda asked: Answer()) as server:
        send_all(database, Slack(to="slack", url=server.address), "chat")  # type: ignore[arg-type]
    text = orjson.loads(server.asked[0].body)["text"]
    assert text.startswith("&lt;!channel&gt; of job 1 (digital-twin-brain → digital-twin-brain) is listing\n")


class Mailbox(socketserver.StreamRequestHandler):
    """A mail server that takes every message after the first, for which it has no room."""

    messages: list[str]

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().decode().strip():
            word = line.split()[0].upper()
            if word == "DATA":
                self.wfile.write(b"354 go on\r\n")
                text = "".join(iter(lambda: self.rfile.readline().decode(), ".\r\n"))
                self.messages.append(text)
                self.wfile.write(b"452 no room\r\n" if len(self.messages) == 1 else b"250 kept\r\n")
            else:
                self.wfile.write(b"221 bye\r\n" if word == "QUIT" else b"250 ok\r\n")
            if word == "QUIT":
                return


@contextmanager
def mailbox() -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Mailbox,), {"messages": []})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"smtp://127.0.0.1:{server.server_address[1]}", handler.messages  # type: ignore[attr-defined]
        server.shutdown()


def test_a_message_that_the_mail_server_had_no_room_for_is_sent_again_under_its_id(table: JobTable) -> None:
    wait_for("job.running", table.database)
    table.start()
    with mailbox() as (server, messages):
        receiver = Email(to="email", server=server, sender="fleet@example.com", recipients=("ops@example.com",))  # type: ignore[arg-type]
        send_all(table.database, receiver)
        assert waiting(table.database)[0].answer == "SMTPDataError"
        make_due(table.database)
        send_all(table.database, receiver)
    ids = [line for text in messages for line in text.splitlines() if line.startswith("Message-ID:")]
    assert len(ids) == 2 and ids[0] == ids[1]
    assert "Subject: vecfleet: job 1" in messages[1] and queued(table.database) == []
