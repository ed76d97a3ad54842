"""Steps of both clients before they send and after they hear: pure functions, once for threads and coroutines.

The application's arguments are read and never changed.
"""

import heapq
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, TypedDict, TypeVar

import orjson
from msgspec.structs import replace

from vecfleet.clock import now
from vecfleet.errors import BadInput, RoutesTooOld, WritesFrozen
from vecfleet.names import Tenant
from vecfleet.records import Metadata, Record, Sparse
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.serving import Filter, Hit, Keyed, Question, Rerank
from vecfleet.stores.value_text import pack
from vecfleet.tenancy.options import TextOptions
from vecfleet.tenancy.places import (
    Place,
    Side,
    Where,
    allowed_filter,
    holds_only,
    new_place,
    on_new_side,
    require_marked,
    screened,
)
from vecfleet.tenancy.rollout import Rollout
from vecfleet.tenancy.shadow_reads import ShadowLog

T = TypeVar("T")

MAX_TOP_K = 10_000  # the service's own limit
LOWER_IS_NEARER = frozenset({"euclidean"})


@dataclass(frozen=True, slots=True)
class Answer(Keyed):
    """The result of a query, best first. `matches` as in the SDK; each match knows its namespace."""

    matches: list[Hit] = field(default_factory=list)
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to one place, with the filter that makes it safe there."""

    place: Place
    tenant: Tenant
    question: Question

    def heard(self, hits: Sequence[Hit], *, metadata: bool) -> list[Hit]:
        """Return its answers without foreign ones, with metadata only if the caller asked for them."""
        kept = screened(self.place, self.tenant, hits)
        return kept if metadata or not self.question.metadata else [replace(hit, metadata=None) for hit in kept]


def tenant_of(creator_id: str | None, twin_id: str | None) -> Tenant:
    """Return the tenant. Raises BadInput if no creator is named: the owner of records is never guessed."""
    if not creator_id or not isinstance(creator_id, str):
        raise BadInput("no creator is named", next_step="give `creator_id`")
    if twin_id is not None and not isinstance(twin_id, str):
        raise BadInput("a twin's id is not a text", next_step="give `twin_id` as it was when the twin was made")
    return Tenant(creator_id, twin_id or None)


def twins_of(creator: str, twin_ids: Iterable[str]) -> list[Tenant]:
    """Return the twins that are asked together, each once. Raises BadInput if one is none."""
    if isinstance(twin_ids, str):
        raise BadInput("`twin_ids` is one text", next_step="give a list of ids")
    return list(dict.fromkeys(Tenant(creator, twin_of(twin)) for twin in twin_ids))


@lru_cache(maxsize=4_096)  # tenants asked for again and again; an entry takes under 1 KB
def alone(creator_id: str, twin_id: str | None) -> Where:
    """Return the place of a tenant without a roll-out: its own namespace."""
    tenant = Tenant(creator_id, twin_id)
    return Where(tenant, "new", (new_place(tenant),), "there is no roll-out")


def twin_of(twin_id: str | None) -> str:
    """Return the twin's id. Raises BadInput without one: a twin's deletion never becomes one of its creator."""
    if not twin_id or not isinstance(twin_id, str):
        raise BadInput("no twin is named", next_step="give `twin_id`, or delete the creator")
    return twin_id


@dataclass(slots=True)
class Leave:
    """Leave to write where the routes lead, for as long as a write may rest on them. Asked before each call and after.

    A write with a late answer does not count either: it may have come to a side that was deleted meanwhile.

    A freeze rests on the same leave. Routes that were read before it carry no write past their end, neither its calls
    nor its acknowledgement; the job reads its sources after that end (`orchestrator.core.freshness`).
    """

    where: Where
    clock: Callable[[], float]

    @property
    def stands(self) -> bool:
        return self.clock() < self.where.until

    def renew(self, again: Where) -> None:
        """Renew it by routes that were read again.

        Raises RoutesTooOld if they were not, or lead elsewhere by now; WritesFrozen if they forbid writes by now.
        """
        if self.clock() >= again.until:
            raise RoutesTooOld(
                "this write does not count: the routes it would rest on were read longer ago than "
                "ROUTES_STALE_SECONDS, and cannot be read again now",
                next_step="check VECFLEET_ROUTES, then write it again",
            )
        if again.frozen:
            raise WritesFrozen(f"this write does not count: {again.frozen} by now", next_step=_THAWS)
        if (self.where.side, self.where.writes) != (again.side, again.writes):
            raise RoutesTooOld(
                "this write does not count: while it was under way the routes came to lead elsewhere",
                next_step="write it again",
            )
        self.where = again


_THAWS = (
    "keep it, and write it again later: it passes within ROUTES_CACHE_SECONDS of the job's cut-over, "
    "end or cancellation"
)


def require_not_frozen(where: Where) -> None:
    """Raise WritesFrozen before anything is sent, if a plan stops the writers of a place."""
    if where.frozen:
        raise WritesFrozen(f"nothing was written: {where.frozen}", next_step=_THAWS)


def clock_of(rollout: Rollout | None) -> Callable[[], float]:
    """Return the clock by which a client's routes age. Without a roll-out nothing does."""
    return now if rollout is None else rollout.clock


def may_fall_back(where: Where, rollout: Rollout | None) -> bool:
    """Say whether a reader whose new side fails for a moment may be answered from the old one."""
    return rollout is not None and rollout.fallback and where.side == "new" and bool(where.other)


class QueryOptions(TypedDict, total=False):
    """Further arguments of a query, by name.

    `query_vector` is another name of `vector`; `text` is embedded by the model that the tenant's route names, else by
    `embed`, else by an index that embeds texts itself; `model` made the vector; `rerank` False leaves out the reranker
    that the settings name.
    """

    query_vector: Any
    text: str | None
    sparse_vector: Any
    include_values: bool
    rerank: bool | None
    model: str | None
    embed: Callable[[str], Sequence[float]] | None


def question_of(
    options: TextOptions,
    vector: Any,
    top_k: int,
    filter: Filter | None,
    include_metadata: bool,
    *,
    query_vector: Any = None,
    text: str | None = None,
    sparse_vector: Any = None,
    include_values: bool = False,
    rerank: bool | None = None,
    model: str | None = None,
    embed: Callable[[str], Sequence[float]] | None = None,
) -> Question:
    """Return one question from either spelling of its arguments. Raises BadInput for none, or for two at once."""
    if vector is not None and query_vector is not None:
        raise BadInput("`vector` and `query_vector` are the same argument", next_step="give one of them")
    wanted = query_vector if vector is None else vector
    if (wanted is None and sparse_vector is None) == (text is None):
        raise BadInput("a search needs a vector or a text, and not both", next_step="give `vector` or `text`")
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= MAX_TOP_K:
        raise BadInput(f"`top_k` must be from 1 to {MAX_TOP_K:,}", next_step="ask for 10")
    reranker = options.reranker if rerank is not False else None
    return Question(
        vector=_listed(wanted),
        sparse=sparse_vector,
        text=text,
        top_k=top_k,
        filter=filter,
        values=include_values,
        metadata=include_metadata,
        rerank=Rerank(reranker, options.field) if text is not None and reranker else None,
        model=model,
        embed=embed,
    )


def asks_of(tenant: Tenant, places: Sequence[Place], question: Question) -> list[Ask]:
    """Return the question to each place. Raises TenantIsolationError, before sending, if one may not be read."""
    asks = []
    for place in places:
        own = allowed_filter(place, tenant, question.filter)
        # A shared place's answers are looked at once more, and that needs their metadata.
        seen = question.metadata or not holds_only(place)
        plain = own is question.filter and seen == question.metadata
        asks.append(Ask(place, tenant, question if plain else replace(question, filter=own, metadata=seen)))
    return asks


def sent_often(question: Question) -> Question:
    """Return the question with its vector as JSON text: it is then written once for all its places."""
    if question.vector is None:
        return question
    return replace(question, vector=orjson.Fragment(orjson.dumps(question.vector)))


def merged(lists: Sequence[Sequence[Hit]], top_k: int, metric: str | None) -> list[Hit]:
    """Return the best of several answers. Equal scores stay in the order of the lists, then of each list.

    The same id in two namespaces is two records.
    """
    if len(lists) == 1:
        return list(lists[0][:top_k])
    nearer = 1.0 if metric in LOWER_IS_NEARER else -1.0
    ranked = ((nearer * hit.score, number, hit) for number, hit in enumerate(chain.from_iterable(lists)))
    return [hit for _, _, hit in heapq.nsmallest(top_k, ranked, key=lambda item: item[:2])]


def heard(asks: Sequence[Ask], lists: Sequence[Sequence[Hit]], *, metadata: bool) -> list[list[Hit]]:
    """Return the answers to each question, foreign records left out."""
    return [ask.heard(hits, metadata=metadata) for ask, hits in zip(asks, lists, strict=True)]


def note_shadow(
    log: ShadowLog,
    where: Where,
    hits: Sequence[Hit],
    took_ms: float,
    others: Sequence[Hit],
    other_ms: float,
    failed: bool,
) -> None:
    """Note one query asked of both sides: how the new side compares with the old one."""
    if where.side == "new":
        log.record(where.job, took_ms, False, None if failed else overlap(others, hits))
    else:
        log.record(where.job, other_ms, failed, None if failed else overlap(hits, others))


def records_of(vectors: Iterable[Any], where: Where, extra: Mapping[str, Any] | None, info: IndexInfo) -> list[Record]:
    """Return the records to write: copies of the given ones, each with its owner in its metadata."""
    records = [_record(vector, where.tenant, extra, info) for vector in vectors]
    for record in records:
        require_marked(where, record.metadata)
    return records


def texts_of(texts: Iterable[Mapping[str, Any]], where: Where, field_name: str) -> list[dict[str, Any]]:
    """Return the texts to write: copies, flat as the service takes them, each with its owner."""
    flat = [_text(given, where.tenant, field_name) for given in texts]
    for text in flat:
        require_marked(where, text)
    return flat


Homes = Mapping[str, Place]
"""The old place of each record, for a tenant with several; a new record comes to the first."""


def records_on(side: Side, where: Where, homes: Homes, items: Sequence[Record]) -> Iterator[tuple[Place, list[Record]]]:
    """Yield the records for each place of this side, as it holds them: the new one holds what a migration makes."""
    if side == "new" and where.dual:
        items = [
            record.with_metadata(on_new_side(record.metadata, where.tenant, homes.get(record.id, where.old[0])))
            for record in items
        ]
    return by_place(side, where, homes, items, lambda record: record.id)


def texts_on(
    side: Side, where: Where, homes: Homes, items: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Place, list[Mapping[str, Any]]]]:
    """Yield the texts for each place of this side, as it holds them."""
    if side == "new" and where.dual:
        items = [
            {**on_new_side({key: value for key, value in text.items() if key != "_id"}, where.tenant,
                           homes.get(text["_id"], where.old[0])),
             "_id": text["_id"]}
            for text in items
        ]  # fmt: skip
    return by_place(side, where, homes, items, lambda text: str(text["_id"]))


def by_place(
    side: Side, where: Where, homes: Homes, items: Sequence[T], id_of: Callable[[T], str]
) -> Iterator[tuple[Place, list[T]]]:
    """Yield the items for each place of this side: to where they are, new ones to the first."""
    places = where.new if side == "new" else where.old
    placed: dict[Place, list[T]] = {}
    for item in items:
        placed.setdefault(homes.get(id_of(item), places[0]) if side == "old" else places[0], []).append(item)
    yield from placed.items()


def ids_of(ids: Iterable[str]) -> list[str]:
    """Return the ids as a list. Raises BadInput if one of them is none."""
    listed = [ids] if isinstance(ids, str) else list(ids)
    if not all(isinstance(id, str) and id for id in listed):
        raise BadInput("an id of a record is not a text", next_step="give the ids as they were written")
    return listed


def overlap(old: Sequence[Hit], new: Sequence[Hit]) -> float | None:
    """Return the share of the old side's finds that the new one found too, by id. None if the old one has none."""
    wanted = {hit.id for hit in old}
    return len(wanted & {hit.id for hit in new}) / len(wanted) if wanted else None


def _listed(vector: Any) -> Any:
    """Return a vector as the SDK reads it. An array of numpy is known by its method: numpy need not be loaded."""
    return vector.tolist() if hasattr(vector, "tolist") else vector


def _owner(tenant: Tenant) -> dict[str, str]:
    return {"creator_id": tenant.creator} | ({"twin_id": tenant.twin} if tenant.twin is not None else {})


def _record(given: Any, tenant: Tenant, extra: Mapping[str, Any] | None, info: IndexInfo) -> Record:
    if isinstance(given, tuple):
        id, values, *rest = given
        sparse, metadata = None, rest[0] if rest else None
    else:
        id, values, metadata = (_of(given, name) for name in ("id", "values", "metadata"))
        sparse = _of(given, "sparse_values") or _of(given, "sparseValues")
    if not isinstance(id, str) or not id:
        raise BadInput("a vector has no id", next_step="give each vector an `id`")
    return Record(id, _floats(id, values, info), _sparse(sparse), _metadata(metadata, extra, tenant))


def _metadata(given: Any, extra: Mapping[str, Any] | None, tenant: Tenant) -> Metadata:
    return {**(extra or {}), **(given or {}), **_owner(tenant)}


def _floats(id: str, values: Any, info: IndexInfo) -> bytes:
    numbers = _listed(values) if values is not None else []
    if info.kind is not Kind.SPARSE and info.dimension is not None and len(numbers) != info.dimension:
        raise BadInput(
            f"the vector {id!r} has {len(numbers):,} values; the index {info.name!r} has {info.dimension:,} dimensions",
            next_step="embed it with the model that the index was made for",
        )
    try:
        return pack(numbers)
    except (struct.error, OverflowError) as error:
        raise BadInput(f"the vector {id!r} holds something that is no float32", next_step="give numbers") from error


def _sparse(given: Any) -> Sparse | None:
    if not given:
        return None
    indices, values = _listed(_of(given, "indices")), _listed(_of(given, "values"))
    return Sparse(struct.pack(f"<{len(indices)}I", *indices), pack(values))


def _text(given: Mapping[str, Any], tenant: Tenant, field_name: str) -> dict[str, Any]:
    id, text = given.get("_id") or given.get("id"), given.get(field_name) or given.get("text")
    if not isinstance(id, str) or not isinstance(text, str):
        raise BadInput("a text needs an `id` and a `text`", next_step=f"the text may also stand under {field_name!r}")
    left = {key: value for key, value in given.items() if key not in ("_id", "id", "text", "metadata", field_name)}
    return {**left, **(given.get("metadata") or {}), **_owner(tenant), "_id": id, field_name: text}


def _of(given: Any, name: str) -> Any:
    return given.get(name) if isinstance(given, Mapping) else getattr(given, name, None)
