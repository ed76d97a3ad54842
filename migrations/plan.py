"""The plan: the reviewed file that says which namespace becomes which, under which policies, at what cost.

A plan holds no hosts, keys, SQL, webhook addresses or absolute paths: index names are resolved by the control plane
when the plan is applied. Its digest detects accidents (a hand-edited or truncated file), not attackers.
"""

import hashlib
from collections import Counter
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from migrations.embedding import Embedding
from migrations.mapping import MetadataMap
from migrations.renaming import parsed
from migrations.window import Window
from vecfleet import names
from vecfleet.connections import full_name
from vecfleet.errors import BadPlan
from vecfleet.private import write_private
from vecfleet.stores.base import BulkFiles, IndexInfo, Kind, ReadNodes

try:  # libyaml reads a plan of 12,000 moves in a second; pure Python takes half a minute
    from yaml import CSafeDumper as SafeDumper
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeDumper, SafeLoader  # type: ignore[assignment]

PLAN_VERSION: Literal[1] = 1
# 12,000 moves take about 3 MB of YAML. A larger file than this is none of ours.
MAX_PLAN_BYTES = 64_000_000
# Up to this size a person may sit and wait for a job's end: some ten seconds of copying.
SMALL_MOVES, SMALL_RECORDS = 100, 100_000
# The fields of a move that are always in the file. Others are there only if they have a value.
_SHOWN = ("source", "records", "to")


# The levels of a verification, the weakest first. `count` is not among them, because a count proves nothing.
Level = Literal["ids", "content", "content+query"]
LEVELS: tuple[Level, ...] = ("ids", "content", "content+query")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IndexRef(_Part):
    """An index by store and name, with properties that must still hold when the plan is applied."""

    store: str = Field(
        default="pinecone", pattern=r"^(pinecone(@[a-z0-9][a-z0-9_-]*)?|parquet|memory|pgvector|pgvector-other)$"
    )
    index: str
    kind: Kind
    dimension: int | None
    metric: str | None
    project: str | None = None  # of an index of Pinecone whose host tells it
    fields: dict[str, dict[str, Any]] | None = None  # of its schema, to create it by; None: the source's
    names: dict[str, str] = Field(default_factory=dict)  # in documents: metadata key → its name, where that is another

    def shape(self, source: IndexInfo) -> IndexInfo:
        """Return the index to create this one like."""
        return source if self.fields is None else replace(source, kind=self.kind, schema={"fields": self.fields})

    def named(self, info: IndexInfo) -> IndexInfo:
        """Return the index with the names that metadata keys have in it."""
        return replace(info, names=self.names) if self.names else info

    @property
    def typed(self) -> str:
        """Return it as commands about Pinecone take it: the index, behind its account if that is a named one."""
        return full_name(self.store, self.index)


class NewIndex(_Part):
    """A target that `apply` creates from its fields or the source's. A folder and a schema of Postgres need none of it.

    `tags`: all of them; None: those of the source. `read_capacity`: its own nodes; None: it is read on demand.
    """

    cloud: str | None = None
    region: str | None = None
    tags: dict[str, str] | None = None
    deletion_protection: bool = False
    read_capacity: ReadNodes | None = None


class PlannedMove(_Part):
    """One source namespace. `to` is its target namespace; None: its records go to several.

    Each record then goes to the name that `template` makes with the record's value of the plan's key. Without a
    template it goes to the namespace of its own owner.
    """

    source: str
    records: int = Field(ge=0, description="as listed or counted when planning")
    to: str | None = None
    template: str | None = None
    creator: str | None = None
    twin: str | None = None
    ids_file: str | None = None  # an id source, for a store that cannot list

    @property
    def is_divided(self) -> bool:
        """Say whether its records may go to several targets."""
        return self.to is None

    @property
    def by_owner(self) -> bool:
        return self.to is None and self.template is None

    def may_reach(self, target: str) -> bool:
        """Say whether records may go to this target, judging by the template or `to` alone."""
        if self.template is not None:
            return parsed(self.template).may_be(target)
        return self.to in (None, target)


class Split(_Part):
    """The metadata key by which sources are split. Records without it go to `otherwise`; None: they are parked."""

    key: str
    otherwise: str | None = None


class Policies(_Part):
    """The decisions of a plan, each for the whole job."""

    # freeze: the operator stops writers until the cut-over; dual: the application writes to both sides; delta: it
    # writes to the source and knows nothing of the fleet.
    writers: Literal["freeze", "dual", "delta"] = "freeze"
    max_passes: int = Field(default=5, ge=1)  # passes over the sources in all, if writers go on
    conflicts: Literal["fail", "keep", "overwrite"] = "fail"
    collisions: Literal["fail", "skip", "prefix", "identical"] = "fail"
    orphans: Literal["park", "review"] = "park"
    review_namespace: str = "review"
    numbers: Literal["park", "float64"] = "park"  # NaN, infinities and integers past 2**53
    halves: Literal["refuse", "accept"] = "refuse"  # for values that a target keeps as 16 bits each
    converted: bool = False  # the service makes the target of the source when the plan is applied
    bulk: BulkFiles | None = None  # the service fills the target from these, copies of the source's
    encoded_ids: bool = False  # ids at Pinecone are the ASCII forms of those at the plan's other side
    enrich: bool = True
    metadata_map: MetadataMap | None = None  # in a reverse plan, the map that it takes back
    embedding: Embedding | None = None  # the vectors of targets are made of texts
    verify: Level = "content"
    query_sample: int = Field(default=10, ge=1, le=1_000)  # vectors of a target, queried on both sides
    query_top_k: int = Field(default=10, ge=1, le=100)
    query_overlap: float = Field(default=0.9, gt=0, le=1)  # each query must reach at least this overlap
    cut_over: Literal["operator", "auto", "none"] = "operator"
    dwell_seconds: int = Field(default=86_400, ge=0)  # at 25 % and at 50 % of the readers
    # The share of queries that are asked of both sides. Above 0, a step needs them.
    shadow_share: float = Field(default=0.0, ge=0, le=1)
    bad_step: Literal["refuse", "reverse"] = "refuse"  # when the new side has over 1 % errors or a p95 over 100 ms
    soak_seconds: int = Field(default=86_400, ge=0)
    clean_up: Literal["operator", "auto"] = "operator"
    check_every_write: bool = False  # read each target before the first write to it, even one that this job made
    leave_alias: bool = False  # a deleted namespace's name leads to its target from then on
    window: Window | None = None  # in it alone batches begin; None: at any hour
    repair_rounds: int = Field(default=2, ge=0)
    budget_factor: float = Field(default=1.5, gt=0)
    exclusive: bool = False  # nobody else reads or writes the index: the fleet may use the whole documented allowance

    @property
    def prefilled(self) -> bool:
        """Say whether the service itself filled the targets before the job, as far as it could."""
        return self.converted or self.bulk is not None

    @property
    def review(self) -> str | None:
        """Return the namespace for records without an owner; None: they are parked."""
        return self.review_namespace if self.orphans == "review" else None

    @property
    def quiet_passes(self) -> int:
        """Return how many passes in a row must find no change before the copy is verified."""
        return {"freeze": 0, "dual": 1, "delta": 2}[self.writers]


# The twin's part of its namespace: its id, its name, or its number among its creator's twins.
TwinKey = Literal["id", "name", "sequence"]


class OwnershipRef(_Part):
    """The origin of the answers, and the digest they must still have when the plan is applied."""

    origin: Literal["supabase", "postgres", "file"]
    file: str | None = None
    twin_key: TwinKey = "id"
    twins: int
    sources: int
    digest: str


class MonthlyCost(_Part):
    """The dollars that one side costs a month. None: not known here, `because` of what it is.

    `reads`: of the queries, or of its nodes.
    """

    storage: float | None
    reads: float | None
    because: str | None = None


class Monthly(_Part):
    """The running cost of the moved records before the job and after its clean-up; in between both are paid.

    `queries` a month are asked, of each source as many as of any other, and then of the target of its records.
    """

    queries: int
    before: MonthlyCost
    after: MonthlyCost


class TextCost(_Part):
    """The expected cost of embedding: `distinct` texts are billed, with so many tokens.

    `counted`: by the model's own tokenizer; else the tokens are guessed from the bytes of the texts.
    """

    texts: int
    distinct: int
    tokens: int
    dollars: float
    seconds: float
    counted: bool


class Estimate(_Part):
    """The expected cost of the whole job: copy, verification, re-read and clean-up; and what a month costs.

    `record_bytes` is the mean size of a record as the service bills it, seen in a sample when planning. `embedding`:
    what the model costs, which is no part of the other figures.
    """

    records: int
    record_bytes: float = 0.0
    requests: int
    read_units: float
    write_units: float
    egress_bytes: int
    dollars: float
    seconds: float
    monthly: Monthly | None = None
    embedding: TextCost | None = None


class Plan(_Part):
    """The reviewed plan: which namespace becomes which. Built by a recipe, reviewed by a person, run as a job."""

    vecfleet: Literal[1] = PLAN_VERSION
    recipe: str
    made_at: datetime
    source: IndexRef
    target: IndexRef
    create_target: NewIndex | None = None
    policies: Policies = Policies()
    ownership: OwnershipRef | None = None
    lookup_key: str = "source_id"  # the metadata key by which a record names its source
    # The source namespace whose filterable fields every target gets, if sources of one target disagree.
    schema_from: str | None = None
    # In a reverse plan: the namespaces that records go back to, each record to the one it came from.
    takes_back: tuple[str, ...] = ()
    takes_back_owners: bool = True  # whether the plan that is taken back wrote owners into records
    split: Split | None = None
    filled_before: tuple[str, ...] | None = None  # older conversions or imports like its own; None: nobody looked
    moves: tuple[PlannedMove, ...]
    left_alone: tuple[str, ...] = ()
    estimate: Estimate
    warnings: tuple[str, ...] = ()
    command: tuple[str, ...] = ()  # what was typed to make it; nothing if that names a machine's place
    digest: str = ""

    @model_validator(mode="after")
    def _each_source_once(self) -> Self:
        planned = Counter(names.canonical(move.source) for move in self.moves)
        twice = sorted(name for name, times in planned.items() if times > 1)
        if twice:
            raise ValueError(f"these source namespaces are planned more than once: {', '.join(twice)}")
        return self

    @property
    def same_index(self) -> bool:
        return (self.source.store, self.source.index) == (self.target.store, self.target.index)

    @property
    def writes_owners(self) -> bool:
        """Say whether the plan writes owners into any records. Plans that keep all names do not."""
        return any(move.creator is not None or move.to is None for move in self.moves)

    def target_like(self, source: IndexInfo) -> IndexInfo:
        """Return the source as its target must be: of the kind, dimension and metric of what is written there."""
        embedding = self.policies.embedding
        return source if embedding is None else embedding.made(source)

    @property
    def keeps_files(self) -> bool:
        """Say whether the copy is files, which can be imported again: such a copy is its own backup."""
        return self.target.store == "parquet"

    @property
    def records(self) -> int:
        return sum(move.records for move in self.moves)

    @property
    def is_small(self) -> bool:
        """Say whether a person may sit and wait for the job's end."""
        return len(self.moves) <= SMALL_MOVES and self.records <= SMALL_RECORDS

    def may_share(self, target: str) -> bool:
        """Say whether several moves may write to this target. Their ids are then checked against each other.

        A move whose records go to their own owners may reach any target, so two such moves may reach the same one.
        """
        left_over = self.split is not None and self.split.otherwise == target
        splitting = sum(left_over or move.may_reach(target) for move in self._splitting)
        writers: int = self._writers[None] + self._writers[target]
        return writers + splitting > 1

    @cached_property
    def old_namespaces(self) -> frozenset[str]:
        return frozenset(self.takes_back)

    @cached_property
    def ids_files(self) -> dict[str, str]:
        """Return the id source of each namespace that has one."""
        return {move.source: move.ids_file for move in self.moves if move.ids_file is not None}

    @cached_property
    def _writers(self) -> Counter[str | None]:
        """Count the moves that write to each target; under None, the moves that may write to any target."""
        return Counter(move.to for move in self.moves if move.template is None)

    @cached_property
    def _splitting(self) -> tuple[PlannedMove, ...]:
        return tuple(move for move in self.moves if move.template is not None)

    def sealed(self) -> Self:
        """Return this plan with its digest."""
        return self.model_copy(update={"digest": self.computed_digest()})

    def computed_digest(self) -> str:
        """Return the digest of what differs from defaults: a field of a later version alters no digest of before."""
        body = self.model_dump(mode="json", exclude={"digest"}, exclude_defaults=True)
        return "sha256:" + hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def write_plan(plan: Plan, path: Path) -> Plan:
    """Write the plan with its digest as YAML, completely or not at all, for its owner only. Return the sealed plan."""
    sealed = plan.sealed()
    body = sealed.model_dump(mode="json")
    body["moves"] = [{key: value for key, value in move.items() if value or key in _SHOWN} for move in body["moves"]]
    text: str = yaml.dump(body, Dumper=SafeDumper, sort_keys=False, allow_unicode=True, width=120)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, text)
    return sealed


def read_plan(path: Path) -> Plan:
    """Read a plan file. Raises BadPlan if it is missing, too large, malformed, or edited after it was sealed."""
    remedy = "name a file that `vecfleet plan` wrote; `vecfleet plan --help` lists what can be planned"
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= MAX_PLAN_BYTES else ""
    except FileNotFoundError as error:
        beside = [file.name for file in path.parent.glob("*.y*ml")]
        raise BadPlan(f"there is no plan file {path}{names.meant(path.name, beside)}", next_step=remedy) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadPlan(f"the plan file {path} cannot be read: {error}", next_step=remedy) from error
    if size > MAX_PLAN_BYTES:
        raise BadPlan(f"{path} has {size:,} bytes; a plan has at most {MAX_PLAN_BYTES:,}", next_step=remedy)
    try:
        body: Any = yaml.load(text, Loader=SafeLoader)
        if not isinstance(body, dict):
            raise BadPlan(f"{path} is not a plan: it names no moves of namespaces", next_step=remedy)
        plan = Plan.model_validate(body)
    except yaml.YAMLError as error:
        raise BadPlan(
            f"{path} is not a plan: it is not YAML ({str(error).splitlines()[0]})", next_step=remedy
        ) from error
    except ValidationError as error:
        raise BadPlan(f"{path} is not a plan: {_complaints(error)}", next_step=remedy) from error
    if plan.digest != plan.computed_digest():
        raise BadPlan(
            f"{path} was changed after it was made: its content does not match its digest",
            next_step="make the plan again with the options you want; plans are not edited by hand",
        )
    return plan


def _complaints(error: ValidationError) -> str:
    shown = [f"{'.'.join(str(part) for part in item['loc']) or 'plan'}: {item['msg']}" for item in error.errors()[:5]]
    return "; ".join(shown)
