"""The job table, as SQLAlchemy tables. The revisions in `migrations/schema/` end in exactly this (a test compares).

A digest is a sum mod 2**128, kept as NUMERIC(39) so that SQL can add digests up. Times are the database's clock.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from orchestrator.core.states import (
    BATCH_IN_FLIGHT,
    BATCH_OPEN,
    JOB_ENDED,
    BatchKind,
    BatchState,
    CheckState,
    JobState,
    MoveState,
)

_JSON_OR_NULL = JSONB(none_as_null=True)  # else None would be a JSON null, to which SQL cannot add
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _quoted(values: object) -> str:
    return ", ".join(f"'{value}'" for value in sorted(str(value) for value in values))  # type: ignore[attr-defined]


def _one_of(column: str, values: object) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({_quoted(values)})", name=column)


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(), primary_key=True)


def _job() -> Column[int]:
    return Column("job_id", BigInteger, ForeignKey("job.id"), nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


def _when(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True))


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text("false"))


_LIVE = text(f"state NOT IN ({_quoted(JOB_ENDED)})")
job = Table(
    "job",
    metadata,
    _id(),
    Column("state", Text, nullable=False, server_default=text(f"'{JobState.PLANNED}'")),
    Column("resume_to", Text),  # the state that a pause or a call for attention interrupted
    Column("reason", Text),
    Column("plan", JSONB, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("source", JSONB, nullable=False),  # IndexInfo as resolved when applied: pinned by host
    Column("target", JSONB, nullable=False),
    Column("way_back", Text, nullable=False),
    Column("salt", Text, nullable=False),  # decides which twins come first at a cut-over of a few per cent
    Column("created_by", Text, nullable=False),
    _now("created_at"),
    _when("started_at"),
    _when("verified_at"),
    _when("cut_over_at"),
    _when("cleaning_at"),  # the last request for a clean-up
    _when("pass_began_at"),
    _when("pass_ended_at"),
    _when("as_of"),  # when the last pass that ended began: the targets hold what the sources held then
    _when("ended_at"),
    Column("cut_over_percent", SmallInteger, nullable=False, server_default=text("0")),
    Column("batch_window", Integer, nullable=False),  # batches on their way or leased at once
    Column("pace_share", Double, nullable=False),
    Column("budget_factor", Double, nullable=False),  # factor on the estimate that the job may spend
    Column("repairs", SmallInteger, nullable=False, server_default=text("0")),
    Column("passes", SmallInteger, nullable=False, server_default=text("1")),  # begun; a pass reads every source
    Column("passes_ended", SmallInteger, nullable=False, server_default=text("0")),
    Column("passes_allowed", SmallInteger, nullable=False, server_default=text("5")),
    Column("quiet_passes", SmallInteger, nullable=False, server_default=text("0")),  # in a row, up to the last one
    Column("changed_records", Text),  # the rollback's act on records changed since: keep | park
    Column("missing_allowed", Integer),  # records of each source that may be missing, in the source or at the targets
    _when("doubted_at"),  # when lost commits were noticed; NULL once a person ends the doubt
    _when("lands_by"),  # calls from lost commits may take effect or show until then: nothing begins before
    _when("begins_until"),  # no batch begins from then on, until its window opens again; NULL: there is none
    # Seconds: the lag of reads at the source and at the target, and how long routes may be used after a read.
    Column("source_lag_s", Double, nullable=False, server_default=text("60")),
    Column("target_lag_s", Double, nullable=False, server_default=text("60")),
    Column("routes_stale_s", Double, nullable=False, server_default=text("60")),
    _when("frozen_at"),  # since when all routes that are read freeze its sources; NULL: no client held older ones
    Column("traceparent", Text),  # the span that applied it, if that was traced
    Column("filled_by", Text),  # the conversion or import of the store that filled its target before it
    _one_of("state", JobState),
    Index("uq_job_plan_digest_live", "plan_digest", unique=True, postgresql_where=_LIVE),
)

claim = Table(
    "claim",
    metadata,
    _id(),
    _job(),
    Column("index_host", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("role", Text, nullable=False),
    _one_of("role", ("source", "target")),
    UniqueConstraint("index_host", "namespace", "role", "job_id"),
    Index("uq_claim_target", "index_host", "namespace", unique=True, postgresql_where=text("role = 'target'")),
)

move = Table(
    "move",
    metadata,
    _id(),
    _job(),
    Column("seq", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("to", Text),  # None: its records go to several namespaces
    Column("creator", Text),
    Column("twin", Text),
    Column("prefix", Text, nullable=False, server_default=text("''")),  # put before its ids at the target
    Column("state", Text, nullable=False, server_default=text(f"'{MoveState.PENDING}'")),
    Column("reason", Text),
    Column("planned", BigInteger, nullable=False),
    Column("last_id", Text),  # the listing's bookmark: every id up to this one has its batch row
    Column("page_token", Text),
    _flag("listed_all"),
    Column("batches", Integer, nullable=False, server_default=text("0")),  # copy batches made so far
    Column("open_batches", Integer, nullable=False, server_default=text("0")),  # batches not settled yet
    _count("listed"),
    _count("written"),
    _count("identical"),
    _count("gone"),
    _count("parked"),
    _count("left_behind"),
    _count("erased"),
    _count("deleted"),
    Column("clean_mode", Text),  # whole | by_ids
    Column("proof_lsn", BigInteger),  # the source's last write when its second reading began; -1: the service gave none
    Column("source_version", Text),  # changes with each write to the source, as its store tells it; NULL: it does not
    _when("source_version_at"),  # when a look first showed this version
    _when("source_read_at"),  # when the last reading of the whole source began
    _one_of("state", MoveState),
    CheckConstraint("clean_mode IN ('whole', 'by_ids')", name="clean_mode"),
    UniqueConstraint("job_id", "source"),
    Index(None, "job_id", "state"),
)

deletion = Table(
    "deletion",
    metadata,
    Column("move_id", BigInteger, ForeignKey("move.id"), primary_key=True),
    _when("last_write_at"),  # the last write to the source that the plan's policy permitted
    Column("lag_s", Double, nullable=False),  # the lag of reads at the source, in seconds
    _when("read_from"),  # the oldest and the newest look at both sides that the deletion rests on
    _when("read_to"),
    _when("listed_at"),
    Column("listed", BigInteger),
    Column("counted", BigInteger),  # the service's own count, if it was asked
    _when("asked_from"),
    _when("asked_to"),
)

target = Table(
    "target",
    metadata,
    _id(),
    _job(),
    Column("namespace", Text, nullable=False),
    Column("creator", Text),
    Column("twin", Text),
    Column("authority", Text, nullable=False, server_default=text("'source'")),
    _flag("prepared"),  # its namespace exists with the right filterable fields
    _flag("created_by_us"),
    _flag("checks_ids"),  # more than one move may write to it, or it held records before the job
    _count("held_before"),  # records from before the job: we neither change nor count them
    Column("held_before_digest", Numeric(39, 0), nullable=False, server_default=text("0")),
    _count("sequence"),  # raised before every upsert and removal
    _when("last_write_at"),
    _when("lands_by"),  # an unanswered upsert may take effect or show until then
    Column("check_state", Text, nullable=False, server_default=text(f"'{CheckState.WAITING}'")),
    Column("open_checks", Integer, nullable=False, server_default=text("0")),
    Column("check_sequence", BigInteger),
    Column("check_level", Text),  # the level that a person asked for; None: the plan's
    Column("lsn", BigInteger),  # number of our last write, if the service gives one: queries may lag behind it
    Column("verdict", _JSON_OR_NULL),
    _when("verdict_at"),
    Column("missing_allowed", Integer),  # records that may be missing here, set by a person for this target alone
    _one_of("check_state", CheckState),
    _one_of("authority", ("source", "target")),
    UniqueConstraint("job_id", "namespace"),
)

move_target = Table(
    "move_target",
    metadata,
    Column("move_id", BigInteger, ForeignKey("move.id"), primary_key=True),
    Column("target_id", BigInteger, ForeignKey("target.id"), primary_key=True),
    Index(None, "target_id"),
)

target_id = Table(
    "target_id",
    metadata,
    Column("target_id", BigInteger, ForeignKey("target.id"), primary_key=True),
    Column("record_id", Text(collation="C"), primary_key=True),
    Column("move_id", BigInteger, ForeignKey("move.id")),  # None: it was there before the job
    Column("digest", Numeric(39, 0)),
)

batch = Table(
    "batch",
    metadata,
    _id(),
    _job(),
    Column("move_id", BigInteger, ForeignKey("move.id")),
    Column("target_id", BigInteger, ForeignKey("target.id")),
    Column("copy_id", BigInteger, ForeignKey("batch.id")),  # the copy batch whose ids this one works on
    Column("copies", ARRAY(BigInteger)),  # for a check: the copy batches that it reads back
    Column("rewrite", Text),  # the part that is written when the batch is copied again; None: all
    Column("kind", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("state", Text, nullable=False, server_default=text(f"'{BatchState.READY}'")),
    Column("generation", Integer, nullable=False, server_default=text("0")),  # raised at each return to ready: a fence
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("lease_owner", Text),
    _when("lease_until"),
    _when("run_after"),
    _when("dispatched_at"),
    _when("first_leased_at"),
    _when("done_at"),
    _when("intent_at"),  # committed before the first deletion of this batch is sent
    _when("lands_by"),  # an unanswered deletion may take effect or show until then
    _when("answered_at"),  # the answer to the newest deletion of this batch
    _when("looked_at"),  # the oldest look of its newest finished attempt
    Column("listed_in", SmallInteger, nullable=False, server_default=text("1")),  # the pass that found its ids; 0: late
    Column("first_id", Text(collation="C")),
    Column("size", Integer, nullable=False, server_default=text("0")),
    Column("manifest", LargeBinary),
    Column("targets", ARRAY(BigInteger)),  # targets that it may have written to; set before its first upsert
    Column("found", _JSON_OR_NULL),
    Column("error_class", Text),
    Column("error_text", Text),
    Column("requests", Integer, nullable=False, server_default=text("0")),
    Column("read_units", Double, nullable=False, server_default=text("0")),
    Column("write_units", Double, nullable=False, server_default=text("0")),
    _count("egress_bytes"),
    _count("busy_ms"),
    _one_of("kind", BatchKind),
    _one_of("state", BatchState),
    _one_of("rewrite", ("differing", "parked")),
    Index("ix_batch_ready", "job_id", "seq", "id", postgresql_where=text(f"state = '{BatchState.READY}'")),
    Index("ix_batch_in_flight", "job_id", "state", postgresql_where=text(f"state IN ({_quoted(BATCH_IN_FLIGHT)})")),
    Index("ix_batch_open", "job_id", "kind", postgresql_where=text(f"state IN ({_quoted(BATCH_OPEN)})")),
    Index("ix_batch_parked", "job_id", "id", postgresql_where=text(f"state = '{BatchState.PARKED}'")),
    Index("ix_batch_move", "move_id", "kind", "first_id"),
    Index("ix_batch_target", "target_id", postgresql_where=text("target_id IS NOT NULL")),
    Index("ix_batch_copy", "copy_id", postgresql_where=text("copy_id IS NOT NULL")),  # read when a batch is deleted
)

batch_tally = Table(
    "batch_tally",
    metadata,
    Column("batch_id", BigInteger, ForeignKey("batch.id"), primary_key=True),
    Column("target_id", BigInteger, ForeignKey("target.id"), primary_key=True),
    Column("records", Integer, nullable=False),
    Column("digest", Numeric(39, 0), nullable=False),
    Column("ids_digest", Numeric(39, 0), nullable=False),
    Column("members", LargeBinary),  # one bit for each id of the manifest; None: all of them
    Column("record_digests", LargeBinary),  # 8 bytes for each member: its digest when it was written
    Index(None, "target_id"),
)

finding = Table(
    "finding",
    metadata,
    _id(),
    Column("target_id", BigInteger, ForeignKey("target.id"), nullable=False),
    Column("copy_id", BigInteger, ForeignKey("batch.id")),
    Column("kind", Text, nullable=False),
    Column("record_id", Text, nullable=False),
    Column("parts", Text),  # the parts that differ: values, sparse values, metadata
    _one_of("kind", ("missing", "extra", "different", "changed")),
    Index(None, "target_id"),
    Index("ix_finding_copy", "copy_id", postgresql_where=text("copy_id IS NOT NULL")),
)

difference = Table(
    "difference",
    metadata,
    _id(),
    Column("target_id", BigInteger, ForeignKey("target.id"), nullable=False),
    Column("check_id", BigInteger, ForeignKey("batch.id", ondelete="SET NULL")),
    Column("copy_id", BigInteger, ForeignKey("batch.id")),  # the copy batch of these ids; None: no batch's
    Column("kind", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("manifest", LargeBinary, nullable=False),  # their ids at the target
    Column("digests", LargeBinary),  # for different records, 8 bytes each: the digest that the check saw
    _one_of("kind", ("missing", "extra", "different", "changed")),
    Index(None, "target_id"),
    Index(None, "check_id"),
    Index(None, "copy_id"),
)

spent = Table(
    "spent",
    metadata,
    Column("job_id", BigInteger, ForeignKey("job.id"), primary_key=True),
    Column("kind", Text, primary_key=True),
    _count("requests"),
    Column("read_units", Double, nullable=False, server_default=text("0")),
    Column("write_units", Double, nullable=False, server_default=text("0")),
    _count("egress_bytes"),
    _count("busy_ms"),
    _when("began"),
    _when("ended"),
)

parked_record = Table(
    "parked_record",
    metadata,
    _id(),
    _job(),
    Column("move_id", BigInteger, ForeignKey("move.id"), nullable=False),
    Column("batch_id", BigInteger, ForeignKey("batch.id"), nullable=False),
    Column("record_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("accepted_by", Text),  # the person who let it stay behind
    _when("accepted_at"),
    UniqueConstraint("move_id", "record_id"),
    Index("ix_parked_record_job_id", "job_id", "id"),
    Index(None, "batch_id"),
)

ownership = Table(
    "ownership",
    metadata,
    Column("job_id", BigInteger, ForeignKey("job.id"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("creator", Text, nullable=False),
    Column("twin", Text),
    _one_of("kind", ("twin", "source")),
)

route = Table(
    "route",
    metadata,
    _id(),
    _job(),
    Column("creator", Text, nullable=False),
    Column("twin", Text),
    Column("old_index", Text, nullable=False),
    Column("old_namespaces", ARRAY(Text), nullable=False),
    Column("new_index", Text, nullable=False),
    Column("new_namespace", Text, nullable=False),
    Column("aliases", _JSON_OR_NULL),  # aliases that led to an old place, each with that place: they follow the readers
    Column("side", Text, nullable=False, server_default=text("'old'")),
    _now("changed_at"),
    _one_of("side", ("old", "new")),
    UniqueConstraint("job_id", "new_namespace"),
)

client = Table(
    "client",
    metadata,
    Column("name", Text, primary_key=True),  # machine/process/number, as it says itself
    Column("token", Text, primary_key=True),
    Column("freezes", Boolean, nullable=False),  # whether it refuses writes to frozen namespaces
    Column("seen_at", DateTime(timezone=True), nullable=False),
)

step = Table(
    "step",
    metadata,
    _id(),
    _job(),
    Column("percent", SmallInteger, nullable=False),
    _now("since"),
    Column("passes", SmallInteger, nullable=False),  # passes of the job begun by then
    Column("evidence", _JSON_OR_NULL),  # the evidence of shadow reads since: sums that processes add to
    Index(None, "job_id"),
)

audit = Table(
    "audit",
    metadata,
    _id(),
    _now("at"),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("job_id", BigInteger),
    Column("payload", _JSON_OR_NULL),  # NULL: erased on a person's request; the digest stays, so the chain stays valid
    Column("payload_digest", Text, nullable=False),
    Column("previous_hash", Text),
    Column("hash", Text),
    Index("ix_audit_unsealed", "id", postgresql_where=text("hash IS NULL")),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, server_default=text("1")),  # the one row
    Column("rows", BigInteger, nullable=False),
    Column("head", Text, nullable=False),
    Column("seal", Text, nullable=False),  # seals both: without the key nobody shortens the chain
    CheckConstraint("id = 1", name="one"),
)

erasure = Table(
    "erasure",
    metadata,
    _id(),
    Column("subject", Text, nullable=False),  # a digest: the tenant's name must not be kept
    _now("at"),
    Column("who", Text, nullable=False),
    _when("lifted_at"),  # the tenant came back
    Column("leases", _JSON_OR_NULL),  # copies under way when the fence was raised: batch and generation of each
    _when("quiet_at"),  # when all these leases were seen to be over
    _when("last_write_at"),  # by when any job's last write from before the fence was carried out
    Column("certificate", _JSON_OR_NULL),
    _when("certified_at"),
    Index("ix_erasure_subject", "subject", postgresql_where=text("lifted_at IS NULL")),
)

receiver = Table(
    "receiver",
    metadata,
    Column("name", Text, primary_key=True),
    Column("events", ARRAY(Text), nullable=False),  # a table of states, as `job`; or one state of it, as `batch.parked`
)

notice = Table(
    "notice",
    metadata,
    _id(),
    Column("delivery_id", UUID(as_uuid=False), nullable=False, server_default=func.gen_random_uuid()),
    Column("receiver", Text, nullable=False),
    Column("job_id", BigInteger, nullable=False),
    Column("machine", Text, nullable=False),
    Column("subject_id", BigInteger, nullable=False),
    Column("was", Text),  # None: the job is new
    Column("state", Text, nullable=False),
    _now("at"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("due_at", DateTime(timezone=True), server_default=func.clock_timestamp()),  # None: given up
    Column("answer", Text),  # the last failure
    Index(None, "receiver", "id"),
)

hook = Table(
    "hook",
    metadata,
    Column("name", Text, primary_key=True),
    Column("timeout_s", Double, nullable=False),
)

hook_call = Table(
    "hook_call",
    metadata,
    _id(),
    Column("delivery_id", UUID(as_uuid=False), nullable=False, server_default=func.gen_random_uuid()),
    _job(),
    Column("hook", Text, nullable=False),
    Column("percent", SmallInteger),  # of a cut-over
    Column("who", Text, nullable=False),
    Column("answer", Text, nullable=False, server_default=text("'asked'")),
    Column("words", Text),  # the hook's
    _now("asked_at"),
    _now("due_at"),
    _when("answered_at"),
    _one_of("answer", ("asked", "allowed", "refused", "used")),
    Index(None, "job_id"),
    Index("ix_hook_call_asked", "id", postgresql_where=text("answer = 'asked'")),
)

two_persons = Table("two_persons", metadata, Column("act", Text, primary_key=True))

consent = Table(
    "consent",
    metadata,
    _id(),
    Column("act", Text, nullable=False),
    Column("subject", Text, nullable=False),  # a job's number, or the digest of a tenant
    Column("who", Text, nullable=False),
    _now("at"),
    Column("used_by", Text),
    Index(None, "act", "subject"),
)

request_key = Table(
    "request_key",
    metadata,
    Column("key", Text, primary_key=True),  # a digest of the token's name and the key that its holder chose
    Column("request", Text, nullable=False),  # a digest of what was asked, salted with the key: it names nobody
    Column("attempt", Text, nullable=False),  # which of several such requests at once was first
    Column("act", BigInteger),  # its row of the audit trail, which is its answer; NULL: there was nothing to change
    _now("at"),
    Index(None, "at"),
)

# Vectors of texts, so that no text is paid for twice. A row without a vector is reserved: its batch asks for it.
embedding = Table(
    "embedding",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # digest of model, revision, dimension and text; by HMAC if encrypted
    Column("vector", LargeBinary),  # float32 values, little-endian; or these encrypted, where the plan names a key
    Column("tokens", Integer, nullable=False),  # as counted before the request: a part of what its request may cost
    Column("subjects", ARRAY(Text), nullable=False),  # digests of the tenants whose text it is
    Column("job_id", BigInteger, nullable=False),  # that asked
    Column("batch_id", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False),
    _when("reserved_until"),
    _when("asked_at"),  # since then the service may have billed the text
    _now("used_at"),  # to the hour
    Index(None, "used_at"),
    Index("ix_embedding_reserved", "job_id", postgresql_where=text("vector IS NULL")),
    Index("ix_embedding_subjects", "subjects", postgresql_using="gin"),
)

embedding_cost = Table(
    "embedding_cost",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    _count("requests"),
    _count("texts"),
    _count("tokens"),
    _count("unanswered"),  # tokens of requests without an answer, which the service may have billed
)

# What happens to a whole index outside of any job. A wipe holds its index; the service fills one before a job begins.
index_act = Table(
    "index_act",
    metadata,
    _id(),
    Column("kind", Text, nullable=False),
    Column("index", Text, nullable=False),  # with its account, as commands name it
    Column("host", Text),  # of a wipe
    Column("filled_from", Text),  # the index that a conversion converts
    Column("plan_digest", Text),  # of the plan for which the service fills the index
    Column("who", Text, nullable=False),
    _now("begun_at"),
    _when("until"),  # a wipe that goes on puts it off; after it, nothing of the wipe takes effect
    _when("ended_at"),
    Column("told", _JSON_OR_NULL),  # of a filling that somebody waits for: the service's last words
    _when("looked_at"),  # when they were said
    Column("stuck", Text),  # why nobody can tell whether a filling is over; NULL where somebody can
    _when("given_up_at"),  # by a person; certificates name the index from then on
    Column("given_up_by", Text),
    _one_of("kind", ("wipe", "conversion", "import")),
    Index(None, "ended_at"),
)

leader = Table(
    "leader",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
)

continuity = Table(
    "continuity",
    metadata,
    Column("lineage", Text, primary_key=True),  # the identity of this job table, the same in every copy of it
    _count("sequence"),  # raised by each look of a dispatcher, which remembers it elsewhere too
    Column("looked_at", DateTime(timezone=True), nullable=False),
    Column("server", Text, nullable=False),  # the Postgres that a dispatcher approved
    _flag("synchronous"),  # commits waited for a standby at that time
)

COLUMNS = frozenset(column.name for table in metadata.tables.values() for column in table.columns)
"""The names of all columns."""
