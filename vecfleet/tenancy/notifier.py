"""Messages to people in the form of a webhook: `{"text": …}`, which Slack and its imitators show as it is."""

import queue
import threading
from collections.abc import Callable
from typing import Protocol

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from vecfleet import logs

log = logs.get_logger("vecfleet.tenancy")

_TRIES = 3
_TIMEOUT_S = 5.0
_WAITING = 100  # messages; a person told a hundred things at once reads none


class Notifier(Protocol):
    def send(self, text: str) -> None: ...


class Webhook:
    """Posts messages one after the other from a thread of its own, so that no query waits for a chat.

    A message that cannot be delivered in three tries is logged, without the address: it is a secret.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._queue: queue.Queue[str] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def send(self, text: str) -> None:
        """Hand the message over. Never raises and never waits."""
        try:
            self._queue.put_nowait(text)
        except queue.Full:
            log.warning("a message was dropped", why="too many wait already")
            return
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # also in a forked child, which has no thread
                self._thread = threading.Thread(target=self._deliver, name="webhook", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Wait until every message handed over is delivered, or given up."""
        self._queue.join()

    def _deliver(self) -> None:
        with httpx.Client(timeout=_TIMEOUT_S) as client:
            while True:
                text = self._queue.get()
                try:
                    self._post(client, text)
                except httpx.HTTPError as error:
                    log.warning("a message was not delivered", message=text, why=type(error).__name__)
                finally:
                    self._queue.task_done()

    def _post(self, client: httpx.Client, text: str) -> None:
        retrying = Retrying(
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.2, max=2.0),
            retry=retry_if_exception_type(httpx.HTTPError),
            reraise=True,
        )
        retrying(lambda: client.post(self._url, json={"text": text}).raise_for_status())


class Quiet:
    """Lets a message of one kind through, and the next of its kind only after a while."""

    def __init__(self, every_s: float, clock: Callable[[], float]) -> None:
        self._every_s, self._clock = every_s, clock
        self._last: dict[str, float] = {}

    def may(self, kind: str) -> bool:
        now = self._clock()
        if now - self._last.get(kind, float("-inf")) < self._every_s:
            return False
        self._last[kind] = now
        return True
