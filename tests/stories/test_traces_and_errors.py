"""A job as a trace, its figures by OTLP and its errors in Sentry: every byte that leaves says nothing of records."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from receivers import Receiver, receiver

from migrations.plan import write_plan
from orchestrator.core.states import JobState
from tests.stories.emulated import row, target_of
from tests.stories.launching import cold
from tests.stories.serving import served
from tests.stories.world import PATIENCE_S, SMALL, OpenWorld, World

pytestmark = pytest.mark.story

ID = "id-that-names-zoe"
TEXT = "what zoe told her twin"
NAMESPACES = ("zoe-alma", "zoe-bruno")
KEYS = {
    "pinecone_api_key": "pcsk_a-key-that-nobody-exports",
    "operator_token": "a-token-that-nobody-exports",
}


@pytest.fixture
def received() -> Iterator[Receiver]:
    with receiver() as received:
        yield received


@pytest.fixture
def world(open_world: OpenWorld, received: Receiver) -> World:
    """A fleet whose telemetry goes to the receiver, as soon as it is there."""
    world = open_world(
        **KEYS,
        otel_exporter_otlp_endpoint=received.address,
        otel_bsp_schedule_delay=100,
        otel_metric_export_interval=200,
        sentry_dsn=received.dsn,
    )
    world.emulator.create_index(SMALL)
    for namespace in NAMESPACES:
        rows = [row(f"{ID}-{namespace}-{n}", chunk_text=f"{TEXT} {n}") for n in range(30)]
        world.emulator.write(SMALL, namespace, rows)
    return world


def applied(world: World) -> int:
    """Start a job as a person does, by a command: it is a process of its own, whose span is sent when it ends."""
    plan = world.folder / "plan.yaml"
    write_plan(world.plan(SMALL), plan)
    log = world.folder / "apply.log"
    typed = cold("apply", "orchestrator", "apply", str(plan), "--no-backup", log=log, env=world.env)
    assert typed.child is not None
    assert typed.child.wait(timeout=PATIENCE_S) == 0, log.read_text()
    return 1


def test_a_job_is_one_trace_whose_every_byte_says_nothing_of_records(world: World, received: Receiver) -> None:
    # Given a service that fails for a while, and refuses one namespace for good, quoting a record
    quoting = f"the record {ID}-zoe-alma-1 says {TEXT!r}"
    bruno = target_of("zoe-bruno")
    world.emulator.fault(operation="upsert", namespace=bruno, status=503, message=quoting, count=1)
    world.emulator.fault(operation="upsert", namespace=target_of("zoe-alma"), status=400, message=quoting)
    # When a job runs until it needs a person
    world.start(workers=2)
    with served(world) as address:
        job_id = applied(world)
        world.reaches(job_id, JobState.NEEDS_ATTENTION)

        # Then it is one trace: apply → dispatch → task → call
        world.until(
            "the last call has arrived", lambda: any(s.name == "store upsert" and s.failed for s in received.spans)
        )
        world.until("all of them have parents", lambda: not orphans(received))
        [root] = [span for span in received.spans if not span.parent]
        assert (root.name, root.service, root.attributes["vecfleet.job"]) == ("apply", "vecfleet-cli", job_id)
        assert {span.trace for span in received.spans} == {root.trace}
        by_id = {span.id: span for span in received.spans}
        steps = {(by_id[span.parent].name.split()[0], span.name.split()[0]) for span in received.spans if span.parent}
        assert steps == {
            ("apply", "dispatch"),
            *(("dispatch", f"vecfleet.{task}") for task in ("list_namespace", "copy_batch")),
            *((f"vecfleet.{task}", "store") for task in ("list_namespace", "copy_batch")),
        }
        assert {span.service for span in received.spans} == {"vecfleet-cli", "vecfleet-dispatcher", "vecfleet-worker"}
        # And a failed call, and the batch that it failed, say so by the class of the error
        errors = {span.attributes.get("error.type") for span in received.spans if span.failed}
        assert {"BadRequest"} < errors
        assert "FAILURE" in {span.attributes.get("vecfleet.outcome") for span in received.spans}

        # And the figures that Prometheus reads arrive by OTLP
        scraped = httpx.get(f"{address}/metrics").text
        names = {line.split()[2].removesuffix("_total") for line in scraped.splitlines() if line.startswith("# TYPE")}
        names = {name for name in names if not name.endswith("_created")}
        world.until("all figures are there", lambda: names <= set(received.metrics))

        # And the parked batch is reported as an error, with its job
        world.until("it is reported", lambda: "batch parked" in [report["message"] for report in received.reports])
        [parked, *_] = [report for report in received.reports if report["message"] == "batch parked"]
        assert parked["tags"]["job"] == str(job_id)

    # And no byte of all that tells a record's id or text, a namespace, a key or a password
    password = urlsplit(world.env["DATABASE_URL"]).password
    assert password
    for request in list(received.requests):
        for secret in (ID, TEXT, *NAMESPACES, "zoe", password, *KEYS.values()):
            assert secret.encode() not in request.body, (secret, request.path)
            assert secret not in str((request.path, request.headers)), secret


def orphans(received: Receiver) -> list[str]:
    """The names of spans whose parents have not arrived."""
    there = {span.id for span in received.spans}
    return [span.name for span in received.spans if span.parent and span.parent not in there]
