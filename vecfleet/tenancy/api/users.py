"""Who asks: bearer tokens that are kept as hashes, or any dependency of the application that gives a user."""

import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from vecfleet.errors import BadInput
from vecfleet.tenancy.api.problems import Refusal

User = Mapping[str, Any]
"""`id`, `email`, `role`, and `creator_ids`, `creator_id` or `tenant_id`: what `TenantGuard` takes."""

TOKEN_BYTES = 32  # 256 bits of chance need no slow hash
_SCHEME = HTTPBearer(auto_error=False, description="A token made by `vecfleet token create`.")


class TokenFile:
    """Users by the SHA-256 of their tokens, in a JSON file that only its owner may read. A change is seen at once."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._users: dict[str, User] = {}

    def user(self, token: str) -> User | None:
        """Whose token this is, or None."""
        self._read()
        return self._users.get(_digest(token))

    def create(self, user: User) -> str:
        """Make a token for this user. It is given back this once; the file keeps its hash."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._read()
        with self._lock:
            self._users[_digest(token)] = dict(user)
            self._write()
        return token

    def _write(self) -> None:
        body = orjson.dumps(self._users, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(body)
        temporary.replace(self._path)

    def _read(self) -> None:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return
        version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        with self._lock:
            if version == self._seen:
                return
            try:
                users = orjson.loads(self._path.read_bytes())
            except orjson.JSONDecodeError as error:
                raise BadInput(
                    f"the file of tokens {self._path.name} is no JSON", next_step="make its tokens anew"
                ) from error
            self._users, self._seen = users, version


def bearer(tokens: TokenFile) -> Callable[..., User]:
    """A dependency that gives the user of the request's bearer token, or refuses with 401."""

    def user(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)]) -> User:
        found = tokens.user(credentials.credentials) if credentials is not None else None
        if found is None:
            raise Refusal(
                401,
                "the request has no valid bearer token",
                next_step="send `Authorization: Bearer …`; `vecfleet token create` makes one",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return found

    return user


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
