"""Hand the evidence of shadow reads to `vecfleet serve`, which decides about the next step."""

import threading

import httpx
import msgspec

from vecfleet import logs
from vecfleet.tenancy.shadow_reads import ShadowLog

log = logs.get_logger("vecfleet.tenancy")

_ENCODER = msgspec.json.Encoder()
_SEND_TIMEOUT_S = 10.0


class EvidenceSender:
    """Sends what a log has collected to `/delphi/evidence` of `vecfleet serve`, with a token of the role `service`."""

    def __init__(self, log: ShadowLog, url: str, token: str) -> None:
        self._log, self._url = log, url.rstrip("/")
        self._client = httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=_SEND_TIMEOUT_S)

    def send(self) -> int:
        """Send it now; evidence that is not taken stays in the log. Returns the number of queries sent."""
        sent = 0
        for job, evidence in self._log.take().items():
            if job is None:
                continue
            try:
                self._client.post(f"{self._url}/{job}", content=_ENCODER.encode(evidence)).raise_for_status()
            except httpx.HTTPError as error:
                self._log.give_back(job, evidence)
                log.warning("evidence was not sent", job=job, why=type(error).__name__)
                continue
            sent += evidence.queries
        return sent

    def every(self, seconds: float, end: threading.Event) -> None:
        """Send again and again until the end is set, and once more then. Meant for a thread of its own."""
        while not end.wait(seconds):
            self.send()
        self.send()
