"""docker-compose.yml, as far as it can be held to its word without a Docker engine."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from pinecone import Pinecone
from pinecone._internal.data_plane_helpers import _validate_host

from orchestrator.embedded import programs
from vecfleet.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "docker-compose.yml"
COMPOSED: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSED["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "vecfleet"}
COMMANDS = [(name, service["command"]) for name, service in OURS.items()]


def test_it_keeps_to_the_compose_specification() -> None:
    schemas = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    jsonschema.validate(COMPOSED, schema)


def test_it_has_every_process_of_the_fleet_and_what_they_stand_on() -> None:
    on_demand = {"emulator", "rabbitmq"}
    assert set(SERVICES) == {"postgres", "redis", "migrate", "dispatcher", "worker", "web", "flower", *on_demand}
    assert "pgvector/" in SERVICES["postgres"]["image"]
    assert {name for name, service in SERVICES.items() if service.get("profiles") == [name]} == on_demand


def test_workers_can_be_added_and_nothing_is_open_to_the_network() -> None:
    # A container's name or a fixed port of the host would allow one of a kind only
    assert not any("container_name" in service for service in SERVICES.values())
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == [{"target": 8080, "host_ip": "127.0.0.1"}, {"target": 5555, "host_ip": "127.0.0.1"}]


def test_every_service_that_goes_on_running_says_how_to_tell_that_it_works() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {"migrate"}


def test_the_fleet_waits_for_the_schema_and_for_redis() -> None:
    for name in ("dispatcher", "worker", "web", "flower"):
        assert OURS[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }
    assert OURS["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_one_that_the_settings_know(name: str) -> None:
    known = {variable for spellings in Settings.variables().values() for variable in spellings}
    assert set(OURS[name].get("environment", {})) <= known


TELEMETRY = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "SENTRY_DSN"}
VECTORS = {
    *("PINECONE_API_KEY", "PGVECTOR_URL", "PGVECTOR_OTHER_URL"),
    *("OPENAI_API_KEY", "COHERE_API_KEY", "VOYAGE_API_KEY"),
}
SECRETS = {
    "migrate": {"DATABASE_URL", "OWNER_DATABASE_URL"},
    "dispatcher": {
        *("DATABASE_URL", "REDIS_URL", "BROKER_URL", "AUDIT_KEY"),
        *("SUPABASE_SERVICE_ROLE_KEY", "OWNERSHIP_DATABASE_URL", "TEXTS_DATABASE_URL", "EMBEDDING_CACHE_KEY"),
        *(*VECTORS, *TELEMETRY),
    },
    "worker": {
        *("DATABASE_URL", "REDIS_URL", "BROKER_URL"),
        *("TEXTS_DATABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "EMBEDDING_CACHE_KEY"),
        *(*VECTORS, *TELEMETRY),
    },
    "web": {"DATABASE_URL", "REDIS_URL", "BROKER_URL", "OPERATOR_TOKEN", "WEBHOOK_URL", *VECTORS, *TELEMETRY},
    "flower": {"REDIS_URL", "BROKER_URL", "FLOWER_PASSWORD"},
    "emulator": set(),
}


@pytest.mark.parametrize("name", OURS)
def test_each_service_gets_the_secrets_that_it_uses_and_no_other(name: str) -> None:
    secret = {
        spelling
        for field, spellings in Settings.variables().items()
        if "Secret" in str(Settings.model_fields[field].annotation)
        for spelling in spellings
    }
    assert set(OURS[name].get("environment", {})) & secret == SECRETS[name]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_rights_and_no_root_and_writes_to_its_volumes_alone(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])


def test_postgres_and_redis_let_nobody_in_without_a_password_that_somebody_chose() -> None:
    text = COMPOSE.read_text()
    assert not re.search(r"\$\{(POSTGRES|FLEET|REDIS)_PASSWORD:-", text)
    assert "requirepass" in SERVICES["redis"]["command"][-1]
    # A RabbitMQ without one lets in only its own container, as the user guest
    assert SERVICES["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_PASS"] == "${RABBITMQ_PASSWORD:-}"
    # In no command line, where whoever lists processes reads it
    assert not any("${REDIS_PASSWORD" in str(service.get("command")) for service in SERVICES.values())


@pytest.mark.parametrize("name", ["migrate", "dispatcher", "worker", "web", "flower"])
def test_the_settings_can_be_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given what Compose makes of the file where only what must be set is set
    given = {"PINECONE_API_KEY": "a key", "POSTGRES_PASSWORD": "1", "FLEET_PASSWORD": "2", "REDIS_PASSWORD": "3"}
    for variable, value in environment(name, given).items():
        monkeypatch.setenv(variable, value)
    # Then the fleet accepts it, and would talk to Pinecone itself
    settings = Settings.load()
    assert bool(settings.database_url) == ("DATABASE_URL" in SECRETS[name])
    assert bool(settings.redis_url) == ("REDIS_URL" in SECRETS[name])
    assert bool(settings.pinecone_api_key) == ("PINECONE_API_KEY" in SECRETS[name])
    assert settings.pinecone_controller_host is None


def test_the_sdk_accepts_the_emulators_addresses() -> None:
    # Given the address that the file's own instructions name
    [line] = re.findall(r"PINECONE_CONTROLLER_HOST=(http\S+)", COMPOSE.read_text())
    alias, port = argument("emulator", "--host-name"), argument("emulator", "--port")
    # Then it is the emulator's, under a name that the network knows and that is on its index addresses too
    assert line == f"http://{alias}:{port}"
    assert SERVICES["emulator"]["networks"]["default"]["aliases"] == [alias]
    # And the SDK takes it for a host; it refuses a bare service name
    Pinecone(api_key="any", host=line)
    assert _validate_host(f"http://{alias}:{int(port) + 1}")
    with pytest.raises(Exception, match="dot"):
        _validate_host(f"http://emulator:{port}")


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_is_one_that_exists(name: str, command: list[str]) -> None:
    """Each is asked for its help, its own options before it. test_processes starts them in earnest."""
    asked = subprocess.run(
        [sys.executable, *command[1:], "--help"], capture_output=True, text=True, cwd=REPOSITORY, timeout=240
    )
    assert asked.returncode == 0, asked.stderr


def test_the_page_flower_and_notices_lead_to_each_other_where_their_addresses_are_given() -> None:
    for service, names in {"web": {"FLOWER_URL", "WEB_URL"}, "flower": {"WEB_URL"}, "dispatcher": {"WEB_URL"}}.items():
        assert {name: f"${{{name}:-}}" for name in names}.items() <= OURS[service]["environment"].items()


def test_the_commands_are_those_that_up_runs_as_processes(tmp_path: Path) -> None:
    here = {
        "dispatcher": programs.dispatcher(tmp_path, {}),
        "worker": programs.worker(tmp_path, {}, 1, task_events=False),
        "web": programs.web(tmp_path, {}, 8080),
        "flower": programs.flower(tmp_path, {}, 5555),
    }
    for name, program in here.items():
        there = [part for part in OURS[name]["command"] if not part.startswith(("--address=", "--host="))]
        assert [part.replace(f"{REPOSITORY}/", "") for part in program.command[2:]] == there[1:]


def test_the_image_runs_as_an_ordinary_user_and_holds_every_package_that_runs() -> None:
    assert re.search(r"^USER 1000:1000$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    kept = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"vecfleet", "migrations", "orchestrator", "workers", "emulator", "deploy", "bin"} <= kept
    assert all((REPOSITORY / name).exists() for name in kept)


def environment(name: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return what Compose hands to a service: `${NAME:-default}` and `${NAME:?why}` replaced."""

    def value(found: re.Match[str]) -> str:
        return given.get(found["name"]) or (found["rest"] if found["kind"] == ":-" else "")

    pattern = re.compile(r"\$\{(?P<name>\w+)(?P<kind>:-|:\?)(?P<rest>[^}]*)\}")
    return {key: pattern.sub(value, str(text)) for key, text in OURS[name]["environment"].items()}


def argument(name: str, option: str) -> str:
    command: list[str] = OURS[name]["command"]
    return command[command.index(option) + 1]
