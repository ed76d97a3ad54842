"""The audit log: one JSON object a line, for the application's own records. Neither texts nor vectors are kept."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson
import structlog

_log = structlog.get_logger("vecfleet.tenancy.audit")


class TenantAuditLogger:
    """Appends to a file, whole lines at a time and readable by its owner alone; without a file, to the log."""

    def __init__(self, path: Path | str | None = None, clock: Callable[[], datetime] | None = None) -> None:
        self._path = Path(path) if path is not None else None
        self._clock = clock or (lambda: datetime.now(UTC))
        self._lock = threading.Lock()

    def log_vector_query(
        self, *, user_id: str, creator_id: str, twin_id: str | None = None, results: int = 0, **details: object
    ) -> None:
        self._write(
            "vector_query", "INFO", user_id=user_id, creator_id=creator_id, twin_id=twin_id, results=results, **details
        )

    def log_isolation_violation(self, *, user_id: str, requested: str, **details: object) -> None:
        """Log that somebody asked for another's records, and did not get them."""
        self._write("isolation_violation", "HIGH", user_id=user_id, requested=requested, blocked=True, **details)

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
            "INFO",
            user_id=user_id,
            creator_id=creator_id,
            twin_id=twin_id,
            gdpr_request=gdpr_request,
            **details,
        )

    def log_admin_access(self, *, user_id: str, requested: str, **details: object) -> None:
        self._write("admin_access", "MEDIUM", user_id=user_id, requested=requested, **details)

    def _write(self, event: str, severity: str, **fields: object) -> None:
        entry = {"at": self._clock().isoformat(), "event": event, "severity": severity, **fields}
        if self._path is None:
            _log.info(event, severity=severity, **fields)
            return
        line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            with self._path.open("ab", buffering=0) as file:
                file.write(line)
