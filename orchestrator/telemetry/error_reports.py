"""Reports of errors to Sentry, where SENTRY_DSN is set: each line that this process logs as an error.

A report is made of what cannot quote a record: the sentence of our own line, which is a constant; numbers of job and
batch; the class of an exception and the lines of code that it passed, without its words and without local variables.
Of a library's line only the logger and the function are told.
"""

import sys
from typing import TYPE_CHECKING, Any

import structlog

from vecfleet import __version__
from vecfleet.logs import EVENT_AND_FIELDS
from vecfleet.settings import Settings

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

_TOLD = ("job", "batch", "kind", "attempt", "error")
_LEVELS = ("error", "critical")
_OF_AN_EVENT = (
    *("event_id", "timestamp", "level", "platform", "release", "environment", "server_name", "sdk"),
    *("logger", "message", "tags"),
)
_OF_A_FRAME = ("filename", "abs_path", "module", "function", "lineno", "pre_context", "context_line", "post_context")


def start(settings: Settings) -> structlog.types.Processor | None:
    """Return what reports the errors among a logger's lines; None if nothing is configured. Safe to repeat."""
    if settings.sentry_dsn is None:
        return None
    from orchestrator.telemetry.tracing import not_installed

    try:
        import sentry_sdk
        from sentry_sdk.integrations.atexit import AtexitIntegration
        from sentry_sdk.integrations.excepthook import ExcepthookIntegration
        from sentry_sdk.integrations.threading import ThreadingIntegration
    except ImportError as error:
        raise not_installed("SENTRY_DSN") from error
    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        release=f"vecfleet@{__version__}",
        before_send=_cleared,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[AtexitIntegration(lambda *_: None), ExcepthookIntegration(), ThreadingIntegration()],
        include_local_variables=False,
        send_default_pii=False,
        auto_session_tracking=False,
        send_client_reports=False,
        max_breadcrumbs=0,
    )
    return _report


def _report(_: object, __: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    """Report a line if it is an error, and pass it on as it is."""
    if line.get("level") in _LEVELS:
        import sentry_sdk
        from sentry_sdk.utils import event_from_exception

        record: Any = line.get("_record")
        is_ours = record is None or hasattr(record, EVENT_AND_FIELDS)
        exception = _exception(line.get("exc_info"))
        event: dict[str, Any] = event_from_exception(exception)[0] if exception is not None else {}  # type: ignore[assignment]
        event["level"] = "fatal" if line["level"] == "critical" else "error"
        event["logger"] = "vecfleet" if record is None else record.name
        event["message"] = str(line["event"]) if is_ours else f"an error in {record.name}.{record.funcName}"
        event["tags"] = {name: str(line[name]) for name in _TOLD if name in line} if is_ours else {}
        sentry_sdk.capture_event(event)  # type: ignore[arg-type]
    return line


def _exception(said: object) -> Any:
    """Return what a line says of its exception as Sentry takes it."""
    if isinstance(said, BaseException):
        return type(said), said, said.__traceback__
    current = sys.exc_info() if said is True else said
    return current if isinstance(current, tuple) and current[0] is not None else None


def _cleared(event: "Event", _: "Hint") -> "Event":
    """Return the event with nothing in it but what is listed here, whoever made it."""
    whole: dict[str, Any] = dict(event)
    kept: dict[str, Any] = {name: whole[name] for name in _OF_AN_EVENT if name in whole}
    exceptions = (whole.get("exception") or {}).get("values") or []
    if exceptions:
        kept["exception"] = {"values": [_without_words(exception) for exception in exceptions]}
    return kept  # type: ignore[return-value]


def _without_words(exception: dict[str, Any]) -> dict[str, Any]:
    frames = (exception.get("stacktrace") or {}).get("frames") or []
    told = [{name: frame[name] for name in _OF_A_FRAME if name in frame} for frame in frames]
    return {"type": exception.get("type"), "module": exception.get("module"), "stacktrace": {"frames": told}}
