"""The environment of each process of the fleet: what it uses, and no key that it does not."""

from pathlib import Path

import psutil
import pytest

from orchestrator.embedded import programs
from orchestrator.embedded.ports import claim_port
from orchestrator.embedded.programs import Program
from tests.deploy.test_compose import SECRETS
from vecfleet.settings import Settings

KEY = "a-key-of-somebody"
STRANGE = ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "OPENAI_ADMIN_KEY")
# Beside what Compose gives.
_STORES = {"BROKER_URL", "PGVECTOR_URL", "PGVECTOR_OTHER_URL"}
_TEXTS = {"TEXTS_DATABASE_URL", "EMBEDDING_CACHE_KEY", "SUPABASE_SERVICE_ROLE_KEY"}  # which workers alone read
GIVEN = {
    "dispatcher": SECRETS["worker"] - _TEXTS | _STORES | {"AUDIT_KEY"},  # no command is typed where it runs
    "worker-1": SECRETS["worker"] | _STORES | {"SUPABASE_SERVICE_KEY"},  # the other spelling of a key of theirs
    "web": SECRETS["web"] | _STORES,
    "flower": SECRETS["flower"] | {"BROKER_URL"},
    "emulator": set[str](),
}


def every(folder: Path) -> list[Program]:
    stack = {"AUDIT_KEY": KEY, "DATABASE_URL": KEY, "OPERATOR_TOKEN": KEY}  # a stack gives all that it knows
    return [
        programs.dispatcher(folder, stack),
        programs.worker(folder, stack, 1, task_events=True),
        programs.web(folder, stack, 1),
        programs.flower(folder, stack, 1),
        programs.emulator(folder, None, 0, keep=False),
    ]


def test_each_program_gets_the_secrets_that_it_uses_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a shell with every secret of ours in it, and some of others
    spellings = {name for field in Settings.secrets() for name in Settings.variables()[field]}
    for name in (*spellings, *STRANGE):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("WORKER_THREADS", "3")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:8080")
    # When programs are started from it
    given = {program.name: program.environment for program in every(tmp_path)}
    # Then each gets what it uses
    assert {name: {key for key, value in env.items() if value == KEY} for name, env in given.items()} == GIVEN
    # And all of them what Python needs, and the fleet its settings and the way out
    assert all(env["PATH"] for env in given.values())
    fleet = [given[name] for name in ("dispatcher", "worker-1", "web")]
    assert all((env["WORKER_THREADS"], env["HTTPS_PROXY"]) == ("3", "http://proxy:8080") for env in fleet)


def test_flower_runs_without_the_keys_of_the_shell(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PINECONE_API_KEY", "DATABASE_URL", "AUDIT_KEY", "OPERATOR_TOKEN", *STRANGE):
        monkeypatch.setenv(name, KEY)
    flower = programs.flower(tmp_path, {"REDIS_URL": redis_url}, claim_port(tmp_path, "flower")).start()
    try:
        assert flower.process is not None
        assert KEY not in psutil.Process(flower.process.pid).environ().values()
    finally:
        flower.stop()
