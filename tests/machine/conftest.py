import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from orchestrator.services import lost_commits
from tests.machine.acting import Clock
from workers import calls, leases, runner


@pytest.fixture
def clock(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The one clock of Postgres and of the workers' leases."""
    clock = Clock(database_url)
    monkeypatch.setattr("vecfleet.clock.now", clock.monotonic)
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=clock.monotonic))  # how long a worker goes on
    monkeypatch.setattr(runner, "random", SimpleNamespace(random=lambda: 0.5))  # so that a life is the same again
    monkeypatch.setattr(lost_commits, "time", SimpleNamespace(monotonic=clock.monotonic))  # how often looks are noted
    # No heart beats by itself: whether a lease lasts is the machine's to decide.
    never = threading.Event()
    monkeypatch.setattr(leases, "time", SimpleNamespace(sleep=lambda _: never.wait()))
    monkeypatch.setattr(calls, "_wait", lambda state: 0.0)
    yield clock
