"""Settings from the environment, read in one place and once. `.env.example` explains every variable.

Values come from the process environment, then from a `.env` file in the current directory; an empty one counts as not
set. Keys, and addresses that may hold a password, are secrets: they show as stars unless asked for.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from vecfleet.errors import BadInput

HEARTBEATS_PER_LEASE = 3  # two may be lost before a lease ends

# A client's call takes at most its deadline and three repetitions with their waits. A longer call is given up.
CALL_LASTS_DEADLINES = 5

# Bytes of one answer: nearly 1,000 records of 3,072 dimensions. And of the answers that all threads hold at once.
FETCH_BYTES, ANSWERS_BYTES = 12_000_000, 96_000_000

Seconds = Annotated[float, Field(gt=0)]
Dollars = Annotated[float, Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65_535)]


def _by_psycopg(url: SecretStr) -> SecretStr:
    """Return the address of a Postgres as SQLAlchemy takes it. Providers write `postgres://`, without the driver."""
    scheme, _, place = url.get_secret_value().partition("://")
    if scheme not in ("postgres", "postgresql", "postgresql+psycopg") or not place:
        raise ValueError("is not an address of a Postgres: write postgresql://user:password@host:5432/name")
    return SecretStr(f"postgresql+psycopg://{place}")


JOIN = 'set it; to join a stack that runs: eval "$(vecfleet up --print)"; to start one: `vecfleet up`'
"""The next step if a setting that names a server is missing."""


class Settings(BaseSettings):
    """Every setting, typed. `load` reads the environment; a test may name the fields instead."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        env_parse_none_str="none",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    database_url: Annotated[SecretStr, AfterValidator(_by_psycopg)] | None = None
    owner_database_url: Annotated[SecretStr, AfterValidator(_by_psycopg)] | None = None
    redis_url: SecretStr | None = None
    broker_url: SecretStr | None = None

    audit_key: SecretStr | None = None

    pinecone_api_key: SecretStr | None = None
    pinecone_controller_host: str | None = None
    pinecone_project: str | None = None
    pinecone_connections: Path | None = None
    pinecone_index_name: str | None = None
    pinecone_host: str | None = None
    pinecone_transport: Literal["grpc", "rest"] = "grpc"

    pgvector_url: SecretStr | None = None
    pgvector_other_url: SecretStr | None = None
    pgvector_collection_key: str = "collection_name"

    pinecone_index_mode: Literal["vectors", "integrated"] = "vectors"
    pinecone_text_field: str = "chunk_text"
    cohere_rerank_model: str | None = None

    openai_api_key: SecretStr | None = None
    openai_base_url: str = "https://api.openai.com/v1"
    cohere_api_key: SecretStr | None = None
    cohere_base_url: str = "https://api.cohere.com/v2"
    voyage_api_key: SecretStr | None = None
    voyage_base_url: str = "https://api.voyageai.com/v1"
    embedding_model: str = "text-embedding-3-large"
    embedding_cache_bytes: Annotated[int, Field(ge=0)] = 2_000_000_000
    embedding_cache_key: SecretStr | None = None
    texts_database_url: Annotated[SecretStr, AfterValidator(_by_psycopg)] | None = None

    use_delphi_namespaces: bool = False
    use_pinecone_serverless: bool = False
    vecfleet_routes: SecretStr | None = None
    vecfleet_routes_token: SecretStr | None = None
    routes_cache_seconds: Seconds = 5.0
    routes_stale_seconds: Seconds = 60.0
    vecfleet_fence: str | None = None

    supabase_url: str | None = None
    supabase_service_role_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("supabase_service_role_key", "supabase_service_key")
    )
    ownership_database_url: SecretStr | None = None
    ownership_twins_table: str = "twins"
    ownership_twin_id_column: str = "id"
    ownership_twin_creator_column: str = "creator_id"
    ownership_twin_name_column: str = "name"
    ownership_sources_table: str | None = "sources"
    ownership_source_id_column: str = "id"
    ownership_source_twin_column: str = "twin_id"

    vecfleet_home: Path = Path(".vecfleet")
    vecfleet_root: Path = Path()

    flower_user: str = "vecfleet"
    flower_password: SecretStr | None = None
    flower_port: Port = 5555
    flower_url: str | None = None

    api_port: Port = 8080
    web_url: str | None = None
    operator_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    api_body_bytes: Annotated[int, Field(ge=1_000, le=100_000_000)] = 1_000_000
    api_requests_per_second: Annotated[float, Field(gt=0)] = 20.0
    webhook_url: SecretStr | None = None
    vecfleet_hooks: Path | None = None

    decommission_after_days: Annotated[float, Field(ge=0)] = 7.0

    read_unit_dollars_per_million: Dollars = 16.0
    write_unit_dollars_per_million: Dollars = 4.0
    egress_dollars_per_gb: Dollars = 0.0
    storage_dollars_per_gb_month: Dollars = 0.33
    read_node_dollars_per_hour: Dollars = 0.0
    conversion_dollars_per_gb: Dollars = 0.0

    request_deadline_seconds: Seconds = 20.0
    lease_seconds: Seconds = 60.0
    freshness_wait_seconds: Seconds = 60.0
    worker_threads: Annotated[int, Field(ge=1, le=256)] = 8
    worker_grace_seconds: Annotated[float, Field(ge=0)] = 10.0
    otel_exporter_otlp_endpoint: SecretStr | None = None
    otel_exporter_otlp_headers: SecretStr | None = None
    otel_metric_export_interval: Annotated[int, Field(gt=0)] = 60_000
    sentry_dsn: SecretStr | None = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"

    @model_validator(mode="after")
    def _a_request_ends_inside_its_lease(self) -> Self:
        if self.request_deadline_seconds >= self.lease_seconds:
            raise ValueError(
                "REQUEST_DEADLINE_SECONDS must be below LEASE_SECONDS: a request must end inside its lease"
            )
        return self

    @property
    def heartbeat_seconds(self) -> float:
        """Seconds between two renewals of a worker's leases."""
        return self.lease_seconds / HEARTBEATS_PER_LEASE

    @property
    def fetch_bytes(self) -> int:
        """Bytes that the answer to one fetch may have."""
        return min(FETCH_BYTES, ANSWERS_BYTES // self.worker_threads)

    @property
    def wake_ups(self) -> SecretStr | None:
        """The address of the queue of wake-ups: BROKER_URL, or else Redis, which keeps the pace in any case."""
        return self.broker_url or self.redis_url

    @classmethod
    def load(cls) -> Self:
        """Return the settings of this process. Raises BadInput naming each unusable variable, never its value."""
        try:
            return cls()
        except ValidationError as error:
            complaints = "; ".join(_complaint(item["loc"], item["msg"]) for item in error.errors())
            raise BadInput(
                f"the settings cannot be used: {complaints}",
                next_step="correct it in the environment or in .env; .env.example says what each variable means",
            ) from error

    @classmethod
    def variables(cls) -> dict[str, tuple[str, ...]]:
        """Return field name → the environment variables it is read from, in order of precedence."""
        return {name: _spellings(name, field.validation_alias) for name, field in cls.model_fields.items()}

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """Return the fields that hold keys, passwords, or addresses that may hold one."""
        return frozenset(name for name, field in cls.model_fields.items() if "SecretStr" in str(field.annotation))


def _spellings(name: str, alias: object) -> tuple[str, ...]:
    choices = alias.choices if isinstance(alias, AliasChoices) else (name,)
    return tuple(str(choice).upper() for choice in choices)


def _complaint(place: tuple[int | str, ...], message: str) -> str:
    said = message.removeprefix("Value error, ")
    return f"{str(place[0]).upper()}: {said[0].lower()}{said[1:]}" if place else said
