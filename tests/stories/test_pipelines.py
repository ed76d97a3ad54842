"""Pipelines over the fleet's HTTP API: the page typed as it stands, and the examples for schedulers."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from examples.pipelines import move
from orchestrator.core.states import JobState
from orchestrator.embedded.ports import free_port
from tests.stories.emulated import Rows, row
from tests.stories.launching import REPOSITORY, write_program
from tests.stories.serving import served
from tests.stories.world import OpenWorld, World
from vecfleet.errors import NotFound, Refused, Unreachable
from vecfleet.fleet import FleetClient, NotAllowed, NotReached, StillUnderWay
from vecfleet.tenancy.tokens import TokenFile

pytestmark = pytest.mark.story

BRAIN = "digital-twin-brain"
COACH = "eeeed554-9180-4229-a9af-0f8dd2c69e9b"  # a namespace of the index that `vecfleet up` loads
EXAMPLES = REPOSITORY / "examples" / "pipelines"
COMMANDS = {
    "airflow": "{python} -m airflow db migrate && {python} -m airflow dags test move_vectors "
    """-c '{{"plan": "{plan}", "digest": "{digest}"}}'""",
    "dagster": "{python} {examples}/with_dagster.py {plan} {digest}",
    "prefect": "{python} {examples}/with_prefect.py {plan} {digest}",
}
PAGE_S = 300.0  # takes 15 s; two cores under a load of twenty need this


@pytest.fixture
def brain(open_world: OpenWorld) -> World:
    """An index of twelve records in one namespace, a fleet that works, and the programs that a reader has."""
    world = open_world()
    world.emulator.create_index(BRAIN)
    world.emulator.write(BRAIN, COACH, [row(f"coach-{n}", page=n) for n in range(12)])
    (world.folder / "programs").mkdir()
    write_program(world.folder / "programs" / "vecfleet")
    return world.start(workers=1)


@pytest.fixture
def address(brain: World) -> Iterator[str]:
    with served(brain) as address:
        yield address


def typed(world: World, lines: str, **variables: str) -> str:
    """Type these lines into one shell; what it printed."""
    path = f"{world.folder / 'programs'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", lines],
        cwd=world.folder,
        env={**world.env, "PATH": path, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PAGE_S,
        check=False,
    )
    assert done.returncode == 0, f"{lines}\nended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def test_the_page_of_the_api_typed_as_it_stands(brain: World, address: str) -> None:
    page = (REPOSITORY / "docs" / "http-api.md").read_text()
    blocks = "\n".join(dedent(block) for block in re.findall(r"(?:^    .*\n)+", page, re.MULTILINE))
    before = brain.emulator.dump(BRAIN)[COACH]

    said = typed(brain, blocks, WEB_URL=address)

    assert said.count("job 1: verified") == 2 and "\ncleaned\n" in said
    assert brain.emulator.dump(BRAIN) == {"coach_v2": before}
    assert said.count('"job":') == 1, "the list of jobs, asked by curl, has one"


def _token(world: World, role: str) -> str:
    return TokenFile(world.folder / "home" / "tokens.json").create({"id": "nightly", "role": role})


@pytest.fixture
def plan(brain: World) -> tuple[str, str]:
    """The name and the digest of a plan that copies it."""
    typed(brain, f"vecfleet plan namespaces {BRAIN} {COACH}=coach_v2 --out plans/coach.yaml")
    [digest] = re.findall(r"^digest: (\S+)$", (brain.folder / "plans" / "coach.yaml").read_text(), re.MULTILINE)
    return "coach.yaml", digest


@pytest.fixture
def pipeline(brain: World, address: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a pipeline that may approve."""
    variables = {"VECFLEET_API": address, "VECFLEET_API_TOKEN": _token(brain, "approve")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


def assert_moved(world: World, before: Rows) -> None:
    assert world.job(1).cut_over_percent == 100
    assert world.emulator.dump(BRAIN)["coach_v2"] == before


def test_the_steps_of_the_examples_each_run_twice_as_schedulers_do(
    brain: World, pipeline: dict[str, str], plan: tuple[str, str]
) -> None:
    before = brain.emulator.dump(BRAIN)[COACH]

    jobs = [move.start(*plan, "run-1") for _ in range(2)]
    proven = [move.wait_until_proven(jobs[0], within_s=120) for _ in range(2)]
    moved = [move.move_readers(jobs[0], "run-1") for _ in range(2)]

    assert jobs == proven == moved == [1, 1]
    assert_moved(brain, before)
    with FleetClient.from_environment() as fleet:
        assert [job.job for job in fleet.jobs()] == [1]
        did = [
            act["did"]
            for act in httpx.get(
                f"{pipeline['VECFLEET_API']}/api/v1/jobs/1/acts",
                headers={"Authorization": f"Bearer {pipeline['VECFLEET_API_TOKEN']}"},
            ).json()["acts"]
        ]
    assert did.count("cut over") == did.count("apply") == 1


@pytest.mark.parametrize("scheduler", ["airflow", "dagster", "prefect"])
def test_the_example_of_a_scheduler_runs_in_the_scheduler_itself(
    brain: World, pipeline: dict[str, str], plan: tuple[str, str], scheduler: str
) -> None:
    python = REPOSITORY / ".pipelines" / scheduler / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{scheduler} is not installed here: `make pipelines` installs it beside .venv")
    before = brain.emulator.dump(BRAIN)[COACH]
    command = COMMANDS[scheduler].format(python=python, examples=EXAMPLES, plan=plan[0], digest=plan[1])

    typed(
        brain,
        command,
        **pipeline,
        HOME=str(brain.folder),
        AIRFLOW_HOME=str(brain.folder / "airflow"),
        AIRFLOW__CORE__LOAD_EXAMPLES="false",
        AIRFLOW__CORE__DAGS_FOLDER=str(EXAMPLES),
        PYTHONPATH=f"{REPOSITORY}{os.pathsep}{EXAMPLES}",
    )

    assert_moved(brain, before)


def test_a_client_is_told_why_in_the_errors_of_the_library(brain: World, address: str, plan: tuple[str, str]) -> None:
    with FleetClient(address, _token(brain, "operate")) as operating, FleetClient(address, "guessed") as guessing:
        with pytest.raises(NotAllowed, match="no valid bearer token"):
            guessing.jobs()
        with pytest.raises(NotFound):
            operating.status(7)
        with pytest.raises(Refused) as changed:
            operating.apply(plan[0], "another")
        assert changed.value.code == "plan-changed"
        assert operating.dry_run(plan[0])["moves"][0]["source"] == COACH
        # Then waiting ends at its bound while the job goes on, and as soon as it rests elsewhere
        brain.freeze(brain.workers[0])
        given_up = operating.apply(*plan, no_backup=True)
        with pytest.raises(StillUnderWay, match="after 0 s"):
            operating.wait(given_up, within_s=0)
        operating.cancel(given_up)
        brain.thaw(brain.workers[0])
        with pytest.raises(NotReached, match="rests in cancelled") as rests:
            operating.wait(given_up, within_s=120)
        assert rests.value.status.job == given_up
        job = operating.apply(*plan, no_backup=True)
        operating.wait(job, within_s=120)
        # And who may not approve is told which role may
        with pytest.raises(NotAllowed, match="role `approve`"):
            operating.cut_over(job, 100)
        assert brain.job(job).state is JobState.VERIFIED


def test_a_client_asks_again_until_the_service_is_there_and_says_so_where_it_stays_away(
    brain: World, plan: tuple[str, str]
) -> None:
    # Given a service that is away
    port, token = free_port(), _token(brain, "operate")
    with FleetClient(f"http://127.0.0.1:{port}", token, tries=1) as impatient:
        with pytest.raises(Unreachable, match="does not answer"):
            impatient.jobs()
    # When a client starts a job, and the service comes back meanwhile
    with FleetClient(f"http://127.0.0.1:{port}", token, tries=30) as fleet, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(fleet.apply, *plan, no_backup=True)
        with served(brain, port):
            job = asked.result(timeout=120)
    # Then the job was started
    assert brain.job(job).plan.digest == plan[1]


def test_a_tenant_is_erased_once_and_certified(brain: World, address: str) -> None:
    brain.emulator.write(BRAIN, "creator_ana_twin_coach", [row(f"a-{n}") for n in range(4)])
    with FleetClient(address, _token(brain, "approve")) as fleet:
        first, second = (fleet.erase("ana", indexes=[BRAIN], key="ticket-9") for _ in range(2))

        assert first == second == fleet.erasure(first.erasure)
    assert first.certificate is not None and first.certificate["records"] == 4
    assert set(brain.emulator.dump(BRAIN)) == {COACH}
