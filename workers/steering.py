"""Commands of Celery's remote control: one of our own, and three that refuse what Celery would take and not do."""

from collections.abc import Callable
from typing import Any

from celery.concurrency import prefork
from celery.worker.control import Panel, inspect_command, nok

from orchestrator.core.states import QUEUES
from orchestrator.queue import ACCOUNTS
from vecfleet.connections import connections
from vecfleet.errors import BadInput
from vecfleet.settings import Settings


@inspect_command(name=ACCOUNTS)  # type: ignore[untyped-decorator]
def known_accounts(_state: object) -> list[str]:
    """Tell `vecfleet doctor` which named accounts this worker would find; none where its file cannot be used."""
    try:
        return sorted(connections(Settings.load()))
    except BadInput:
        return []


def _of_a_queue_of_ours(command: Callable[..., Any]) -> Callable[..., Any]:
    def steer(state: object, queue: str, **options: Any) -> Any:
        if queue not in QUEUES:
            return nok(f"there is no queue {queue}; it is one of {', '.join(QUEUES)}")
        return command(state, queue, **options)

    return steer


def _of_processes(command: Callable[..., Any]) -> Callable[..., Any]:
    def steer(state: Any, **options: Any) -> Any:
        if not isinstance(state.consumer.pool, prefork.TaskPool):
            return nok("time limits end processes, and this worker has none: start it with `-P prefork`")
        return command(state, **options)

    return steer


def refuse_what_would_do_nothing() -> None:
    """Have workers refuse a queue that the fleet does not have, and a time limit that nothing keeps.

    Celery would make the queue, and say of both that all is well.
    """
    for name in ("add_consumer", "cancel_consumer"):
        Panel.data[name] = _of_a_queue_of_ours(Panel.data[name])
    Panel.data["time_limit"] = _of_processes(Panel.data["time_limit"])
