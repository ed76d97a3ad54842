"""Needs of a process before it begins. If something is missing, it ends with a sentence and takes nothing.

A job table that is away is waited for; one that this version cannot use is not.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import click
import structlog
from celery.bin.worker import Autoscale, WorkersPool
from celery.bin.worker import worker as command
from celery.concurrency import prefork
from celery.utils.nodenames import node_format

from orchestrator.bootstrap import Fleet
from orchestrator.core.states import QUEUES
from orchestrator.queue import without_address
from orchestrator.schema import OUTDATED
from orchestrator.telemetry import logs
from vecfleet.errors import BadInput, Refused, Unreachable, VecfleetError
from vecfleet.settings import Settings

_LIMITS = ("time_limit", "soft_time_limit", "max_tasks_per_child", "max_memory_per_child")

log = structlog.get_logger("vecfleet.worker")


class _Pool(WorkersPool):  # type: ignore[misc]
    """Celery's option `-P`. Celery itself takes `-P prefork` for the pool of the app's settings, which is threads."""

    def convert(self, value: Any, *of: Any) -> Any:
        return super().convert("processes" if value == "prefork" else value, *of)


class _Room(Autoscale):  # type: ignore[misc]
    """Celery's option `--autoscale`. Celery takes `--autoscale=4` for 4 to 0, which threads cannot."""

    def convert(self, value: Any, *of: Any) -> Any:
        most, least = super().convert(value, *of)
        return most, max(least, 1)


def set_options() -> None:
    """Have `celery worker -P prefork` start processes, no `-P` start threads, and `--autoscale=4` mean 4 to 1."""
    options = {option.name: option for option in command.params}
    options["pool"].type, options["pool"].default = _Pool(), "threads"
    options["autoscale"].type = _Room()


def require_broker_address() -> None:
    """End a command of Celery's before it looks for a broker that nobody named; who only imports the app goes on."""
    if click.get_current_context(silent=True) is not None and Settings.load().wake_ups is None:
        _end(without_address())


def require_all(sender: str, options: Mapping[str, Any], **_: object) -> None:
    """End a worker that could do no work. A file that was named for its log says why, too: it may be detached."""
    settings = Settings.load()
    pool = options.get("pool") or options.get("pool_cls")  # as typed; as `app.Worker(pool_cls=…)` names it
    error = _unknown_queue(options) or _unkept_limit(options, pool) or _missing(settings, pool)
    if error is None:
        return
    if options.get("logfile"):
        logs.configure(settings, file=node_format(options["logfile"], sender))
        log.error(error.message, next=error.next_step)
    _end(error)


def _unknown_queue(options: Mapping[str, Any]) -> BadInput | None:
    """Return why `-Q` or `-X` cannot be meant: Celery would make a new queue of a mistyped name, and wait there."""
    typed = {name for option in ("queues", "exclude_queues") for name in options.get(option) or ()}
    if unknown := sorted(typed - {*QUEUES}):
        return BadInput(
            f"there is no queue {', '.join(unknown)}", next_step=f"give `-Q` and `-X` one of {', '.join(QUEUES)}"
        )
    return None


def _unkept_limit(options: Mapping[str, Any], pool: object) -> BadInput | None:
    """Return which limit of processes was typed for a pool that has none: Celery would take it and keep nothing."""
    typed = [f"--{name.replace('_', '-')}" for name in _LIMITS if options.get(name)]
    if not typed or (isinstance(pool, type) and issubclass(pool, prefork.TaskPool)):
        return None
    return BadInput(
        f"{', '.join(typed)} limits processes, and this worker would have none",
        next_step="leave it out, or add `-P prefork`; REQUEST_DEADLINE_SECONDS and LEASE_SECONDS limit threads",
    )


def _missing(settings: Settings, pool: object) -> VecfleetError | None:
    # gRPC would hold up every greenlet while it waits, the renewal of leases too.
    if getattr(pool, "is_green", False):
        return BadInput(
            "vecfleet does not run on greenlets (gevent, eventlet)", next_step="leave `--pool` out, for threads"
        )
    if settings.redis_url is None:
        return without_address()
    try:
        Fleet(settings).database.dispose()
    except Unreachable as error:
        return error if error.code == OUTDATED else None
    except (BadInput, Refused) as error:
        return error
    return None


def _end(error: VecfleetError) -> NoReturn:
    raise SystemExit(f"{error.message}\nnext: {error.next_step}")
