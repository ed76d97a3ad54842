"""Settings: one reader of the environment, clear about what is wrong, silent about secrets."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from vecfleet.errors import BadInput
from vecfleet.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = (REPOSITORY / ".env.example").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for spellings in Settings.variables().values():
        for name in spellings:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_needs_to_be_set() -> None:
    settings = Settings.load()

    assert settings.database_url is None
    assert settings.vecfleet_root == Path()
    assert settings.heartbeat_seconds == settings.lease_seconds / 3


def test_the_environment_wins_over_the_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WORKER_THREADS=2\nLEASE_SECONDS=30\nPATH_OF_ANOTHER_PROGRAM=x\n")
    monkeypatch.setenv("WORKER_THREADS", "4")

    settings = Settings.load()

    assert (settings.worker_threads, settings.lease_seconds) == (4, 30.0)


@pytest.mark.parametrize("spelling", ["SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SERVICE_KEY"])
def test_the_supabase_key_is_read_in_both_spellings(monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    monkeypatch.setenv(spelling, "a key")

    key = Settings.load().supabase_service_role_key

    assert key is not None
    assert key.get_secret_value() == "a key"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_an_address_of_a_postgres_is_read_as_providers_write_it(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://me:sesame@db.example.com:6543/jobs?sslmode=require")

    url = Settings.load().database_url

    assert url is not None
    engine = sa.create_engine(url.get_secret_value())
    assert (engine.dialect.driver, engine.url.host, engine.url.port) == ("psycopg", "db.example.com", 6543)
    assert engine.url.query == {"sslmode": "require"}


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "")
    monkeypatch.setenv("FLOWER_PORT", "")

    assert Settings.load() == Settings()


def test_an_application_may_have_no_table_of_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWNERSHIP_SOURCES_TABLE", "none")

    assert Settings.load().ownership_sources_table is None


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("FLOWER_PORT", "seventy", "FLOWER_PORT: input should be a valid integer"),
        ("WORKER_THREADS", "0", "WORKER_THREADS: input should be greater than or equal to 1"),
        (
            "DATABASE_URL",
            "mysql://me@127.0.0.1/x",
            "DATABASE_URL: is not an address of a Postgres: write postgresql://",
        ),
        ("DATABASE_URL", "127.0.0.1:5432/x", "DATABASE_URL: is not an address of a Postgres: write postgresql://"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT: input should be 'console' or 'json'"),
        ("REQUEST_DEADLINE_SECONDS", "60", "a request must end inside its lease"),
    ],
)
def test_a_bad_value_is_named_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(BadInput) as refusal:
        Settings.load()

    assert sentence in refusal.value.message
    assert refusal.value.next_step is not None
    assert ".env.example" in refusal.value.next_step


def test_secrets_show_as_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINECONE_API_KEY", "sesame")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:sesame@127.0.0.1/x")

    assert "sesame" not in repr(Settings.load()) + str(Settings.load().model_dump())


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings.load().worker_threads = 3


def test_the_example_lists_every_variable_and_no_other() -> None:
    listed = re.findall(r"^([A-Z_]+)=", EXAMPLE, re.MULTILINE)

    assert sorted(listed) == sorted(spellings[0] for spellings in Settings.variables().values())
    for spellings in Settings.variables().values():
        assert all(name in EXAMPLE for name in spellings)


def test_the_example_as_it_stands_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(EXAMPLE, encoding="utf-8")

    assert Settings.load() == Settings.model_construct()
