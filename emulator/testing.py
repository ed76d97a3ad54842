"""For tests of others: an emulator on a free port, empty for each test, with faults and the log of calls.

A `conftest.py` with `pytest_plugins = ["emulator.testing"]` has the fixture `pinecone_emulator`.
"""

from collections.abc import Iterator

import httpx
import pytest

from emulator.server import Options, Running


class PineconeEmulator:
    """A running emulator; `Pinecone(api_key="any", host=emulator.host)` speaks to it."""

    def __init__(self, options: Options) -> None:
        self._running = Running(options)
        self.host = self._running.control
        self._own = httpx.Client(base_url=f"{self.host}/_emulator", timeout=60)

    def reset(self) -> None:
        """Forget every index, fault and call."""
        self._own.post("/reset").raise_for_status()

    def fault(self, **rule: object) -> None:
        """Let requests go wrong: `fault(operation="upsert", status=429, count=3)`; the page names every field."""
        self._own.post("/faults", json=rule).raise_for_status()

    def calls(self, operation: str | None = None) -> list[dict[str, object]]:
        """Return the calls so far, oldest first."""
        answer = self._own.get("/calls", params={"operation": operation} if operation else {})
        return list(answer.raise_for_status().json()["calls"])

    def stop(self) -> None:
        self._own.close()
        self._running.stop()


@pytest.fixture(scope="session")
def pinecone_emulator_options() -> Options:
    """Override it for other options, such as `Options(port=0, reads_lag_s=2)`."""
    return Options(port=0)


@pytest.fixture(scope="session")
def _pinecone_emulator(pinecone_emulator_options: Options) -> Iterator[PineconeEmulator]:
    emulator = PineconeEmulator(pinecone_emulator_options)
    yield emulator
    emulator.stop()


@pytest.fixture
def pinecone_emulator(_pinecone_emulator: PineconeEmulator) -> PineconeEmulator:
    _pinecone_emulator.reset()
    return _pinecone_emulator
