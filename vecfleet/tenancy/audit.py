"""The audit log: one JSON object a line, for the application's own records. Neither texts nor vectors are kept."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson

from vecfleet import logs
from vecfleet.errors import BadInput

_log = logs.get_logger("vecfleet.tenancy.audit")

INFO, MEDIUM, HIGH = "INFO", "MEDIUM", "HIGH"


class TenantAuditLogger:
    """Appends to a file, whole lines at a time and readable by its owner alone; without a file, to `logging`.

    There the lines are of the logger `vecfleet.tenancy.audit`: a violation is a warning, all else information.
    """

    def __init__(self, path: Path | str | None = None, clock: Callable[[], datetime] | None = None) -> None:
        self._path = Path(path) if path is not None else None
        self._clock = clock or (lambda: datetime.now(UTC))
        self._lock = threading.Lock()

    def log_vector_query(self, *, user_id: str, creator_id: str, twin_id: str | None = None, **details: object) -> None:
        self._write("vector_query", INFO, user_id=user_id, creator_id=creator_id, twin_id=twin_id, **details)

    def log_isolation_violation(
        self, *, user_id: str, requested: str | None = None, attempted_creator_id: object = None, **details: object
    ) -> None:
        """Log that somebody asked for another's records, and did not get them. Name what was asked for either way."""
        asked = _asked(requested, attempted_creator_id=attempted_creator_id)
        self._write("isolation_violation", HIGH, user_id=user_id, **asked, blocked=True, **details)

    def log_data_deletion(
        self,
        *,
        user_id: str,
        creator_id: str,
        twin_id: str | None = None,
        gdpr_request: bool = True,
        **details: object,
    ) -> None:
        self._write(
            "data_deletion",
            INFO,
            user_id=user_id,
            creator_id=creator_id,
            twin_id=twin_id,
            gdpr_request=gdpr_request,
            **details,
        )

    def log_admin_access(
        self,
        *,
        user_id: str | None = None,
        requested: str | None = None,
        admin_id: object = None,
        accessed_creator_id: object = None,
        **details: object,
    ) -> None:
        asked = _asked(requested, accessed_creator_id=accessed_creator_id)
        self._write("admin_access", MEDIUM, user_id=user_id or admin_id, **asked, **details)

    def _write(self, event: str, severity: str, **fields: object) -> None:
        entry = {"at": self._clock().isoformat(), "event": event, "severity": severity, **fields}
        if self._path is None:
            (_log.warning if severity == HIGH else _log.info)(event, severity=severity, **fields)
            return
        line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            with self._path.open("ab", buffering=0) as file:
                file.write(line)


def _asked(requested: str | None, **creators: object) -> dict[str, object]:
    """Return what was asked for, in our words or as the seeds name it, by its creator. Raises BadInput without."""
    named = {name: creator for name, creator in creators.items() if creator is not None}
    if requested is None and not named:
        raise BadInput("the audit line does not say what was asked for", next_step="give `requested`")
    asked = requested or " and ".join(f"creator {creator!r}" for creator in named.values())
    return {"requested": asked, **named}
