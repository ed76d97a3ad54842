"""Bearer tokens in one JSON file that only its owner may read: as hashes, each with an end, each its own identity.

Unreadable content lets nobody in: a missing file, one that is no JSON, an entry that makes no sense. Several processes
share the file; a change is seen at the next request.
"""

import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from vecfleet import logs
from vecfleet.errors import BadInput, NotFound
from vecfleet.names import meant
from vecfleet.tenancy.guard import creators_of

log = logs.get_logger("vecfleet.tenancy")

User = Mapping[str, Any]
"""The mapping that `TenantGuard` takes: `id`, `email`, `role`, the creators; and `token`, the sent token's name."""

FILE = "tokens.json"  # under VECFLEET_HOME
LASTS_DAYS = 90
TOKEN_BYTES = 32  # 256 bits of chance need no slow hash
_NAME_CHARS = 8  # of the hash: names a token, and opens nothing
_NOTED_EVERY = timedelta(minutes=1)  # a use is written down at most so often
_STAMPS = ("made", "expires", "last_used")
_CREATORS = ("creator_ids", "creator_id", "tenant_id")


@dataclass(frozen=True, slots=True)
class Token:
    """The facts about a token, for people to read. `expires` is None for one from before tokens had an end."""

    name: str
    user: str
    role: str
    creators: tuple[str, ...]
    made: datetime | None
    expires: datetime | None
    last_used: datetime | None


class TokenFile:
    """Users by the SHA-256 of their tokens."""

    def __init__(self, path: Path | str, clock: Callable[[], datetime] | None = None) -> None:
        self._path = Path(path)
        self._clock = clock or (lambda: datetime.now(UTC))
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int, int] | None = None
        self._entries: dict[str, dict[str, Any]] = {}

    def user(self, token: str) -> User | None:
        """Return the user of this token; None for one that is not known, was revoked, or has ended."""
        return self.by_digest(digest(token))

    def by_digest(self, wanted: str) -> User | None:
        """Return the user as `user` does, for a caller that kept the hash alone."""
        entry = self._current().get(wanted)
        now = self._clock()
        if entry is None or not _valid(entry, now):
            return None
        used = _moment(entry.get("last_used"))
        if used is None or now - used >= _NOTED_EVERY:
            self._note_use(wanted, now)
        return {key: value for key, value in entry.items() if key not in _STAMPS} | {"token": wanted[:_NAME_CHARS]}

    def users(self) -> list[User]:
        """Return the users of the valid tokens."""
        now = self._clock()
        return [entry for entry in self._current().values() if _valid(entry, now)]

    def create(self, user: User, days: float = LASTS_DAYS) -> str:
        """Make a token for this user. It is given back this once; the file keeps its hash. Raises BadInput."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now = self._clock()
        stamps = {"made": _text(now), "expires": _text(now + timedelta(days=days))}
        with self._changing() as entries:
            entries[digest(token)] = {**user, **stamps}
        return token

    def every(self) -> list[Token]:
        """Return all tokens, also those that ended, the oldest first. Raises BadInput if the file is unreadable."""
        tokens = [_token(key, entry) for key, entry in self._read().items()]
        return sorted(tokens, key=lambda token: (token.made or datetime.min.replace(tzinfo=UTC), token.name))

    def revoke(self, name: str) -> Token:
        """Take out the token of this name; its holder is refused from the next request on. Raises NotFound."""
        with self._changing() as entries:
            named = [key for key in entries if key[:_NAME_CHARS] == name]
            if not named:
                there = {key[:_NAME_CHARS] for key in entries}
                raise NotFound(f"there is no token {name!r}{meant(name, there)}", next_step="vecfleet token list")
            ended = [_token(key, entries.pop(key)) for key in named]
        return ended[0]

    def forget(self, creator: str) -> int:
        """Take an erased creator out. A token that reached nobody else goes. Returns how many tokens it was in."""
        if not self._path.exists():
            return 0
        with self._changing() as entries:
            concerned = {key: entry for key, entry in entries.items() if creator in creators_of(entry)}
            for key, entry in concerned.items():
                left = {name: value for name, value in entry.items() if name not in _CREATORS}
                left["creator_ids"] = sorted(creators_of(entry) - {creator})
                if left["creator_ids"] or left.get("role", "user") != "user":
                    entries[key] = left
                else:
                    del entries[key]
        return len(concerned)

    def _current(self) -> dict[str, dict[str, Any]]:
        """Return the entries as the file has them now; none if it cannot be read."""
        try:
            stat = self._path.stat()
            # The time of the last change of its rights, too: who may not read it any more lets nobody in.
            version = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
            with self._lock:
                if version != self._seen:
                    self._entries, self._seen = self._read(), version
                return self._entries
        except FileNotFoundError:
            pass
        except (OSError, BadInput) as error:
            log.error("nobody is let in: the file of tokens cannot be read", why=str(error))
        with self._lock:
            self._entries, self._seen = {}, None
            return self._entries

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            entries = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, orjson.JSONDecodeError) as error:
            raise self._unusable(type(error).__name__) from error
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise self._unusable("it holds something else")
        return entries

    def _unusable(self, why: str) -> BadInput:
        step = f"make {self._path.name} readable again, or move it away and make its tokens anew"
        return BadInput(f"the file of tokens {self._path.name} cannot be read: {why}", next_step=step)

    @contextmanager
    def _changing(self, *, wait: bool = True) -> Iterator[dict[str, dict[str, Any]]]:
        """Change the entries, one process at a time; the file is replaced whole, or not at all."""
        locked = self._locked(wait=wait)
        try:
            entries = self._read()
            yield entries
            body = orjson.dumps(entries, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
            _written(self._path.with_suffix(".new"), body).replace(self._path)
        finally:
            os.close(locked)

    def _locked(self, *, wait: bool) -> int:
        """Lock the file as it is now, even if it was replaced during the wait. A new one holds no tokens."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            if not self._path.exists():
                made = _written(self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}"), b"{}")
                with suppress(FileExistsError):  # another process was first: the whole of its file is there
                    os.link(made, self._path)
                made.unlink()
            locked = os.open(self._path, os.O_RDONLY)
            try:
                fcntl.flock(locked, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                if os.fstat(locked).st_ino == self._path.stat().st_ino:
                    return locked
            except OSError:
                os.close(locked)
                raise
            os.close(locked)

    def _note_use(self, key: str, now: datetime) -> None:
        # The note of a use decides nothing: a folder that is read-only, or busy, keeps nobody out.
        with suppress(OSError, BadInput), self._changing(wait=False) as entries:
            if key in entries:
                entries[key]["last_used"] = _text(now)


def _written(path: Path, body: bytes) -> Path:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(body)
    return path


def digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def name_of(token: str) -> str:
    """Return the name of a token in lists and records. It opens nothing."""
    return digest(token)[:_NAME_CHARS]


def _valid(entry: Mapping[str, Any], now: datetime) -> bool:
    if "expires" not in entry:
        return True
    expires = _moment(entry["expires"])
    return expires is not None and now < expires


def _token(key: str, entry: Mapping[str, Any]) -> Token:
    user, role = str(entry.get("id", "")), str(entry.get("role", "user"))
    made, expires, used = (_moment(entry.get(stamp)) for stamp in _STAMPS)
    return Token(key[:_NAME_CHARS], user, role, tuple(sorted(creators_of(entry))), made, expires, used)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _moment(text: object) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return parsed if parsed is None or parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
