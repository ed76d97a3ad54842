"""Erase a tenant on the fleet's side: the job table as the books, our files, and the certificate as a page.

docs/data-we-keep.md lists all data that we keep of a tenant, and what an erasure does with each.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random

from migrations.plan import read_plan
from orchestrator.core.redaction import Traces, Words
from orchestrator.core.two_persons import TwoPersons, person_of
from orchestrator.core.wording import elapsed
from orchestrator.ledger import anonymise, audit, embeddings, erasures, index_acts, ownership
from orchestrator.ledger.consents import Agreement
from orchestrator.ledger.database import Database
from orchestrator.services import erase_guards, fillings, hooks, refusals
from orchestrator.services.erase_redis import forget_in_redis
from vecfleet.errors import BadPlan, Busy, Refused
from vecfleet.names import Tenant
from vecfleet.private import write_private
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index
from vecfleet.tenancy import tokens
from vecfleet.tenancy.erasing import ITSELF, Export
from vecfleet.tenancy.fences import Begun, Ending, subject_of, subjects_of
from vecfleet.tenancy.finding import TenantPlace, records
from vecfleet.tenancy.journal import Journal
from vecfleet.tenancy.options import DEFAULT_INDEX
from vecfleet.tenancy.tokens import TokenFile

if TYPE_CHECKING:
    from vecfleet.stores.pinecone import Accounts

LOGS, PLANS, CERTIFICATES = "logs", "plans", "certificates"
# Files that a process reads back are left alone: a tenant may be called like a word in them. `tokens` removes tokens.
_READ_BACK = (".json", ".key", ".sqlite3")
_FILL = b"x"
# Postgres may end a transaction in favour of a worker's, which is over in a moment.
_tried_again = retry(
    retry=retry_if_exception_type(Busy), stop=stop_after_attempt(3), wait=wait_random(0.1, 0.5), reraise=True
)


class JobTableBooks:
    """`vecfleet.tenancy.fences.Books`, kept in the job table."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings

    def fenced(self, tenant: Tenant) -> bool:
        return self.any_fenced(subjects_of(tenant))

    def any_fenced(self, subjects: Collection[str]) -> bool:
        with self._database.begin() as connection:
            return bool(erasures.fenced(connection, subjects))

    def require_leave(self, tenant: Tenant, who: str) -> None:
        """Raise Refused if `begin` would, before anything is made for the erasure."""
        hooks.with_leave(self._database, lambda connection: _leave_to_begin(connection, tenant, who))

    def begin(self, tenant: Tenant, who: str) -> Begun:
        def raise_fence(connection: sa.Connection) -> int:
            hooks.use_two(connection, _leave_to_begin(connection, tenant, who))
            return erasures.begin(connection, subject_of(tenant), who)

        number = hooks.with_leave(self._database, raise_fence)
        # The erasure fence stands from here on: a worker with a later lease asks for the fence and sees it.
        with self._database.begin() as connection:
            erasures.note_leases(connection, number, self._settings.request_deadline_seconds)
            return _known(connection, number, tenant)

    def wait_s(self, number: int) -> float:
        deadline_s, freshness_s = self._settings.request_deadline_seconds, self._settings.freshness_wait_seconds
        with self._database.begin() as connection:
            return erasures.wait_s(connection, number, deadline_s, freshness_s)

    def finish(
        self,
        number: int,
        tenant: Tenant,
        found: Sequence[TenantPlace],
        certificate: Mapping[str, Any],
        who: str = "the fleet",
    ) -> dict[str, Any]:
        """Forget the tenant and return the certificate. Raises Refused.

        Nothing is forgotten before the check that number, tenant and places belong together. If the process dies before
        the commit, the erasure fence stands, and the next erasure of this tenant repeats everything.
        """
        self.require_begun(number, tenant, found, who)
        with self._database.begin() as connection:
            own = {(held.index, held.name) for held in found if held.whole} | ownership.places_of(connection, tenant)
        traces = Traces(tenant, own, number)
        rows = self._forget(traces, found) | {"embeddings": self._forget_vectors(tenant)}
        if tenant.twin is None:  # before the files are blacked out, or a token would be one for another name
            TokenFile(self._settings.vecfleet_home / tokens.FILE).forget(tenant.creator)
        files = anonymise_files(self._settings, traces)
        Journal.of(self._settings).forget(tenant)
        redis_url = self._settings.redis_url
        in_redis, left = forget_in_redis(redis_url.get_secret_value(), traces.words()) if redis_url else (0, [])
        with self._database.begin() as connection:
            begun = erasures.require_begun(connection, number, subject_of(tenant))
            index_acts.require_no_filling_since(connection, begun.at)
            last = erasures.last_write_at(connection, number)
            texts = traces.words().replaced(embeddings.residual(connection))
            complete = {
                **certificate,
                **_moments(certificate, begun.at, refusals.now(connection)),
                "erasure": number,
                "last_write": last.isoformat(timespec="seconds") if last is not None else None,
                "freshness_wait_s": self._settings.freshness_wait_seconds,
                "our_tables": rows,
                "our_files": files,
                "our_redis": in_redis,
                "residual": [*certificate["residual"], *left, *index_acts.residual(connection), *texts],
                "audit_head": audit.head(connection),
            }
            erasures.certify(connection, number, erasures.asked_by(connection, number), complete)
        write_certificate(self._settings.vecfleet_home / CERTIFICATES, complete)
        return complete

    def require_begun(
        self, number: int, tenant: Tenant, found: Sequence[TenantPlace], who: str
    ) -> tuple[Begun, datetime, str]:
        """Return what the books know of this tenant, the start of its erasure, and who asked for it.

        Raises Refused if `number` is no erasure of this tenant or it may not be finished now; the audit trail then
        shows the refusal.
        """
        with erase_guards.refusing(self._database, number, who):
            with self._database.begin() as connection:
                row = erasures.require_begun(connection, number, subject_of(tenant))
                index_acts.require_no_filling_since(connection, row.at)
                begun = _known(connection, number, tenant)
            erase_guards.require_own(begun, tenant, found)
            if self.wait_s(number) > 0:
                raise Refused(
                    "a write from before the fence may still take effect",
                    code="write-may-land",
                    next_step="wait as GET of it says",
                )
        return begun, row.at, row.who

    def finish_told(self, accounts: "Accounts", number: int, told: Ending, who: str) -> dict[str, Any]:
        """Finish an erasure that an application carried out, once this process has seen that no record is left."""
        tenant = Tenant(told.creator, told.twin)
        fillings.settle(self._database, accounts)
        begun, began, asked_by = self.require_begun(number, tenant, told.found, who)
        with self._database.begin() as connection:
            of_jobs = anonymise.indexes(connection) | {self._settings.pinecone_index_name or DEFAULT_INDEX}
            given_up = index_acts.given_up(connection)
            copied_ids = ownership.copied_ids(connection, tenant, {(place.index, place.name) for place in told.found})
        with erase_guards.refusing(self._database, number, who):
            of_jobs |= fillings.reachable(accounts, given_up)
            seen = erase_guards.look(accounts, begun, tenant, told.found, of_jobs)
        places = erase_guards.tied(begun, tenant, told.found, copied_ids)
        with self._database.begin() as connection:
            lasted = refusals.now(connection) - began
        certificate = erase_guards.attested(tenant, asked_by, lasted, seen, told.found, places, told.certificate)
        return self.finish(number, tenant, places, certificate, who)

    @_tried_again
    def _forget(self, traces: Traces, places: Sequence[TenantPlace]) -> dict[str, int]:
        """Anonymise all tables in one transaction."""
        with self._database.begin() as connection:
            return anonymise.forget(connection, traces, places)

    @_tried_again
    def _forget_vectors(self, tenant: Tenant) -> int:
        """Delete the vectors of its texts, apart from the tables: a worker locks its batch first, then vectors."""
        with self._database.begin() as connection:
            return embeddings.forget(connection, subject_of(tenant))


def _moments(certificate: Mapping[str, Any], began: datetime, now: datetime) -> dict[str, str]:
    """Return a certificate's moments by the database's clock, as all are with which somebody may compare them.

    The last look was made a while ago by the clock of this process, which may be fast or slow.
    """
    moments = {"began": began, "ended": now}
    if "last_look" in certificate:
        moments["last_look"] = now - (datetime.now(UTC) - datetime.fromisoformat(certificate["last_look"]))
    return {name: at.astimezone(UTC).isoformat(timespec="seconds") for name, at in moments.items()}


def _leave_to_begin(connection: sa.Connection, tenant: Tenant, who: str) -> Agreement | None:
    """Return the agreement of two persons; None if one is enough, or the erasure was begun and is done again.

    A tenant is one person under all tokens of its name, and is named nowhere.
    """
    _require_its_name(connection, tenant)
    if erasures.fenced(connection, subjects_of(tenant)):
        return None
    asking = ITSELF if person_of(who) == tenant.creator.casefold() else who
    step = "vecfleet forget, with the same names"
    return hooks.require_two(connection, TwoPersons.ERASURE, subject_of(tenant), asking, step)


def _require_its_name(connection: sa.Connection, tenant: Tenant) -> None:
    """Refuse an id that no namespace is called by: nothing would be found, and certified to be gone."""
    called = ownership.other_names(connection, tenant)
    if called:
        typed = f"vecfleet forget --creator {quote(tenant.creator)} --twin {quote(called[0])}"
        raise Refused(
            f"namespaces call that twin {' or '.join(map(repr, called))}: a look-up gave its id that name",
            code="twin-called-otherwise",
            next_step=f"ask for it under that name: `{typed}`",
        )


def _known(connection: sa.Connection, number: int, tenant: Tenant) -> Begun:
    known = ownership.of_tenant(connection, tenant)
    anywhere = ownership.anywhere(connection, tenant)
    return Begun(
        number,
        anywhere.twins,
        anywhere.sources,
        _by_name(here.legacy for here in known.values()),
        _by_name(here.others for here in known.values()),
        tuple(sorted(anonymise.lookup_keys(connection))),
        known,
    )


def _by_name(names: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted({name for group in names for name in group}))


def anonymise_files(settings: Settings, traces: Traces) -> int:
    """Black out the tenant's name in logs and plan files, in place and with the same length: writers go on appending.

    Return the number of files that named the tenant. A plan file among them counts as edited and is refused from then
    on.
    """
    home = settings.vecfleet_home
    texts = [*(path for path in _files(home) if path.suffix not in _READ_BACK), *_files(home / LOGS)]
    count = sum(_anonymise(path, traces.words()) for path in texts)
    return count + sum(
        _anonymise(path, _words_of_plan(path, traces)) for path in _files(settings.vecfleet_root / PLANS)
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _words_of_plan(path: Path, traces: Traces) -> Words:
    """Return the words to look for in a plan's file. A file that is no plan may be about any index."""
    try:
        plan = read_plan(path)
    except BadPlan:
        return traces.words()
    return traces.words(plan.source.typed, plan.target.typed)


def _anonymise(path: Path, words: Words) -> bool:
    with path.open("r+b") as file:
        spans = words.spans(file.read())
        for start, end in spans:
            file.seek(start)
            file.write(_FILL * (end - start))
    return bool(spans)


def exporter(into: Index) -> Export:
    """Return a function that copies a place into files before its deletion: the tenant's right to its data."""

    def export(index: Index, place: TenantPlace) -> int:
        wanted = (record for record in records(index, place.name) if place.whole or record.id in place.records)
        into.create_namespace(place.name, None)
        count, size = 0, 0
        waiting: list[Record] = []
        for record in wanted:
            needed = into.request_bytes(record)
            if waiting and (size + needed > into.limits.upsert_bytes or len(waiting) >= into.limits.upsert_records):
                count += into.upsert(place.name, waiting).count
                waiting, size = [], 0
            waiting.append(record)
            size += needed
        return count + (into.upsert(place.name, waiting).count if waiting else 0)

    return export


def write_certificate(folder: Path, certificate: Mapping[str, Any]) -> Path:
    """Write the certificate as JSON and as a page beside it. Return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    page = certificate_file(folder, certificate)
    write_private(page.with_suffix(".json"), orjson.dumps(certificate, option=orjson.OPT_INDENT_2))
    write_private(page, certificate_page(certificate))
    return page


def certificate_file(folder: Path, certificate: Mapping[str, Any]) -> Path:
    """Return the path of a certificate's page.

    The name has a part of the content's digest, because a new database counts from 1 and no certificate may be lost.
    """
    content = hashlib.sha256(orjson.dumps(certificate, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return folder / f"erasure-{certificate['erasure']}-{content[:12]}.html"


_TITLES = {
    "certificate": "version of this form",
    "subject": "the tenant",
    "scope": "what was asked for",
    "asked_by": "asked for by",
    "seconds": "took",
    "namespaces": "namespaces deleted whole",
    "records": "records deleted",
    "shared_records_read": "records read in shared namespaces",
    "aliases": "aliases removed or led elsewhere",
    "exported": "exported first",
    "confirmed_by": "confirmed by",
    "counted_by": "counted by",
    "looked_at": "indexes looked at",
    "erasure": "number of the erasure",
    "last_write": "last write of a job before the fence",
    "last_look": "last look for records of the tenant",
    "freshness_wait_s": "reads may lag by",
    "our_files": "files of ours blacked out",
    "our_redis": "keys and messages deleted in Redis, and its file rewritten",
    "audit_head": "head of the audit trail before this",
}
_TITLES_OF_TABLES = {
    "records": "ids of records that left",
    "ownership": "rows of ownership deleted",
    "names": "rows under another name now",
    "texts": "rows whose texts lost the name",
    "audit payloads": "payloads of the audit emptied",
    "embeddings": "vectors of texts deleted",
}
_SCOPES = {"creator": "a creator with all twins", "twin": "one twin of a creator"}


def _in_words(key: str, value: Any) -> str:
    match key, value:
        case "exported", None:
            return "nothing: no copy was asked for"
        case "exported", int():
            return f"{value:,} records, for the tenant"
        case "scope", str():
            return _SCOPES.get(value, value)
        case "last_write", None:
            return "none is on record"
        case "seconds" | "freshness_wait_s", _:
            return elapsed(value)
        case _, list():
            return ", ".join(map(str, value))
        case _:
            return f"{value:,}" if isinstance(value, int) else str(value)


def certificate_page(certificate: Mapping[str, Any]) -> str:
    def table(rows: Mapping[str, Any]) -> str:
        cells = ((escape(_TITLES.get(key, key)), escape(_in_words(key, value))) for key, value in rows.items())
        return "".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in cells)

    facts = {key: value for key, value in certificate.items() if key not in ("where", "residual", "our_tables")}
    our_tables = {_TITLES_OF_TABLES.get(key, key): count for key, count in certificate["our_tables"].items()}
    where = "".join(
        f"<tr><td>{escape(place['index'])}</td><td>{escape(place['namespace'])}</td>"
        f"<td>{place['records']:,}</td><td><code>{escape(place['ids_digest'])}</code></td></tr>"
        for place in certificate["where"]
    )
    residual = "".join(f"<li>{escape(sentence)}</li>" for sentence in certificate["residual"])
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Certificate of erasure</title>"
        "<style>body{font:16px system-ui;max-width:60rem;margin:2rem auto}"
        "th{text-align:left;padding-right:1rem}</style>"
        f"<h1>Certificate of erasure {certificate['erasure']}</h1>"
        "<p>The tenant and its namespaces stand here as digests: "
        "SHA-256 of <code>vecfleet erasure, NUL, creator, NUL, twin</code>.</p>"
        f"<table>{table(facts)}</table><h2>What was deleted</h2>"
        f"<table><tr><th>index<th>namespace<th>records<th>digest of their ids</tr>{where}</table>"
        f"<h2>What left our own tables</h2><table>{table(our_tables)}</table>"
        f"<h2>What this could not reach</h2><ul>{residual}</ul></html>"
    )
