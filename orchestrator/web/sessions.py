"""Sessions of the page: a token becomes a signed cookie, and each form carries a proof that it is ours.

The cookie holds the hash of the token, not the token, and the number of a session that is kept here. Taking a token
out of the file ends its sessions at once. Signing out ends that one session at once, for every copy of its cookie.
"""

import hmac
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from itsdangerous import BadData, Signer, URLSafeTimedSerializer
from pydantic import SecretStr

from orchestrator.core.two_persons import OF_THE_SETTINGS
from vecfleet.errors import Refused
from vecfleet.tenancy.tokens import TokenFile, User, digest

COOKIE = "vecfleet"
SAID = "vecfleet_said"
LASTS_S = 12 * 3_600  # a working day
_SAID_LASTS_S = 30  # long enough for the page that follows an action
_KEY_BYTES = 32
OPERATOR, VIEWER = "operator", "viewer"
_MAY_ACT = frozenset({OPERATOR, "admin"})
_MAY_LOOK = _MAY_ACT | {VIEWER}
_FROM_SETTINGS: User = {"id": OF_THE_SETTINGS, "role": OPERATOR, "creator_ids": []}


@dataclass(frozen=True, slots=True)
class Session:
    """`who` is the name for the audit; `proof` is what a form of this session must carry."""

    who: str
    may_act: bool
    proof: str


class NotSignedIn(Exception):
    """The request comes without a session: without a token or cookie, or with one that opens none any more."""


class MayNotAct(Refused):
    """The person may not do this, whatever state a job is in; nothing was changed."""


class OperatorTokens(TokenFile):
    """The tokens of `vecfleet token create`, and the one operator's token that the settings may name."""

    def __init__(self, path: Path, of_settings: SecretStr | None = None) -> None:
        super().__init__(path)
        self._of_settings = digest(of_settings.get_secret_value()) if of_settings else None

    def who_looks(self, hashed: str) -> User | None:
        """Return the owner of the token with this SHA-256, if they may look at the page."""
        if self._of_settings is not None and hmac.compare_digest(hashed, self._of_settings):
            return _FROM_SETTINGS
        user = self.by_digest(hashed)
        return user if user is not None and user.get("role") in _MAY_LOOK else None

    def any_operator(self) -> bool:
        """Say whether anybody can sign in and act."""
        return self._of_settings is not None or any(user.get("role") in _MAY_ACT for user in self.users())


class Sessions:
    """Makes and reads cookies. Servers that share the folder share the sessions: it holds the key and open sessions.

    `secure`: browsers send the cookies over TLS only, because a proxy in front of this server speaks it.
    """

    def __init__(self, tokens: OperatorTokens, folder: Path, *, secure: bool = False) -> None:
        self._tokens, self._secure = tokens, secure
        self._open = folder / "sessions"
        key = _key(folder / "session.key")
        self._sessions = URLSafeTimedSerializer(key, salt="session")
        self._said = URLSafeTimedSerializer(key, salt="said")
        self._forms = Signer(key, salt="form")

    def sign_in(self, request: Request, response: Response, token: str) -> bool:
        """Set the cookie where the token is an operator's or a viewer's."""
        hashed = digest(token)
        if self._tokens.who_looks(hashed) is None:
            return False
        chance = secrets.token_urlsafe(12)
        self._forget_old()
        self._file(chance).touch(mode=0o600)
        value = self._sessions.dumps({"token": hashed, "chance": chance})
        self._set(response, COOKIE, value, LASTS_S)
        return True

    def sign_out(self, request: Request, response: Response) -> None:
        """End the session of this request, for every copy of its cookie."""
        with suppress(BadData):
            body: Any = self._sessions.loads(request.cookies.get(COOKIE, ""))
            self._file(body["chance"]).unlink(missing_ok=True)
        response.delete_cookie(COOKIE)

    def of(self, request: Request) -> Session | None:
        """Return the session of a request: by its cookie, or by a bearer token, which no form can send."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._session(digest(token.strip()), "")
        try:
            body: Any = self._sessions.loads(request.cookies.get(COOKIE, ""), max_age=LASTS_S)
        except BadData:
            return None
        if not self._file(body["chance"]).exists():
            return None
        return self._session(body["token"], self._forms.get_signature(body["chance"]).decode())

    def _session(self, hashed: str, proof: str) -> Session | None:
        user = self._tokens.who_looks(hashed)
        if user is None:
            return None
        who = f"{user['id']} ({user['token']})" if "token" in user else str(user["id"])
        return Session(who, user["role"] in _MAY_ACT, proof)

    def _file(self, chance: str) -> Path:
        """Return the file of an open session: it is empty, and its name opens nothing."""
        self._open.mkdir(mode=0o700, exist_ok=True)
        return self._open / digest(chance)

    def _forget_old(self) -> None:
        if self._open.is_dir():
            for file in self._open.iterdir():
                with suppress(FileNotFoundError):
                    if time.time() - file.stat().st_mtime > LASTS_S:
                        file.unlink()

    def say(self, response: Response, text: str) -> None:
        """Show this once, on the next page."""
        self._set(response, SAID, str(self._said.dumps(text)), _SAID_LASTS_S)

    def said(self, request: Request) -> str | None:
        """Return the message of the last action. The caller that shows it deletes the cookie SAID."""
        try:
            return str(self._said.loads(request.cookies.get(SAID, ""), max_age=_SAID_LASTS_S))
        except BadData:
            return None

    def _set(self, response: Response, name: str, value: str, lasts_s: int) -> None:
        response.set_cookie(name, value, max_age=lasts_s, httponly=True, samesite="strict", secure=self._secure)


def ours(request: Request) -> bool:
    """Say whether a form was sent from a page of ours, as far as the browser tells."""
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def from_elsewhere(request: Request) -> bool:
    """Say whether a page of another site began this request, as far as the browser tells."""
    told = request.headers.get("sec-fetch-site")
    if told is not None:
        return told == "cross-site"
    referrer = urlsplit(request.headers.get("referer", "")).hostname  # all that browsers tell without TLS
    return referrer is not None and referrer != request.url.hostname


def proven(session: Session, proof: str) -> bool:
    """Say whether the form carries the proof of this session."""
    return bool(session.proof) and hmac.compare_digest(session.proof.encode(), proof.encode("utf-8", "replace"))


def _key(file: Path) -> str:
    """Return the key that signs cookies: made once, readable by its owner alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        made = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(secrets.token_urlsafe(_KEY_BYTES))
        with suppress(FileExistsError):  # another server was first, and its key is complete
            os.link(made, file)
        made.unlink()
    return file.read_text()
