"""The operator's page with 12,000 namespaces in a real browser: how soon it is there, and what an update costs it.

    python -m benchmarks.page

Needs `make browser`.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.figures import Figure
from benchmarks.reach import REACHES
from benchmarks.runner import LeftOut, alone
from migrations.plan import Estimate, IndexRef, Plan, PlannedMove, Policies
from migrations.routing import Ownership
from orchestrator import schema
from orchestrator.core.freshness import Waits
from orchestrator.embedded.ports import free_port, listening
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.process import Process
from orchestrator.ledger import jobs
from orchestrator.ledger.database import Database
from tests.browser.chromium import FLAGS, missing, program
from vecfleet.stores.base import IndexInfo, Kind

NAMESPACES = 12_000
LOADS = 7
TOKEN = "token-of-a-benchmark"
START_S = 60.0
PATIENCE_MS = 60_000.0
INDEX = IndexInfo("brain", Kind.DENSE, 3_072, "cosine", host="brain.local")


def job(database: Database) -> None:
    """A job in the middle: a third of it pending, a third copying, a third copied."""
    index = IndexRef(store="pinecone", index=INDEX.name, kind=INDEX.kind, dimension=3_072, metric="cosine")
    plan = Plan(
        recipe="creators",
        made_at=datetime(2026, 2, 11, tzinfo=UTC),
        source=index,
        target=index,
        policies=Policies(),
        moves=tuple(
            PlannedMove(source=f"s{n}", to=f"creator_ana_twin_s{n}", creator="ana", twin=f"s{n}", records=1_000)
            for n in range(NAMESPACES)
        ),
        estimate=Estimate(records=0, requests=0, read_units=0, write_units=0, egress_bytes=0, dollars=0.0, seconds=0.0),
    ).sealed()
    with database.begin() as connection:
        jobs.insert_job(
            connection,
            plan,
            source=INDEX,
            target=INDEX,
            way_back="roll back",
            ownership=Ownership(),
            created_by="a benchmark",
            batch_window=48,
            pace_share=0.5,
            waits=Waits(),
        )
        _any_change(connection)
        connection.execute(sa.text("UPDATE job SET state = 'running', started_at = now()"))
    change(database, NAMESPACES, 400)


def change(database: Database, namespaces: int, written: int) -> None:
    """So many namespaces are further on than before: none of them looks as it did."""
    set_to = "listed = 1000, listed_all = true, written = CASE seq % 3 WHEN 0 THEN 0 WHEN 1 THEN :written ELSE 1000 END"
    state = "CASE seq % 3 WHEN 0 THEN 'pending' WHEN 1 THEN 'copying' ELSE 'copied' END"
    with database.begin() as connection:
        _any_change(connection)
        statement = sa.text(f"UPDATE move SET {set_to}, state = {state} WHERE seq <= :upto")
        connection.execute(statement, {"written": written, "upto": namespaces})


def everything(database: Database, state: str) -> None:
    with database.begin() as connection:
        _any_change(connection)
        connection.execute(sa.text("UPDATE move SET state = :state"), {"state": state})


def _any_change(connection: sa.Connection) -> None:
    """Let this transaction set any state: the triggers that hold the edges do not fire."""
    connection.execute(sa.text("SET LOCAL session_replication_role = replica"))


def in_a_browser(address: str, database: Database) -> Iterator[Figure]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program(), headless=True, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1_280, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{address}/login#{TOKEN}")
        page.wait_for_url(f"{address}/")
        paints = []
        for _ in range(LOADS):
            page.goto(f"{address}/jobs/1")
            page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        page.locator("#live.on").wait_for()
        page.wait_for_function("() => performance.getEntriesByName('vecfleet:update').length")
        some = [update(page, lambda n=n: change(database, 1_500, 100 * n)) for n in range(1, 6)]  # type: ignore[misc]
        every = [update(page, lambda to=to: everything(database, to)) for to in ("verified", "cleaned", "verified")]  # type: ignore[misc]
        browser.close()
    reach = REACHES["update of the page"]
    yield Figure.of(f"first paint, {NAMESPACES:,} cells", "ms", paints, REACHES["first paint"])
    yield Figure.of("script of an update, 500 cells changed", "ms", some, reach)
    yield Figure.of(f"script of an update, all {NAMESPACES:,} changed", "ms", every, reach)


def update(page: Any, happens: Callable[[], None]) -> float:
    """The longest of the updates that follow until the grid stands still again."""
    page.evaluate("performance.clearMeasures('vecfleet:update')")
    before = page.evaluate("document.getElementById('grid').innerHTML")
    happens()
    page.wait_for_function("(before) => document.getElementById('grid').innerHTML !== before", arg=before)
    took = page.evaluate("performance.getEntriesByName('vecfleet:update').map((one) => one.duration)")
    return float(max(took))


def measure(quick: bool) -> Iterator[Figure]:
    reason = missing()
    if reason is not None:
        raise LeftOut(reason)
    with tempfile.TemporaryDirectory() as place, Postgres(Path(place) / "postgres", durable=False) as postgres:
        schema.upgrade(postgres.url)
        database = Database(postgres.url)
        job(database)
        port = free_port()
        own = {"DATABASE_URL": postgres.url, "REDIS_URL": "none", "PINECONE_API_KEY": "none", "VECFLEET_HOME": place}
        process = Process.launch(
            "serve",
            [sys.executable, "-m", "orchestrator", "serve", "--port", str(port)],
            log=Path(place) / "serve.log",
            cwd=Path(__file__).resolve().parents[1],
            env={**os.environ, **own, "OPERATOR_TOKEN": TOKEN},
            port=port,
        )
        try:
            process.wait_until(lambda: listening(port), START_S)
            yield from in_a_browser(f"http://127.0.0.1:{port}", database)
        finally:
            process.stop(patience_s=10)
            database.dispose()


if __name__ == "__main__":
    raise SystemExit(alone("page", measure, __doc__))
