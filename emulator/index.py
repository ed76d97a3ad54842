"""One index: its shape, its namespaces, and every operation of the data plane as a method.

REST and gRPC both call these methods, so the two transports cannot disagree.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from emulator.aliases import Aliases
from emulator.contested import DEFAULTS, Contested
from emulator.errors import Refusal, invalid, not_found
from emulator.filters import Scope, compile_filter
from emulator.keeper import Keeper
from emulator.kinds import Shape
from emulator.namespaces import Namespace
from emulator.records import (
    DEFAULT_NAMESPACE,
    Record,
    Sparse,
    check_finite,
    check_id,
    check_ids,
    clean_fields,
    is_zero,
    pack_metadata,
)
from emulator.scoring import Match, Wanted, best
from emulator.tokens import make_token, read_token

LIST_LIMIT = 100
TOP_K_LIMIT = 10_000
FETCH_BY_METADATA_LIMIT = 10_000
RESPONSE_BYTES = 4 * 1024 * 1024
NAMESPACES_PER_INDEX = 100_000


@dataclass
class Index:
    name: str
    description: dict[str, object]  # the control plane's answer, except `host` and `status`
    shape: Shape
    port: int
    keeper: Keeper
    remember_s: Callable[[], float]
    id: str = field(default_factory=lambda: str(uuid4()))
    ready_at: float = 0.0  # Unix time; until then it is being restored from a backup, or converted
    failed: bool = False  # its conversion did not end well
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    aliases: Aliases = field(init=False)
    deleted: bool = False
    contested: Contested = DEFAULTS
    _dropped: dict[str, Namespace] = field(
        default_factory=dict
    )  # the last namespace of each name, for readers that lag

    def __post_init__(self) -> None:
        self.aliases = Aliases(self.namespaces)

    def check_operation(self, operation: str, api: str = "vectors") -> None:
        """Refuse an operation that this kind of index lacks, or one over a connection that outlives the index."""
        if self.deleted:
            raise not_found(f"Index {self.name} not found")
        self.shape.refuse(operation, api)

    def state(self) -> str:
        if self.failed:
            return "InitializationFailed"
        return "Ready" if self.ready_at <= time.time() else "Initializing"

    # -- namespaces ---------------------------------------------------------------------------------------------

    def save_aliases(self) -> None:
        self.keeper.save_document("aliases", self.id, dict(self.aliases.by_name))

    def _written(self, name: str) -> Namespace:
        """Return the namespace of a write; make it when it is new."""
        self.aliases.refuse_write(name)
        namespace = self.namespaces.get(name)
        if namespace is None:
            namespace = self._make(name, None)
        return namespace

    def _make(self, name: str, filterable: frozenset[str] | None) -> Namespace:
        if len(self.namespaces) >= NAMESPACES_PER_INDEX:
            raise Refusal(403, f"The index has reached its {NAMESPACES_PER_INDEX} namespaces", word="QUOTA_EXCEEDED")
        namespace = self.namespaces[name] = Namespace(name, filterable)
        self.keeper.save_namespace(self.id, name, filterable, 0)
        return namespace

    def _existing(self, name: str) -> Namespace:
        namespace = self.namespaces.get(name)
        if namespace is None:
            raise not_found("Namespace not found")
        return namespace

    def create_namespace(self, name: str, filterable: frozenset[str] | None) -> Namespace:
        if name == DEFAULT_NAMESPACE:
            raise invalid(f"Namespace name '{DEFAULT_NAMESPACE}' is reserved and cannot be created")
        self.aliases.refuse_name(name)
        if name in self.namespaces:
            raise Refusal(409, f"Namespace '{name}' already exists")
        return self._make(name, filterable)

    def restore_namespace(self, name: str, filterable: frozenset[str] | None, records: Sequence[Record]) -> None:
        """Make a namespace out of a backup."""
        self._put(self._make(name, filterable), records)

    def describe_namespace(self, name: str, lag_s: float) -> Namespace:
        """Return a namespace. `__default__` of a vector index exists before its first record."""
        name = self.aliases.resolve(name)
        seen = self._seen(name, lag_s)
        if seen is None and name == DEFAULT_NAMESPACE and self.shape.document is None:
            return Namespace(name)
        return seen or self._existing(name)

    def list_namespaces(
        self, prefix: str, token: str | None, limit: int, lag_in: Callable[[str], float]
    ) -> tuple[list[tuple[Namespace, float]], str | None, int]:
        """Return a page of namespaces, each with its lag, the token of the next page, and the number of all."""
        if not 1 <= limit <= LIST_LIMIT:
            raise invalid(f"limit must be between 1 and {LIST_LIMIT}, got {limit}")
        names = [name for name in self._names_seen(lag_in) if name.startswith(prefix)]
        after = read_token(token, "namespaces")
        rest = [name for name in names if name > after] if after else names
        page = rest[:limit]
        token = make_token("namespaces", page[-1]) if len(rest) > limit else None
        return self._each_seen(page, lag_in), token, len(names)

    def _seen(self, name: str, lag_s: float) -> Namespace | None:
        """Return the namespace that a lagging reader sees: perhaps the one that was dropped meanwhile."""
        former = self._dropped.get(name)
        if former is not None and time.monotonic() - lag_s < former.dropped_at:
            return former
        return self.namespaces.get(name)

    def _names_seen(self, lag_in: Callable[[str], float]) -> list[str]:
        former = (name for name in self._dropped if self._seen(name, lag_in(name)) is not None)
        return sorted({*self.namespaces, *former})

    def _each_seen(self, names: Iterable[str], lag_in: Callable[[str], float]) -> list[tuple[Namespace, float]]:
        lags = ((name, lag_in(name)) for name in names)
        return [(seen, lag_s) for name, lag_s in lags if (seen := self._seen(name, lag_s)) is not None]

    def delete_namespace(self, name: str) -> int:
        self.aliases.refuse_write(name)
        lsn = self._existing(name).lsn + 1
        self.aliases.refuse_deletion(name)
        self.drop_namespace(name)
        return lsn

    def drop_namespace(self, name: str) -> None:
        namespace = self.namespaces.pop(name, None)
        if namespace is None:
            return
        self.keeper.drop_namespace(self.id, name)
        remember_s = self.remember_s()
        if not remember_s:
            return
        namespace.dropped_at = time.monotonic()
        self._dropped.pop(name, None)
        self._dropped[name] = namespace
        while (oldest := next(iter(self._dropped.values()))).dropped_at <= namespace.dropped_at - remember_s:
            del self._dropped[oldest.name]

    # -- writes -------------------------------------------------------------------------------------------------

    def check_record(self, id: object, values: bytes, sparse: Sparse | None, fields: object) -> Record:
        """Return a record that this index would store."""
        id = check_id(id)
        if values:
            self.check_values(values, f"Vector ID {id}")
        elif sparse is None:
            raise invalid(f"Vector ID {id} must have values or sparse values")
        elif self.shape.dimension:
            raise invalid(f"Vector ID {id} must have dense values: the index has {self.shape.dimension} dimensions")
        if sparse is not None:
            self.check_sparse()
        metadata = pack_metadata(clean_fields(fields, id)) if fields else None
        return Record(id, values, sparse, metadata)

    def check_values(self, values: bytes, what: str) -> None:
        """Refuse dense values that this index would not store."""
        if is_zero(values, self.check_query_values(values, what)):
            raise invalid(f"{what}: dense vectors must contain at least one non-zero value")

    def check_query_values(self, values: bytes, what: str) -> float:
        """Refuse dense values that do not fit this index, return the sum of their squares. A query may be all zeros."""
        if self.shape.dimension is None:
            raise invalid(f"{what}: the index holds sparse vectors only")
        if len(values) != 4 * self.shape.dimension:
            raise invalid(
                f"Vector dimension {len(values) // 4} does not match the dimension of the index {self.shape.dimension}"
            )
        return check_finite(values, what)

    def check_sparse(self) -> None:
        undeclared = self.shape.metric == "dotproduct" and self.contested.undeclared_sparse == "accept"
        if not (self.shape.sparse or (undeclared and self.shape.kind == "vector")):
            raise invalid("Index configuration does not support sparse values: its schema declares no '_sparse_values'")

    def check_wanted(self, id: str | None, values: bytes, sparse: Sparse | None) -> Wanted | str:
        """Return the goal of a query of this index: a stored record's id, or vectors."""
        if id:
            if values or sparse:
                raise invalid("Cannot provide both 'ID' and 'vector' at the same time")
            return id
        if values:
            self.check_query_values(values, "Query vector")
        elif sparse is None:
            raise invalid("A query needs an id, a vector or a sparse vector")
        elif self.shape.dimension:
            raise invalid("A query of this index needs a dense vector")
        if sparse is not None:
            self.check_sparse()
        return Wanted(values, sparse)

    @staticmethod
    def check_update_filter(expression: Mapping[str, object], names_record: bool) -> None:
        if not expression:
            raise invalid("Update with empty metadata filter is not allowed")
        if names_record:
            raise invalid("An update by filter changes metadata only and names no id")

    def upsert(self, name: str, records: Sequence[Record]) -> int:
        """Store the records, the last of equal ids winning; return the write's LSN."""
        return self._put(self._written(name), {record.id: record for record in records}.values())

    def _put(self, namespace: Namespace, records: Iterable[Record]) -> int:
        records = list(records)
        namespace.put(records, self.remember_s())
        self.keeper.save_records(self.id, namespace.name, records)
        self.keeper.save_namespace(self.id, namespace.name, namespace.filterable, namespace.lsn)
        return namespace.lsn

    def _remove(self, namespace: Namespace, ids: Sequence[str]) -> int:
        namespace.remove(ids, self.remember_s())
        self.keeper.drop_records(self.id, namespace.name, ids)
        self.keeper.save_namespace(self.id, namespace.name, namespace.filterable, namespace.lsn)
        return namespace.lsn

    def deletion(
        self, name: str, ids: Sequence[str], everything: bool, expression: Mapping[str, object] | None
    ) -> Callable[[], int]:
        """Return the one of three deletions that a request asks for, not yet done. As in the service, a filter wins."""
        if everything:
            return lambda: self._remove(self._deletable(name), list(self._deletable(name).records))
        if expression is not None:
            if not expression:
                raise invalid("Delete with empty metadata filter is not allowed")
            return lambda: self._delete_matching(self._deletable(name), expression)
        checked = check_ids(ids, "delete")
        return lambda: self._remove(self._deletable(name), checked)

    def _deletable(self, name: str) -> Namespace:
        self.aliases.refuse_write(name)
        return self._existing(name)

    def _delete_matching(self, namespace: Namespace, expression: Mapping[str, object]) -> int:
        return self._remove(namespace, [record.id for record in self._matching(namespace, expression, 0)])

    def update(
        self, name: str, id: str, values: bytes, sparse: Sparse | None, fields: Mapping[str, object] | None
    ) -> int | None:
        """Change one record; an id that is not there changes nothing and is no error."""
        self.aliases.refuse_write(name)
        if values:
            self.check_values(values, f"Vector ID {id}")
        if sparse:
            self.check_sparse()
        namespace = self.namespaces.get(name)
        record = namespace.records.get(id) if namespace else None
        if namespace is None or record is None:
            return None
        merged = record.fields() | clean_fields(fields, id) if fields else record.fields()
        changed = Record(id, values or record.values, sparse or record.sparse, pack_metadata(merged))
        return self._put(namespace, [changed])

    def update_by_filter(
        self, name: str, expression: Mapping[str, object], fields: Mapping[str, object], dry_run: bool
    ) -> tuple[int, int | None]:
        """Return how many records match, and the LSN if they were changed."""
        self.aliases.refuse_write(name)
        namespace = self.namespaces.get(name)
        if namespace is None:
            return 0, None
        matching = self._matching(namespace, expression, 0)
        if dry_run or not matching:
            return len(matching), None
        changed = [
            Record(r.id, r.values, r.sparse, pack_metadata(r.fields() | clean_fields(fields, r.id))) for r in matching
        ]
        return len(changed), self._put(namespace, changed)

    # -- reads --------------------------------------------------------------------------------------------------

    def fetch(self, name: str, ids: Iterable[str], lag_s: float = 0) -> list[Record]:
        """Return the records that exist; as in the service, missing ids are left out without an error."""
        namespace = self._seen(self.aliases.resolve(name), lag_s)
        if namespace is None:
            return []
        view = namespace.seen(lag_s)
        return [view[id] for id in dict.fromkeys(ids) if id in view]

    def fetch_by_metadata(
        self, name: str, expression: Mapping[str, object], limit: int, token: str | None, lag_s: float = 0
    ) -> tuple[list[Record], str | None]:
        if not 1 <= limit <= FETCH_BY_METADATA_LIMIT:
            raise invalid(f"limit must be between 1 and {FETCH_BY_METADATA_LIMIT}, got {limit}")
        after = read_token(token, "metadata")
        namespace = self._seen(self.aliases.resolve(name), lag_s)
        if namespace is None:
            return [], None
        matching = sorted(self._matching(namespace, expression, lag_s), key=lambda record: record.id)
        matching = [record for record in matching if record.id > after]
        page: list[Record] = []
        size = 0
        for record in matching[:limit]:
            size += record.billed_bytes()
            if page and size > RESPONSE_BYTES:
                break
            page.append(record)
        more = len(page) < len(matching)
        return page, make_token("metadata", page[-1].id) if more else None

    def list_ids(
        self, name: str, prefix: str, limit: int, token: str | None, lag_s: float = 0
    ) -> tuple[list[str], str | None]:
        if not 1 <= limit <= LIST_LIMIT:
            raise invalid(f"limit must be between 1 and {LIST_LIMIT}, got {limit}")
        after = read_token(token, "ids")
        namespace = self._seen(self.aliases.resolve(name), lag_s)
        if namespace is None:
            return [], None
        page = namespace.page(prefix, after, limit, lag_s)
        return page.ids, make_token("ids", page.ids[-1]) if page.more else None

    def query(
        self,
        name: str,
        wanted: Wanted | str,
        top_k: int,
        expression: Mapping[str, object] | None,
        lag_s: float = 0,
    ) -> tuple[list[Match], int]:
        """Return the best matches and the LSN up to which the search has seen writes; `wanted` may be a stored id."""
        if not 1 <= top_k <= TOP_K_LIMIT:
            raise invalid(f"topK must be between 1 and {TOP_K_LIMIT}, got {top_k}")
        lsn = self.seen_lsn(name, lag_s)
        records = self.candidates(name, expression, lag_s)
        if isinstance(wanted, str):
            stored = self.fetch(name, [wanted], lag_s)
            if not stored:
                return [], lsn
            wanted = Wanted(stored[0].values, stored[0].sparse)
        return best(records, wanted, self.shape.metric, top_k), lsn

    def candidates(self, name: str, expression: Mapping[str, object] | None, lag_s: float) -> Sequence[Record]:
        """Return the records that a search may return; none of a namespace that does not exist."""
        namespace = self._seen(self.aliases.resolve(name), lag_s)
        if namespace is None:
            if expression:
                compile_filter(expression, Scope(document=self.shape.document))
            return []
        return self._matching(namespace, expression, lag_s) if expression else list(namespace.seen(lag_s).values())

    def seen_lsn(self, name: str, lag_s: float) -> int:
        """Return the newest write that a search with this lag has seen whole."""
        namespace = self._seen(self.aliases.resolve(name), lag_s)
        return namespace.seen_lsn(lag_s) if namespace else 0

    def _matching(self, namespace: Namespace, expression: Mapping[str, object], lag_s: float) -> list[Record]:
        test = compile_filter(expression, Scope(namespace.filterable, self.shape.document))
        return [record for record in namespace.seen(lag_s).values() if test(record)]

    def counts(self, lag_in: Callable[[str], float] = lambda _: 0.0) -> dict[str, int]:
        seen = self._each_seen(self._names_seen(lag_in), lag_in)
        return {namespace.name: len(namespace.seen(lag_s)) for namespace, lag_s in seen}
