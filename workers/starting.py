"""Needs of a process before it begins. If something is missing, it ends with a sentence and takes nothing.

A job table that is away is waited for; one that this version cannot use is not.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import click
import structlog
from celery.utils.nodenames import node_format

from orchestrator.bootstrap import Fleet
from orchestrator.core.states import QUEUES
from orchestrator.queue import without_address
from orchestrator.schema import OUTDATED
from orchestrator.telemetry import logs
from vecfleet.errors import BadInput, Refused, Unreachable, VecfleetError
from vecfleet.settings import Settings

log = structlog.get_logger("vecfleet.worker")


def require_broker_address() -> None:
    """End a command of Celery's before it looks for a broker that nobody named; who only imports the app goes on."""
    if click.get_current_context(silent=True) is not None and Settings.load().wake_ups is None:
        _end(without_address())


def require_all(sender: str, options: Mapping[str, Any], **_: object) -> None:
    """End a worker that could do no work. A file that was named for its log says why, too: it may be detached."""
    settings = Settings.load()
    error = _unknown_queue(options) or _missing(settings, options.get("pool_cls"))
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
