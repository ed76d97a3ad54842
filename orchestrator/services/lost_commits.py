"""Notice that the job table lost commits: compare its count of looks with the count that dispatchers remember.

Dispatchers remember the number of the newest look at the job table (`orchestrator.ledger.continuity`): in the process
at every look, and once a second in Redis and in the state folder, for later dispatchers. A remembered number belongs to
a committed look, so a job table with a smaller count is an older copy.
"""

import time
from pathlib import Path
from typing import cast

import orjson
import structlog
from redis import Redis
from redis.exceptions import RedisError

from orchestrator.ledger.continuity import Look

_KEY, FILE = "vecfleet:continuity", "continuity.json"
_PATIENCE_S = 0.5
_NOTED_EVERY_S = 1.0
_AFTER_AN_OUTAGE_S = 10.0

log = structlog.get_logger("vecfleet.continuity")


def lost(look: Look, highest: int) -> str | None:
    """Say in a sentence why commits seem lost; None if they do not. `highest`: the number remembered elsewhere.

    A restart loses no commit. A fail-over loses none if commits waited for the standby, which then has all of them.
    """
    if look.sequence <= highest:
        how = f"it has counted {look.sequence - 1:,} looks of dispatchers, and {highest:,} were made"
    elif look.server.is_other_system_than(look.server_before):
        how = "another Postgres answers in the place of the one before (its system identifier differs)"
    elif look.server.is_other_timeline_than(look.server_before) and not look.synchronous:
        how = "a standby that commits did not wait for was promoted, or a backup restored (its timeline differs)"
    else:
        return None
    return (
        f"the job table may have lost commits: {how}. Acts after {look.looked_before:%Y-%m-%d %H:%M:%S} UTC may be "
        "missing in it: see docs/what-if.md, repeat the acts of people since then (cutover, reverse, forget), and "
        "resume; every record is read again before anything is deleted"
    )


class Remembered:
    """The newest look at each job table, as known in this process, in Redis and in a folder."""

    def __init__(self, redis_url: str | None = None, folder: Path | None = None) -> None:
        self._redis = (
            Redis.from_url(redis_url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S)
            if redis_url is not None
            else None
        )
        self._file = folder / FILE if folder is not None else None
        self._highest: dict[str, int] = {}
        self._next_note = float("-inf")

    def knows(self, look: Look) -> bool:
        """Say whether this look directly follows this process's last one, on the same server."""
        return look.server == look.server_before and 0 < self._highest.get(look.lineage, 0) < look.sequence

    def highest(self, lineage: str) -> int:
        """Return the highest number known here, in Redis and in the folder; 0 if there is none."""
        return max(self._highest.get(lineage, 0), self._in_redis(lineage), self._in_folder().get(lineage, 0))

    def note(self, lineage: str, sequence: int) -> None:
        """Remember a committed look. Skip a place that does not answer, because one place is enough."""
        self._highest[lineage] = max(sequence, self._highest.get(lineage, 0))
        now = time.monotonic()
        if now < self._next_note:
            return
        places = self._to_folder(lineage, sequence), self._to_redis(lineage, sequence)
        self._next_note = now + (_NOTED_EVERY_S if all(places) else _AFTER_AN_OUTAGE_S)

    def _to_redis(self, lineage: str, sequence: int) -> bool:
        try:
            if self._redis is not None:
                self._redis.hset(_KEY, lineage, str(sequence))
        except RedisError as error:
            log.warning("looks at the job table are not remembered in Redis", why=type(error).__name__)
            return False
        return True

    def _to_folder(self, lineage: str, sequence: int) -> bool:
        """Replace the file in one step, so that it is always either the old or the new one."""
        if self._file is None:
            return True
        unfinished = self._file.with_suffix(".unfinished")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(orjson.dumps({**self._in_folder(), lineage: sequence}))
            unfinished.replace(self._file)
        except OSError as error:
            log.warning("looks at the job table are not remembered in the state folder", why=type(error).__name__)
            return False
        return True

    def _in_redis(self, lineage: str) -> int:
        if self._redis is None:
            return 0
        try:
            return int(cast(bytes | None, self._redis.hget(_KEY, lineage)) or 0)
        except RedisError as error:
            log.warning("Redis does not say which look at the job table was the last", why=type(error).__name__)
            return 0

    def _in_folder(self) -> dict[str, int]:
        if self._file is None:
            return {}
        try:
            numbers: dict[str, int] = orjson.loads(self._file.read_bytes())
        except (OSError, orjson.JSONDecodeError):  # there is no file yet, or we may not read it
            return {}
        return numbers
