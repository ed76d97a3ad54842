"""Notices of changes of state: what they say, how they are signed, and the shapes that chats and pagers take.

A notice names a job, a namespace and counts: no key, no record and no id of one.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import orjson

from orchestrator.core.hooks import holding
from orchestrator.core.states import BatchState, CheckState, JobState, MoveState, reason_of_edge
from orchestrator.core.wording import being

MACHINES: Mapping[str, type[JobState | MoveState | BatchState | CheckState]] = {
    "job": JobState,
    "move": MoveState,
    "batch": BatchState,
    "target": CheckState,
}
HELD = "held"
"""A job's event that is no state: a hook, or the lack of a second person, holds what would come next."""
_STATES = frozenset(f"{name}.{state}" for name, states in MACHINES.items() for state in states)
EVENTS = _STATES | {*MACHINES, f"job.{HELD}"}
"""Events that a receiver can wait for: every change of a machine, or those into one of its states; a job held."""

TROUBLE = frozenset(
    {"job.needs_attention", "job.paused", f"job.{HELD}", "move.parked", "batch.parked", "target.mismatched"}
)
"""Events after which something waits for a person."""
_MAY_BE_OPEN = TROUBLE | {"job.verified", "job.cut_over"}  # in these two states a job may be held

TRIED = "tried"
"""The state of a made-up job, by which a person tries a receiver."""

_BECAUSE_HELD = "a hook, or the lack of a second person, holds what would come next"

SECRET = "whsec_"
"""Begins a secret, as in the convention of standardwebhooks.com. The rest is base64."""

MAX_ATTEMPTS = 100
"""Half a day of tries: then a notice waits for `vecfleet notices --again`."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 5.0, 600.0


def wait_s(attempts: int) -> float:
    """Return how many seconds to wait after so many failed attempts."""
    return min(_FIRST_WAIT_S * 2.0 ** min(attempts - 1, 10), _LONGEST_WAIT_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One change of state. `reason` and `counts` are those of the moment when it is sent.

    `namespace`: the source of a move or batch, the name of a target. `number` of what changed: a job, a batch. `error`:
    the kind of error that parked a batch.
    """

    delivery_id: str
    at: datetime
    machine: str
    number: int
    was: str | None
    state: str
    job: int
    job_state: str
    reason: str | None
    source: str
    target: str
    namespace: str | None
    counts: Mapping[str, int]
    error: str | None = None
    url: str | None = None

    @property
    def event(self) -> str:
        return f"{self.machine}.{self.state}"

    @property
    def sentence(self) -> str:
        """Return the notice as one line for people."""
        about = f"job {self.job} ({self.source} → {self.target})"
        if self.machine == "batch":
            about = f"batch {self.number} of {about}"
        if self.namespace is not None:
            about = f"{self.namespace} of {about}" if self.machine != "batch" else f"{about}, {self.namespace}"
        return " ".join(f"{about} {self._standing}".split())

    @property
    def _standing(self) -> str:
        """Return the new state as a predicate, with the reason of a job: `needs attention: 2 batches are parked`."""
        held = holding(self.reason) if self.state == HELD else None
        if held is not None:
            return f"is {held}" if held.startswith(HELD) else held
        return being(self.state) + (f": {self.reason}" if self.machine == "job" and self.reason else "")

    @property
    def _because(self) -> str | None:
        if self.state == HELD:
            return _BECAUSE_HELD
        reason = reason_of_edge(self.machine, self.was, self.state)
        return f"{reason}: {self.error}" if reason and self.error else reason

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.delivery_id,
            "event": self.event,
            "at": self.at.astimezone(UTC).isoformat(),
            "from": self.was,
            "to": self.state,
            "because": self._because,
            "number": self.number,
            "namespace": self.namespace,
            "job": {
                "id": self.job,
                "state": self.job_state,
                "reason": self.reason,
                "source": self.source,
                "target": self.target,
            },
            "counts": dict(self.counts),
            "url": self.url,
        }


def signature(secrets: Iterable[str], delivery_id: str, timestamp: int, body: bytes) -> str:
    """Return the header that signs a body: one HMAC-SHA-256 for each secret, so that a receiver may have either."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    keys = (base64.b64decode(secret.removeprefix(SECRET)) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}" for key in keys)


def headers(secrets: Iterable[str], delivery_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a signed request, named as standardwebhooks.com names them."""
    return {
        "content-type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secrets, delivery_id, timestamp, body),
    }


def slack(notice: Notice) -> bytes:
    """Return the notice as a chat takes it. A namespace called as a command of the chat's stays text."""
    text = notice.sentence.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return orjson.dumps({"text": f"{text}\n{notice.url}" if notice.url else text})


def pagerduty(notice: Notice, routing_key: str) -> bytes | None:
    """Return the notice as an event of PagerDuty's Events API v2; None where it opens and resolves nothing.

    What waits for a person opens an incident; the next change of the same thing resolves it.
    """
    opens = notice.event in TROUBLE
    if not (opens or notice.state == TRIED or f"{notice.machine}.{notice.was}" in _MAY_BE_OPEN):
        return None
    subject = {
        "routing_key": routing_key,
        "dedup_key": f"vecfleet-{notice.machine}-{notice.number}",
        "event_action": "trigger" if opens else "resolve",
    }
    payload = {
        "summary": notice.sentence[:1_024],
        "source": f"vecfleet job {notice.job}",
        "severity": "error",
        "timestamp": notice.at.astimezone(UTC).isoformat(),
        "custom_details": notice.to_json(),
    }
    links = [{"href": notice.url, "text": f"job {notice.job}"}] if notice.url else []
    return orjson.dumps({**subject, "payload": payload, "links": links})


def email(notice: Notice, sender: str, recipients: Iterable[str]) -> EmailMessage:
    """Return the notice as a message. Its Message-ID is the delivery's, so a mailbox can tell a repeated one."""
    message = EmailMessage()
    message["From"], message["To"] = sender, ", ".join(recipients)
    message["Subject"] = f"vecfleet: {notice.sentence}"[:200]
    message["Date"] = notice.at
    message["Message-ID"] = f"<{notice.delivery_id}@vecfleet>"
    counts = "\n".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in notice.counts.items())
    message.set_content("\n\n".join(filter(None, (notice.sentence, counts, notice.url))) + "\n")
    return message
