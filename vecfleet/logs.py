"""The library's own log, through the standard `logging`: an application's handlers and levels apply to it.

A line is the event and its fields as JSON. The fields also travel beside it, so that a process of the fleet renders
them as it renders its own.
"""

import logging
from collections.abc import MutableMapping
from typing import Any, cast

import orjson
import structlog

EVENT_AND_FIELDS = "vecfleet_event"
"""The attribute of a `logging.LogRecord` that holds both, unrendered."""


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger of this name. It follows the configuration of `logging`, and none of structlog's."""
    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _as_line],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return cast(structlog.stdlib.BoundLogger, logger)


def _as_line(_: object, __: str, told: MutableMapping[str, Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    event = str(told["event"])
    fields = {name: value for name, value in told.items() if name != "event"}
    line = f"{event} {orjson.dumps(fields, default=str).decode()}" if fields else event
    return ("%s", line), {"extra": {EVENT_AND_FIELDS: {"event": event, **fields}}}
