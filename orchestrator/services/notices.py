"""Send notices of changes of state, in threads of the dispatcher, one for each receiver.

A notice leaves the queue once its receiver has said 2xx. Dies between the two: it is sent again, with the same id.
Whatever an answer holds is not read, and no redirect is followed.
"""

import smtplib
import ssl
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from urllib.parse import unquote, urlsplit

import httpx
import orjson
import structlog

from orchestrator.bootstrap import Fleet
from orchestrator.core import notices as shapes
from orchestrator.core.notices import Notice
from orchestrator.ledger import notices
from orchestrator.ledger.database import Database
from orchestrator.services import hooks_file
from orchestrator.services.background import Step
from orchestrator.services.hooks_file import Email, HooksFile, PagerDuty, Receiver, Slack, Webhook
from vecfleet.errors import BadInput, Unreachable
from vecfleet.settings import Settings

_TIMEOUT_S = 10.0
# A sender that is silent for this long is dead: longer than connecting, sending and being answered may take.
_TAKEN_FOR_S = 60.0

log = structlog.get_logger("vecfleet.notices")


class NotDelivered(Exception):
    """The receiver did not say that it has the notice. Says why, without an address: that may be a secret."""


def steps(parts: Fleet, file: HooksFile) -> dict[str, Step]:
    """Return the step that sends to each receiver of the file."""
    return {
        f"notices to {name}": partial(send_next, parts.database, name, receiver, parts.settings.web_url)
        for name, receiver in file.notices.items()
    }


def send_next(database: Database, name: str, receiver: Receiver, web_url: str | None = None) -> bool:
    """Send the oldest due notice of a receiver. Say whether one was due.

    No transaction is open while the receiver is asked. Safe to run in several processes at once.
    """
    with database.begin() as connection:
        queued = notices.take(connection, name, _TAKEN_FOR_S)
        if queued is None:
            return False
        notice = notices.read(connection, queued)
    if web_url:
        batch = f"/batches/{notice.number}" if notice.machine == "batch" else ""
        notice = replace(notice, url=f"{web_url.rstrip('/')}/jobs/{notice.job}{batch}")
    try:
        deliver(receiver, notice)
    except NotDelivered as failure:
        with database.begin() as connection:
            given_up = notices.failed(connection, queued, str(failure))
        tell = log.error if given_up else log.warning
        tell(
            "a notice was not delivered",
            receiver=name,
            about=notice.event,
            job=notice.job,
            why=str(failure),
            attempts=queued.attempts,
            given_up=given_up,
        )
        return True
    with database.begin() as connection:
        notices.delivered(connection, queued)
    return True


def try_out(settings: Settings, name: str) -> None:
    """Send a made-up notice to a receiver of the file, at once. Raises BadInput, or Unreachable if it was not taken."""
    file = hooks_file.read(settings)
    if file is None:
        raise BadInput("VECFLEET_HOOKS is not set", next_step="set it to the file that the dispatcher reads")
    if name not in file.notices:
        names = ", ".join(file.notices) or "nobody"
        raise BadInput(f"there is no receiver {name!r} in the file", next_step=f"it names: {names}")
    notice = Notice(
        delivery_id=str(uuid.uuid4()),
        at=datetime.now(UTC),
        machine="job",
        number=0,
        was=None,
        state=shapes.TRIED,
        job=0,
        job_state=shapes.TRIED,
        reason="a person tries the receiver, and no job has changed",
        source="nothing",
        target="nothing",
        namespace=None,
        counts={},
        url=settings.web_url,
    )
    try:
        deliver(file.notices[name], notice)
    except NotDelivered as failure:
        step = "check its address and its key in the file of VECFLEET_HOOKS"
        raise Unreachable(f"{name} did not take it: {failure}", next_step=step) from failure


def deliver(receiver: Receiver, notice: Notice) -> None:
    """Send one notice in the receiver's shape, if it has one for it. Raises NotDelivered."""
    match receiver:
        case Webhook():
            body = orjson.dumps(notice.to_json())
            secrets = [secret.get_secret_value() for secret in receiver.secrets]
            headers = shapes.headers(secrets, notice.delivery_id, int(time.time()), body)
            _post(receiver.url.get_secret_value(), body, headers)
        case Slack():
            _post(receiver.url.get_secret_value(), shapes.slack(notice))
        case PagerDuty():
            event = shapes.pagerduty(notice, receiver.routing_key.get_secret_value())
            if event is not None:
                _post(receiver.url.get_secret_value(), event)
        case Email():
            _mail(receiver, notice)


def _post(url: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    told = headers or {"content-type": "application/json"}
    try:
        with httpx.stream(
            "POST", url, content=body, headers=told, timeout=_TIMEOUT_S, follow_redirects=False
        ) as answer:
            if not answer.is_success:
                raise NotDelivered(f"HTTP {answer.status_code}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotDelivered(type(error).__name__) from error


def _mail(receiver: Email, notice: Notice) -> None:
    """Hand a message to the mail server. A password travels over TLS only."""
    server = urlsplit(receiver.server.get_secret_value())
    message = shapes.email(notice, receiver.sender, receiver.recipients)
    host, context = server.hostname or "", ssl.create_default_context()
    try:
        with (
            smtplib.SMTP_SSL(host, server.port or 465, timeout=_TIMEOUT_S, context=context)
            if server.scheme == "smtps"
            else smtplib.SMTP(host, server.port or 587, timeout=_TIMEOUT_S)
        ) as client:
            client.ehlo()
            if server.scheme == "smtp" and (server.username or client.has_extn("starttls")):
                client.starttls(context=context)
            if server.username:
                client.login(unquote(server.username), unquote(server.password or ""))
            client.send_message(message)
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise NotDelivered(type(error).__name__) from error
