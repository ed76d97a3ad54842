"""docker-compose.yml's commands and health checks, run as processes here: the same words, other addresses."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.embedded.ports import free_port
from orchestrator.embedded.postgres import FLEET, Postgres
from orchestrator.embedded.process import Process

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
PATIENCE_S = 240.0  # each takes 1 to 4 s; a loaded two-core machine may need this


@pytest.fixture
def here(database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """Return what a container calls by one name and this machine by another."""
    return {
        "0.0.0.0": "127.0.0.1",
        "pinecone.emulator": "127.0.0.1",
        "/data": str(tmp_path / "data"),
        "5555": str(free_port()),
        "8080": str(free_port()),
        "5080": str(free_port()),
    }


@pytest.fixture
def env(database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    own = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "FLOWER_PASSWORD": "secret"}
    own["VECFLEET_HOME"] = str(tmp_path / "home")
    return {**os.environ, **own, "PINECONE_API_KEY": "any", "PINECONE_CONTROLLER_HOST": "http://127.0.0.1:1"}


@pytest.fixture
def started(here: dict[str, str], env: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    with ExitStack() as running:

        def start(name: str) -> Process:
            command = localised(SERVICES[name]["command"], here)
            process = Process.launch(name, command, log=tmp_path / f"{name}.log", cwd=REPOSITORY, env=env)
            running.callback(process.stop, PATIENCE_S)
            return process

        yield start


@pytest.mark.story
@pytest.mark.parametrize("name", ["emulator", "web", "flower", "dispatcher", "worker"])
def test_a_service_becomes_healthy_by_its_own_check(
    name: str, started: Callable[[str], Process], here: dict[str, str], env: dict[str, str]
) -> None:
    # Given the services it waits for, when its command runs
    process = started(name)
    # Then its own health check passes in time
    [kind, *check] = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD"
    process.wait_until(lambda: succeeds(localised(check, here), env), PATIENCE_S)


@pytest.mark.story
def test_migrate_ends_well_and_may_be_repeated(empty_database_url: str, env: dict[str, str]) -> None:
    for _ in range(2):
        assert succeeds(localised(SERVICES["migrate"]["command"], {}), {**env, "DATABASE_URL": empty_database_url})


@pytest.mark.story
def test_migrate_as_the_owner_lets_the_fleets_role_in(
    empty_database_url: str, postgres: Postgres, env: dict[str, str]
) -> None:
    # Given the two addresses that its container gets
    fleet = {**env, "DATABASE_URL": postgres.url_of(empty_database_url.rpartition("/")[2], FLEET)}
    check = localised(SERVICES["dispatcher"]["healthcheck"]["test"][1:], {})
    assert not succeeds(check, fleet)
    # When it ran
    assert succeeds(localised(SERVICES["migrate"]["command"], {}), {**fleet, "OWNER_DATABASE_URL": empty_database_url})
    # Then the others find the job table by theirs
    assert succeeds(check, fleet)


@pytest.mark.story
@pytest.mark.parametrize("name", ["web", "flower", "worker"])
def test_a_service_that_does_not_run_is_not_healthy(name: str, here: dict[str, str], env: dict[str, str]) -> None:
    assert not succeeds(localised(SERVICES[name]["healthcheck"]["test"][1:], here), env)


def localised(command: list[str], here: dict[str, str]) -> list[str]:
    words = [sys.executable if word == "python" else word for word in command]
    for there, local in here.items():
        words = [word.replace(there, local) if word != sys.executable else word for word in words]
    return words


def succeeds(command: list[str], env: dict[str, str]) -> bool:
    return subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, timeout=PATIENCE_S).returncode == 0
