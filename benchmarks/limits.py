"""Measure how much of its allowance the fleet uses, how often it is refused, and how it recovers from many 429s.

    python -m benchmarks.limits

The emulator enforces a tenth of the documented limits, so that the limit binds and not this machine, and the job is
allowed the same share (`set JOB pace 0.1`). The bytes of upserts are enforced whole: a tenth is three requests, and of
half of them a limiter that counts whole seconds leaves up to a request unused, 7 %.
Rates and refusals come from the emulator's own log. Limits that count whole seconds (`window`) are tried, and in the
whole form also limits that let no burst through (`bucket`). The first seconds, in which an unknown allowance begins at
half, are left out. The storm breaks over the job whose fetches were watched: it is at its full rate already.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.data import fill_one
from benchmarks.figures import Figure
from benchmarks.fleet import WHO, Running, applied, reached, running
from benchmarks.reach import REACHES
from benchmarks.runner import alone
from orchestrator.core.states import JobState
from orchestrator.ledger import moves
from orchestrator.services import acts

DIMENSION = 8
WARM_UP_S, WINDOW_S, BYTES_WINDOW_S, STORM_S = 10.0, 20.0, 12.0, 10.0
SHARE, BYTES_SHARE = 0.1, 1.0
FETCHES_PER_S, LISTS_PER_S, UPSERT_BYTES_PER_S = 100.0, 200.0, 50e6
USED, REFUSED, RECOVERED = REACHES["allowance used"], REACHES["answered 429"], REACHES["recovery"]
_HEAVY = "x" * 30_000  # with such metadata it is the bytes of upserts that bind


def measure(quick: bool) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        for shape in ("window",) if quick else ("window", "bucket"):
            yield from fetching(fleet, shape)
            yield from listing(fleet, shape)
            yield from writing(fleet, shape)


def fetching(fleet: Running, shape: str) -> Iterator[Figure]:
    """Copying many small records: fetches of the index bind. Limits that count whole seconds then meet a storm."""
    storm = shape == "window"
    job = begun(fleet, f"fetch-{shape}", 610_000 if storm else 310_000, "", shape, SHARE)
    calls = watched(fleet, "fetch", WARM_UP_S, WINDOW_S)
    yield from of_calls(f"fetch, {shape}", calls, FETCHES_PER_S * SHARE)
    if storm:
        yield stormed(fleet)
    ended(fleet, job, shape)


def listing(fleet: Running, shape: str) -> Iterator[Figure]:
    """Listing many records: pages of ids bind, before there is much to fetch."""
    job = begun(fleet, f"list-{shape}", 70_000, "", shape, SHARE, after_listing=False)
    calls = watched(fleet, "list", WARM_UP_S, WINDOW_S)
    ended(fleet, job, shape)
    yield from of_calls(f"list, {shape}", calls, LISTS_PER_S * SHARE)


def writing(fleet: Running, shape: str) -> Iterator[Figure]:
    """Copying records with much metadata into one namespace: the bytes of its upserts bind."""
    job = begun(fleet, f"upsert-{shape}", 38_000, _HEAVY, shape, BYTES_SHARE, after_listing=False)
    calls = watched(fleet, "upsert", WARM_UP_S, BYTES_WINDOW_S)
    allowed = UPSERT_BYTES_PER_S * BYTES_SHARE
    used = sum(call["bytes_in"] for call in calls if call["status"] == 200) / BYTES_WINDOW_S / allowed
    yield Figure(f"bytes of upserts, {shape}: used of what is allowed", used, "×", USED)
    yield refused(f"bytes of upserts, {shape}", calls)
    ended(fleet, job, shape)


def stormed(fleet: Running) -> Figure:
    """Every fetch is refused for ten seconds. How long until nine tenths of the allowance are used again."""
    faults = f"{fleet.settings.pinecone_controller_host}/_emulator/faults"
    httpx.post(faults, json={"operation": "fetch", "status": 429}).raise_for_status()
    time.sleep(STORM_S)
    httpx.delete(faults).raise_for_status()
    over = time.time()
    calls = watched(fleet, "fetch", 0.0, WINDOW_S)
    times = [call["time"] for call in calls if call["status"] == 200]
    return Figure("after a storm of 429s of 10 s: until 90 % are used again", recovery_s(times, over), "s", RECOVERED)


def recovery_s(times: Sequence[float], over: float) -> float:
    """Seconds until the first second in which nine tenths of the allowance were used; infinite if there is none."""
    wanted = 0.9 * FETCHES_PER_S * SHARE
    starts = [at for at in times if sum(at <= other < at + 1.0 for other in times) >= wanted]
    return min(starts) - over if starts else float("inf")


def of_calls(name: str, calls: Sequence[Mapping[str, Any]], allowed_per_s: float) -> Iterator[Figure]:
    used = sum(call["status"] == 200 for call in calls) / WINDOW_S / allowed_per_s
    yield Figure(f"{name}: used of what is allowed", used, "×", USED)
    yield refused(name, calls)


def refused(name: str, calls: Sequence[Mapping[str, Any]]) -> Figure:
    share = sum(call["status"] == 429 for call in calls) / max(1, len(calls))
    return Figure(f"{name}: answered 429", share, "×", REFUSED)


def begun(
    fleet: Running, index: str, records: int, text: str, shape: str, share: float, *, after_listing: bool = True
) -> int:
    """A job over one namespace at this share of limits that the emulator enforces: from its start, or once listed."""
    database = fleet.fleet.database
    fill_one(fleet, index, records, DIMENSION, text)
    job = applied(fleet, index)
    if after_listing:
        reached(fleet.fleet, job, JobState.RUNNING)
        while not listed(fleet, job):
            time.sleep(0.05)
        acts.pause(database, job, WHO)
        reached(fleet.fleet, job, JobState.PAUSED)
    limit(fleet, f"x{share:g}", shape)
    acts.set_lever(database, job, WHO, "pace", share)
    if after_listing:
        acts.resume(database, job, WHO)
    return job


def listed(fleet: Running, job: int) -> bool:
    with fleet.fleet.database.begin() as connection:
        (move,) = moves.of_job(connection, job)
    return move.listed_all


def limit(fleet: Running, limits: str, shape: str) -> None:
    url = f"{fleet.settings.pinecone_controller_host}/_emulator/limits"
    httpx.post(url, json={"limits": limits, "shape": shape}).raise_for_status()


def watched(fleet: Running, operation: str, after_s: float, for_s: float) -> list[dict[str, Any]]:
    """Return what the emulator's log has of one operation from then on, for so long."""
    time.sleep(after_s)
    url = f"{fleet.settings.pinecone_controller_host}/_emulator/calls"
    since = httpx.get(url, params={"counts": "1"}, timeout=60).raise_for_status().json()["last_seq"]
    began = time.time()
    time.sleep(for_s)
    parameters = {"operation": operation, "since": since}
    calls = httpx.get(url, params=parameters, timeout=60).raise_for_status().json()["calls"]
    return [call for call in calls if began <= call["time"] < began + for_s]


def ended(fleet: Running, job: int, shape: str) -> None:
    """End the job once there is no more to see: the rest is not copied."""
    acts.pause(fleet.fleet.database, job, WHO)
    reached(fleet.fleet, job, JobState.PAUSED)
    limit(fleet, "off", shape)


if __name__ == "__main__":
    raise SystemExit(alone("limits", measure, __doc__))
