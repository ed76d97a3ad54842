"""`vecfleet notices` shows who is told, what waits, and sends it again; `status` shows the hook that holds a job."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from terminal import Vecfleet

from orchestrator.core.hooks import Hook
from orchestrator.ledger import hooks, notices
from orchestrator.ledger import tables as t
from orchestrator.services import hooks as asking
from orchestrator.services.hook_calls import answer_next
from orchestrator.services.hooks_file import CommandHook
from tests.contracts.answering import Answer, Answering


def test_what_was_given_up_is_shown_and_sent_again(vecfleet: Vecfleet, table: JobTable) -> None:
    # Given nobody who is told, then a receiver that was given up
    nobody = vecfleet("notices")
    assert nobody.code == 0 and "nobody is notified" in nobody.out
    with table.begin() as connection:
        notices.subscribe(connection, {"ops": ["job"]})
    table.apply(plan_of(planned("s", "t")))
    with table.begin() as connection:
        connection.execute(sa.update(t.notice).values(due_at=None, attempts=100, answer="HTTP 500"))

    shown = vecfleet("notices")
    assert "ops" in shown.out and "HTTP 500" in shown.out and "vecfleet notices --again" in shown.out
    assert "next: vecfleet notices --test ops" in shown.out

    # When a person sends it again, then it waits to be sent
    again = vecfleet("notices", "--again", "--json").json
    assert again["made_due"] == 1
    [row] = again["receivers"]
    assert (row["receiver"], row["waiting"], row["given_up"]) == ("ops", 1, 0)


def test_a_receiver_is_tried_before_the_first_thing_happens(
    vecfleet: Vecfleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hooks.toml"
    monkeypatch.setenv("VECFLEET_HOOKS", str(file))
    statuses = iter((200, 410))
    with Answering(lambda _: Answer(next(statuses))) as chat:
        file.write_text(f'[notices.ops]\nto = "slack"\nurl = "{chat.address}/T0"\n')
        file.chmod(0o600)
        # Given a receiver that takes it, then one that does not, then none of that name
        taken, gone, absent = (vecfleet("notices", "--test", name) for name in ("ops", "ops", "oops"))
    assert taken.code == 0 and "ops accepted a made-up notice" in taken.out
    assert b"a person tries the receiver" in chat.asked[0].body
    assert gone.code == 4 and "ops did not take it: HTTP 410" in gone.err and "/T0" not in gone.err
    assert absent.code == 2 and "it names: ops" in absent.err


def test_what_a_hook_said_is_shown_with_the_command_that_asks_it_again(
    vecfleet: Vecfleet, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a hook of the operator's, and a person who does not wait for it
    monkeypatch.setattr(asking, "_WAITS_S", 0.0)
    table.apply(plan_of(planned("s", "t"), cut_over="operator"))
    table.verified()
    with table.begin() as connection:
        hooks.declare(connection, {Hook.BEFORE_CUT_OVER: 30.0})
    again = f"vecfleet cutover {table.job_id} --percent 25"

    asked = vecfleet("cutover", str(table.job_id), "--percent", "25")
    assert asked.code == 3 and "asks the hook before-cut-over at 25 %" in asked.err and again in asked.err

    # When it refuses
    refusing = CommandHook(command=("/bin/sh", "-c", "echo frozen until Monday; exit 1"))
    answer_next(table.database, Hook.BEFORE_CUT_OVER, refusing)

    # Then whoever looks sees why, and what to type
    shown = vecfleet("status", str(table.job_id))
    assert "held by the hook before-cut-over at 25 %: frozen until Monday" in shown.out
    assert f"next: {again}" in shown.out
