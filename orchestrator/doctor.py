"""Check everything that a fleet needs, one part after the other, each with its remedy. Writes nothing."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from orchestrator import schema
from orchestrator.bootstrap import Fleet
from orchestrator.core.states import QUEUES
from orchestrator.core.wording import counted, elapsed
from orchestrator.embedded import addresses
from orchestrator.ledger import leadership
from orchestrator.ledger.database import Database
from orchestrator.queue import ACCOUNTS, AWAY, require_broker, waiting
from vecfleet.connections import ACCOUNT, connections
from vecfleet.errors import BadInput, Unreachable, VecfleetError
from vecfleet.settings import JOIN, Settings

_REDIS_ANSWERS_WITHIN_S = 3.0
_WORKERS_ANSWER_WITHIN_S = 1.0  # an idle worker answers within milliseconds
_BUSY_WORKER_ANSWERS_WITHIN_S = 5.0  # all threads of the worker copy, and all cores of the machine are busy
# Leases and waits use the database's clock; beyond this difference the displayed times mislead people.
_CLOCKS_APART_S = 5.0


# The remedy if the error itself names none.
_REMEDIES = {
    "Postgres": "check DATABASE_URL and that Postgres runs",
    "schema": "run `vecfleet migrate`",
    "sessions": "check that Postgres goes on answering",
    "clock": "check that Postgres goes on answering",
    "Redis": "check REDIS_URL and that Redis runs",
    "broker": "check REDIS_URL, or BROKER_URL where it is set, and that it runs",
    "Pinecone": "check PINECONE_API_KEY, PINECONE_CONTROLLER_HOST and the way to them: `curl https://api.pinecone.io`",
    "pgvector": "check PGVECTOR_URL and that its Postgres runs",
    "dispatcher": "fix Postgres first",
    "workers": "fix Redis first",
}
_UNKNOWN_ACCOUNT = (
    "set PINECONE_CONNECTIONS where it starts, and start it again (what `vecfleet up` started: `down`, then `up`)"
)
_ACCOUNT_REMEDY = "check this account in the file of PINECONE_CONNECTIONS, and the way to its control plane"
# The settings whose address each check asks; the address may be on this machine.
_ASKS = {
    "Postgres": ("DATABASE_URL",),
    "Redis": ("REDIS_URL",),
    "broker": ("BROKER_URL", "REDIS_URL"),
    "Pinecone": ("PINECONE_CONTROLLER_HOST",),
    "pgvector": ("PGVECTOR_URL",),
    "dispatcher": ("DATABASE_URL",),
    "workers": ("BROKER_URL", "REDIS_URL"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check. `detail` says what was seen; if it is not `ok`, `remedy` what to do, and `code` its kind."""

    name: str
    ok: bool
    detail: str
    remedy: str | None = None
    code: str | None = None


def examine(settings: Settings) -> list[Check]:
    """Run every check, in the order in which to repair things. Never raises for a failed check."""
    fleet = Fleet(settings)
    database = Database(settings.database_url.get_secret_value(), pool_size=2) if settings.database_url else None
    try:
        checks = [
            _settings(settings),
            *(_job_table(database) if database else []),
            _try("Redis", lambda: _redis(settings)),
            _try("broker", lambda: _broker(fleet)),
            _try("Pinecone", lambda: _pinecone(fleet, "pinecone")),
            *_accounts(fleet),
            *([_try("pgvector", lambda: _pgvector(fleet))] if settings.pgvector_url else []),
            *([_try("dispatcher", lambda: _dispatcher(database))] if database else []),
            _try("workers", lambda: _workers(fleet)),
        ]
    finally:
        if database:
            database.dispose()
    lost = addresses.nowhere(settings)
    return [_left_of_a_stack(check, settings) if _leads(check, lost) else check for check in checks]


def _leads(check: Check, lost: tuple[str, ...]) -> bool:
    return not check.ok and any(name in lost for name in _ASKS.get(check.name, ()))


def _left_of_a_stack(check: Check, settings: Settings) -> Check:
    """Return a check that failed because nothing listens at a local address: no key and no network is at fault."""
    detail = check.detail
    if check.name == "Pinecone" and settings.pinecone_controller_host:
        detail = f"no emulator runs at {addresses.told(settings.pinecone_controller_host)}"
    return replace(
        check, detail=detail, remedy=addresses.way_out(settings, settings.vecfleet_home), code="stale-addresses"
    )


def _try(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except VecfleetError as error:
        # Errors point to this command; here that would lead nowhere.
        told = (error.next_step or "").removesuffix(": `vecfleet doctor`")
        return Check(name, False, error.message, told or _REMEDIES.get(name, _ACCOUNT_REMEDY), error.code)


def _settings(settings: Settings) -> Check:
    unset = [
        name
        for name, value in (
            ("DATABASE_URL", settings.database_url),
            ("REDIS_URL", settings.redis_url),
            ("PINECONE_API_KEY", settings.pinecone_api_key),
        )
        if value is None
    ]
    if unset:
        remedy = "set them here or in .env; `vecfleet up` starts private ones and prints the lines that set them"
        return Check("settings", False, f"not set: {', '.join(unset)}", remedy, "settings-missing")
    return Check("settings", True, addresses.short_wait(settings) or "readable, and nothing needed is missing")


def _job_table(database: Database) -> list[Check]:
    checks = [_try("Postgres", lambda: _postgres(database))]
    if checks[0].ok:
        checks += [
            _try("schema", lambda: _schema(database)),
            _try("sessions", lambda: _sessions(database)),
            _try("clock", lambda: _clock(database)),
        ]
    return checks


def _postgres(database: Database) -> Check:
    with database.begin() as connection:
        version = connection.execute(sa.text("SHOW server_version")).scalar_one()
    return Check("Postgres", True, f"version {version} answers")


def _schema(database: Database) -> Check:
    with database.begin() as connection:
        schema.require_current(connection)
    return Check("schema", True, "the job table has the newest revision")


def _sessions(database: Database) -> Check:
    """Refuse a pooler in transaction mode: it lends one server process to two connections, or swaps it under one."""
    process = sa.text("SELECT pg_backend_pid()")
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as ours:
        first = ours.execute(process).scalar_one()
        with database.begin() as other:
            lent = other.execute(process).scalar_one()
            again = ours.execute(process).scalar_one()
    if breaks_sessions(first, lent, again):
        return Check(
            "sessions",
            False,
            "a pooler between here and Postgres changes server processes within a session",
            "use the direct address or the pooler's session mode (at Supabase port 5432, not 6543)",
            "session-pooler",
        )
    return Check("sessions", True, "one server process a connection")


def breaks_sessions(first: int, lent: int, again: int) -> bool:
    """Say whether a pooler shares or swaps server processes.

    `first` and `again`: processes that one connection saw. `lent`: the process of another while both were open.
    """
    return lent == first or again != first


def _clock(database: Database) -> Check:
    with database.begin() as connection:
        theirs: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    apart = abs((datetime.now(UTC) - theirs).total_seconds())
    if apart > _CLOCKS_APART_S:
        remedy = "synchronise the clock of this machine (NTP)"
        return Check("clock", False, f"{elapsed(apart)} apart from the database's", remedy, "clock-apart")
    return Check("clock", True, f"{elapsed(apart)} apart from the database's")


def _redis(settings: Settings) -> Check:
    if settings.redis_url is None:
        return Check("Redis", False, "REDIS_URL is not set", JOIN, "settings-missing")
    place = addresses.told(settings.redis_url.get_secret_value())
    try:
        with Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=_REDIS_ANSWERS_WITHIN_S,
            socket_connect_timeout=_REDIS_ANSWERS_WITHIN_S,
        ) as client:
            client.ping()
    except AuthenticationError:
        return Check(
            "Redis", False, f"{place} refuses the password", "correct the password in REDIS_URL", "password-refused"
        )
    except (RedisError, OSError):
        return Check("Redis", False, f"{place} does not answer", "check REDIS_URL and that Redis runs", "unreachable")
    except ValueError:
        return Check(
            "Redis", False, "REDIS_URL is no address", "write it as redis://:PASSWORD@HOST:6379/0", "bad-address"
        )
    return Check("Redis", True, f"{place} answers; it keeps the pace")


def _broker(fleet: Fleet) -> Check:
    celery = fleet.celery
    try:
        require_broker(celery)
    except Unreachable as error:
        place = addresses.told(str(celery.conf.broker_url))
        raise Unreachable(f"{error.message} ({place})", next_step=error.next_step) from error
    held = "Redis" if fleet.settings.broker_url is None else "the broker of BROKER_URL"
    return Check("broker", True, f"{held} takes wake-ups; {waiting(celery):,} wait for a worker")


def _pinecone(fleet: Fleet, store: str, name: str = "Pinecone") -> Check:
    indexes = fleet.store_named(store).indexes()
    names = ", ".join(info.name for info in indexes) or "no index yet"
    projects = ", ".join(sorted({info.project for info in indexes if info.project is not None}))
    return Check(name, True, f"takes the key{f' of project {projects}' if projects else ''}: {names}")


def _accounts(fleet: Fleet) -> Iterator[Check]:
    """Check each named account. A file that cannot be used is one failed check."""
    try:
        names = [f"{ACCOUNT}{name}" for name in connections(fleet.settings)]
    except BadInput as error:
        yield Check("accounts", False, error.message, error.next_step or _ACCOUNT_REMEDY, error.code)
        return
    for name in names:
        yield _try(name, partial(_pinecone, fleet, name, name))


def _pgvector(fleet: Fleet) -> Check:
    infos = fleet.store_named("pgvector").indexes()
    return Check("pgvector", True, f"the primary answers: {', '.join(info.name for info in infos) or 'no schema yet'}")


def _dispatcher(database: Database) -> Check:
    with database.begin() as connection:
        schema.require_current(connection)
        left = leadership.seconds_left(connection)
    if left is None or left <= 0:
        return Check(
            "dispatcher", False, "none leads: no job moves on", "start one: `vecfleet dispatcher`", "process-missing"
        )
    return Check("dispatcher", True, "one leads")


def _workers(fleet: Fleet) -> Check:
    control = fleet.celery.control
    try:
        answers = control.inspect(timeout=_WORKERS_ANSWER_WITHIN_S).active_queues() or {}
        if unserved(answers):  # a busy worker may need longer
            answers = control.inspect(timeout=_BUSY_WORKER_ANSWERS_WITHIN_S).active_queues() or answers
    except AWAY as error:
        answered = isinstance(error, ResponseError) or isinstance(error.__cause__, ResponseError)
        does = "answers and takes nothing" if answered else "does not answer"
        raise Unreachable(f"Redis {does}, so no worker can be asked", next_step="fix Redis first") from error
    if not answers:
        waited = _WORKERS_ANSWER_WITHIN_S + _BUSY_WORKER_ANSWERS_WITHIN_S
        seen = f"no worker answers within {waited:g} s: batches wait"
        return Check("workers", False, seen, "start one: `vecfleet worker`", "process-missing")
    tasks = control.inspect(destination=sorted(answers), timeout=_WORKERS_ANSWER_WITHIN_S).registered("rate_limit")
    told = "; ".join(
        [f"{counted(len(answers), 'answers', 'answer')}: {', '.join(sorted(answers))}", *rate_limits(tasks or {})]
    )
    if missing := unserved(answers):
        queues = ",".join(missing)
        step = f"start one that does: `vecfleet worker --queues {queues}`, or without the option for every queue; "
        step += f"one that was told to leave it: `celery -A workers control add_consumer {missing[0]}`"
        return Check("workers", False, f"{told}; nobody serves {queues}: such batches wait", step, "process-missing")
    if without := lacking(_named(fleet), _known_accounts(control)):
        seen = "; ".join(_lacks(worker, names) for worker, names in without.items())
        return Check("workers", False, f"{told}; {seen}: jobs there pause", _UNKNOWN_ACCOUNT, "account-unknown")
    return Check("workers", True, f"{told}; every queue is served")


def strangers(fleet: Fleet, stores: Sequence[str]) -> list[str]:
    """Say which workers know no account of these stores. Nothing is known of workers that no broker asks now."""
    named = sorted({store.removeprefix(ACCOUNT) for store in stores if store.startswith(ACCOUNT)})
    try:
        answers = _known_accounts(fleet.celery.control) if named else {}
    except AWAY:
        return []
    return [_lacks(worker, names) for worker, names in lacking(named, answers).items()]


def _lacks(worker: str, names: Sequence[str]) -> str:
    return f"{worker} knows no account {', '.join(names)}"


def _named(fleet: Fleet) -> list[str]:
    try:
        return sorted(connections(fleet.settings))
    except BadInput:
        return []  # a check of its own says so


def _known_accounts(control: Any) -> Mapping[str, Any]:
    answers = control.broadcast(ACCOUNTS, reply=True, timeout=_WORKERS_ANSWER_WITHIN_S) or []
    return {worker: answer for told in answers for worker, answer in told.items()}


def lacking(named: Sequence[str], answers: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the accounts that each worker lacks. One of an earlier version answers no list: nothing is known of it."""
    known = {worker: answer for worker, answer in sorted(answers.items()) if isinstance(answer, list)}
    missing = {worker: [f"{ACCOUNT}{name}" for name in named if name not in known[worker]] for worker in known}
    return {worker: names for worker, names in missing.items() if names}


_LIMITED = re.compile(r"(?P<task>\S+) \[rate_limit=(?P<limit>[^\]]+)\]")


def rate_limits(answers: Mapping[str, Sequence[str]]) -> list[str]:
    """Say which workers a person gave a rate limit of Celery's, and how to lift it. It ends with the worker."""
    limited = {worker: [_LIMITED.fullmatch(task) for task in tasks] for worker, tasks in sorted(answers.items())}
    return [
        f"{worker} takes at most {found['limit']} of {found['task']}, "
        f"until `celery -A workers control rate_limit {found['task']} 0`"
        for worker, tasks in limited.items()
        for found in tasks
        if found is not None and found["limit"] != "0"
    ]


def unserved(answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return our queues that none of these workers takes wake-ups from, in the order of a job's phases."""
    served = {queue["name"] for queues in answers.values() for queue in queues}
    return [queue for queue in QUEUES if queue not in served]
