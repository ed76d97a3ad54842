"""Run the operator's hooks, in threads of the dispatcher: a command or an address that allows an act or refuses it.

A command gets its facts on stdin and a bare environment: no address, key or password of the fleet. An address gets them
as a signed body, and no redirect is followed. Whatever goes wrong is a refusal. Dies before the answer is on record:
the hook is asked again, under the same id.
"""

import os
import select
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import partial

import httpx
import orjson

from orchestrator.bootstrap import Fleet
from orchestrator.core import notices as shapes
from orchestrator.core.hooks import Hook, in_its_words
from orchestrator.core.wording import elapsed
from orchestrator.ledger import hooks
from orchestrator.ledger.database import Database
from orchestrator.services.background import Step
from orchestrator.services.hooks_file import CommandHook, HooksFile, WebHook

_HEARD_BYTES = 4_096
_READ_AT_ONCE = 65_536
_GIVEN = ("PATH", "LANG", "LC_ALL", "TZ", "HOME")
# Longer than a hook and the record of its answer may take; then its dispatcher is dead.
_BEYOND_ITS_TIME_S = 30.0


def steps(parts: Fleet, file: HooksFile) -> dict[str, Step]:
    """Return the step that asks each hook of the file."""
    return {f"hook {hook}": partial(answer_next, parts.database, hook, entry) for hook, entry in file.hooks.items()}


def answer_next(database: Database, hook: Hook, entry: CommandHook | WebHook) -> bool:
    """Ask the hook the oldest question. Say whether there was one. No transaction is open meanwhile."""
    with database.begin() as connection:
        call = hooks.take(connection, hook, 2 * entry.timeout_seconds + _BEYOND_ITS_TIME_S)
        if call is None:
            return False
        body = orjson.dumps(hooks.facts(connection, call))
    if isinstance(entry, CommandHook):
        allowed, words = _run(entry, body)
    else:
        allowed, words = _post(entry, call.delivery_id, body)
    with database.begin() as connection:
        hooks.record(connection, call, allowed=allowed, words=words)
    return True


def _run(hook: CommandHook, body: bytes) -> tuple[bool, str]:
    """Run a command. Return whether it ended with 0 in time, and its words."""
    deadline = time.monotonic() + hook.timeout_seconds
    environment = {name: os.environ[name] for name in _GIVEN if name in os.environ}
    with tempfile.TemporaryFile() as facts:  # a pipe would block a command that does not read
        facts.write(body)
        facts.seek(0)
        try:
            process = subprocess.Popen(
                hook.command,
                stdin=facts,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            return False, f"it cannot be run: {error.strerror}"
    with process:
        said = _heard(process, deadline)
        try:
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return False, _said(said, f"no answer within {elapsed(hook.timeout_seconds)}")
    return status == 0, _said(said, "nothing was said" if status == 0 else f"it ended with {status}")


def _heard(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Return the first words of a command that ends or whose time is over; read the others, or it could not go on."""
    assert process.stdout is not None
    pipe, said = process.stdout.fileno(), b""
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(pipe, _READ_AT_ONCE)
        if not part:
            break
        said = (said + part)[:_HEARD_BYTES]
    return said


def _post(hook: WebHook, delivery_id: str, body: bytes) -> tuple[bool, str]:
    """Ask an address. Return whether it answered 2xx in time, and its words."""
    secrets = [secret.get_secret_value() for secret in hook.secrets]
    headers = shapes.headers(secrets, delivery_id, int(time.time()), body)
    deadline = time.monotonic() + hook.timeout_seconds
    said = b""
    try:
        with httpx.stream(
            "POST",
            hook.url.get_secret_value(),
            content=body,
            headers=headers,
            timeout=hook.timeout_seconds,
            follow_redirects=False,
        ) as answer:
            for part in answer.iter_raw():
                said += part
                if len(said) >= _HEARD_BYTES or time.monotonic() > deadline:
                    break
    except httpx.TimeoutException:
        return False, f"no answer within {elapsed(hook.timeout_seconds)}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return False, f"it cannot be asked: {type(error).__name__}"
    if time.monotonic() > deadline:  # each part of an answer may come in time, and the whole too late
        return False, f"no answer within {elapsed(hook.timeout_seconds)}"
    return answer.is_success, _said(said[:_HEARD_BYTES], f"HTTP {answer.status_code}")


def _said(words: bytes, otherwise: str) -> str:
    return in_its_words(words) or otherwise
