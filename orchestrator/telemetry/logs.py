"""Logs: events on stderr or in a file, for people or as JSON, from our code and the libraries.

Keys, tokens, passwords, record ids and metadata never reach them, at any level. Tracebacks show no local variables,
which hold records and keys. Libraries that log requests or statements log from WARNING on. Each line is then searched
for every secret in the settings. Errors are reported to Sentry besides, where SENTRY_DSN is set.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote, urlsplit

import structlog
from pydantic import SecretStr

from orchestrator.telemetry import error_reports
from vecfleet.logs import EVENT_AND_FIELDS
from vecfleet.settings import Settings

# Below WARNING these log our own events, and the start and end of tasks. Other libraries log requests, statements with
# their parameters, and payloads.
_TELL_ALL = ("vecfleet", "celery")
# Its warnings quote the address of a request, which holds the requested ids.
_TELL_ERRORS = ("urllib3",)
# A shorter secret looks like any other word, and hiding it would help to guess it.
_SHORTEST_SECRET = 8
_HIDDEN = "**********"


def configure(settings: Settings, level: int | str | None = None, file: str | None = None) -> None:
    """Set up logging for this process, at LOG_LEVEL unless another level is given. Safe to repeat.

    `file` is appended to, so that several processes may share it.
    """
    stream = Path(file).open("a", buffering=1, encoding="utf-8") if file else sys.stderr  # noqa: SIM115 - open to the end
    least = level if isinstance(level, int) else logging.getLevelNamesMapping()[level or settings.log_level]
    before: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if (report := error_reports.start(settings)) is not None:
        before.append(report)
    after = [*_renderers(settings, stream), _hiding(secrets_of(settings))]
    structlog.configure(
        processors=[*before, *after],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_with_fields, structlog.stdlib.add_logger_name, *before],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *after],
        )
    )
    handler.addFilter(_may_be_told)
    logging.basicConfig(handlers=[handler], level=least, force=True)


def secrets_of(settings: Settings) -> list[str]:
    """Return every secret of these settings and every password inside an address, the longest first."""
    secrets: set[str] = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            secret = value.get_secret_value()
            password = urlsplit(secret).password or ""
            secrets |= {secret, password, unquote(password)}
    return sorted((text for text in secrets if len(text) >= _SHORTEST_SECRET), key=len, reverse=True)


def _renderers(settings: Settings, stream: TextIO) -> list[structlog.types.Processor]:
    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]


def _hiding(secrets: list[str]) -> Callable[..., str]:
    def hide(_: object, __: str, line: str) -> str:
        for secret in secrets:
            line = line.replace(secret, _HIDDEN)
        return line

    return hide


def _with_fields(_: object, __: str, told: structlog.types.EventDict) -> structlog.types.EventDict:
    """Take the event and the fields of a line of the library apart again, so that it looks like one of ours."""
    told.update(getattr(told["_record"], EVENT_AND_FIELDS, {}))
    return told


def _may_be_told(record: logging.LogRecord) -> bool:
    name = record.name.partition(".")[0]
    if name in _TELL_ALL:
        return True
    return record.levelno >= (logging.ERROR if name in _TELL_ERRORS else logging.WARNING)
