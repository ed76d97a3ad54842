"""Delete an erased tenant's traces in Redis: wake-ups under way, the pace of earlier versions, Redis's file on disk."""

import time
from typing import Any

import orjson
from redis import Redis
from redis.exceptions import RedisError

from orchestrator.core.redaction import Words
from orchestrator.core.states import QUEUES
from orchestrator.pace_view import PREFIX

_PATIENCE_S = 5.0
# A rewrite writes some megabytes; a slow disk on a busy machine may need this long.
_REWRITTEN_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05
_NOT_REACHED = "traces in Redis's memory and its append-only file, because Redis {why}: ask for the erasure again"


def forget_in_redis(redis_url: str, words: Words) -> tuple[int, list[str]]:
    """Delete keys and messages that name the tenant, and have the append-only file rewritten.

    Return the number deleted, and sentences about what could not be reached. A deleted wake-up costs nothing: a due
    batch gets another. Safe to repeat. If the process dies at any line, the erasure has no certificate yet, and the
    next one repeats everything.
    """
    try:
        with Redis.from_url(redis_url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S) as client:
            deleted = _delete(client, words)
            return deleted, [] if _rewritten(client) else [_NOT_REACHED.format(why="did not rewrite the file in time")]
    except RedisError as error:
        return 0, [_NOT_REACHED.format(why=f"refused or did not answer ({type(error).__name__})")]


def _delete(client: "Redis", words: Words) -> int:
    deleted = 0
    message: Any  # bytes, because the client does not decode
    for key in client.scan_iter(f"{PREFIX}*", count=1_000):
        if words.spans(key):
            deleted += int(client.delete(key))
    for queue in (f"vecfleet:{name}" for name in QUEUES):
        for message in client.lrange(queue, 0, -1):
            if words.spans(_plain(message)):
                deleted += int(client.lrem(queue, 0, message))
    return deleted


def _plain(message: bytes) -> bytes:
    """Return the message without JSON's escapes, in which a name may hide."""
    try:
        return orjson.dumps(orjson.loads(message))
    except orjson.JSONDecodeError:
        return message


def _rewritten(client: "Redis") -> bool:
    """Have the append-only file rewritten, and say whether that ended in time. True at once if Redis keeps no file."""
    deadline = time.monotonic() + _REWRITTEN_WITHIN_S
    begun = False
    while time.monotonic() < deadline:
        told = client.info("persistence")
        if not told.get("aof_enabled"):
            return True
        busy = told.get("aof_rewrite_in_progress") or told.get("aof_rewrite_scheduled")
        if not busy and begun:
            return bool(told.get("aof_last_bgrewrite_status") == "ok")
        if not busy:
            client.bgrewriteaof()
            begun = True
        time.sleep(_LOOK_EVERY_S)
    return False
