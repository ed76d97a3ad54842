"""The file of VECFLEET_HOOKS: who is told of changes of state, and hooks that may hold a job.

The dispatcher reads it when it starts, and declares what it says: then, and with each server of the job table that it
approves, which may be an older copy.

    two_persons = ["clean-up", "erasure"]

    [notices.ops]
    to = "webhook"
    url = "https://ops.example.com/vecfleet"
    secrets = ["whsec_…"]                    # the newest first; a receiver may check with any
    events = ["job", "move.parked"]          # left out: every change of a job

    [hooks.before-clean-up]
    command = ["/etc/vecfleet/may-we"]       # or url and secrets

It holds keys, so only its owner may read it. No plan can name a receiver or a hook.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

import sqlalchemy as sa
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag, TypeAdapter

from orchestrator.core.hooks import Hook
from orchestrator.core.notices import EVENTS, SECRET
from orchestrator.core.two_persons import TwoPersons
from orchestrator.ledger import consents, hooks, notices
from vecfleet.private import read_private
from vecfleet.settings import Settings

_PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
_LEAST_BYTES = 24
_LONGEST_HOOK_S = 600.0


def _web_address(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not an address: write https://host/path")
    return url


def _mail_address(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError("is not a mail server: write smtps://user:password@host:465, or smtp://host:587")
    return url


def _event(event: str) -> str:
    if event not in EVENTS:
        raise ValueError("is not an event: write job, move, target or batch, or one state of it as job.needs_attention")
    return event


def _secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix(SECRET), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(SECRET) or len(key) < _LEAST_BYTES:
        raise ValueError(f"is not a secret: write {SECRET} and the base64 of {_LEAST_BYTES} or more random bytes")
    return secret


WebAddress = Annotated[SecretStr, AfterValidator(_web_address)]
Secrets = Annotated[tuple[Annotated[SecretStr, AfterValidator(_secret)], ...], Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Receiver(_Entry):
    events: tuple[Annotated[str, AfterValidator(_event)], ...] = ("job",)


class Webhook(_Receiver):
    to: Literal["webhook"]
    url: WebAddress
    secrets: Secrets


class Slack(_Receiver):
    to: Literal["slack"]
    url: WebAddress


class PagerDuty(_Receiver):
    to: Literal["pagerduty"]
    routing_key: SecretStr
    url: WebAddress = SecretStr(_PAGERDUTY)


class Email(_Receiver):
    to: Literal["email"]
    server: Annotated[SecretStr, AfterValidator(_mail_address)]
    sender: str
    recipients: Annotated[tuple[str, ...], Field(min_length=1)]


Receiver = Annotated[Webhook | Slack | PagerDuty | Email, Field(discriminator="to")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


def _absolute(command: tuple[str, ...]) -> tuple[str, ...]:
    if not command or not command[0].startswith("/"):
        raise ValueError(
            'is not a command: write its whole path and its words, as ["/etc/vecfleet/may-we", "--strict"]'
        )
    return command


class _AnyHook(_Entry):
    timeout_seconds: Annotated[float, Field(gt=0, le=_LONGEST_HOOK_S)] = 30.0


class CommandHook(_AnyHook):
    command: Annotated[tuple[str, ...], AfterValidator(_absolute)]


class WebHook(_AnyHook):
    url: WebAddress
    secrets: Secrets


def _kind(hook: object) -> str:
    """Return which kind of hook an entry is meant to be, so that what is wrong is said of that kind alone."""
    return "address" if isinstance(hook, WebHook) or (isinstance(hook, Mapping) and "url" in hook) else "command"


AnyHook = Annotated[Annotated[CommandHook, Tag("command")] | Annotated[WebHook, Tag("address")], Discriminator(_kind)]


class HooksFile(_Entry):
    """Everything that the file says."""

    two_persons: frozenset[TwoPersons] = frozenset()
    notices: Mapping[Name, Receiver] = Field(default_factory=dict)
    hooks: Mapping[Hook, AnyHook] = Field(default_factory=dict)


_FILE = TypeAdapter(HooksFile)


def read(settings: Settings) -> HooksFile | None:
    """Return what the file says; None where no file is named. Raises BadInput, which never holds a key."""
    if settings.vecfleet_hooks is None:
        return None
    return read_private(settings.vecfleet_hooks, "VECFLEET_HOOKS", _FILE, "write it as docs/hooks-and-notices.md shows")


def declare(connection: sa.Connection, file: HooksFile | None) -> None:
    """Let the hooks, the acts of two persons and the receivers of this file, and no others, count from now on.

    Without a file they are left to the dispatchers that have one.
    """
    if file is None:
        return
    consents.declare(connection, file.two_persons)
    hooks.declare(connection, {hook: entry.timeout_seconds for hook, entry in file.hooks.items()})
    notices.subscribe(connection, {name: receiver.events for name, receiver in file.notices.items()})
