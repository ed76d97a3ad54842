"""The kinds of index: what each accepts, and by which API it is spoken to."""

from dataclasses import dataclass

from emulator.document_schema import DocumentFields
from emulator.errors import invalid

_POD_OPERATIONS = frozenset(("upsert", "fetch", "query", "delete", "update", "describe_index_stats"))
_WRITES_ELSEWHERE = (
    "This index has a document schema, so writes must go through the documents API. Use "
    "`POST /namespaces/{namespace}/documents/upsert`, `/update` or `/delete` with the `X-Pinecone-API-Version` header "
    "set to `2026-07` or later. The vectors and records write endpoints do not support document schemas."
)
_READS_ELSEWHERE = (
    "This index has a document schema, so reads must go through the documents API. Use "
    "`POST /namespaces/{namespace}/documents/fetch`, `/list` or `/search` with the `X-Pinecone-API-Version` header set "
    "to `2026-07` or later."
)
_DOCUMENTS_ELSEWHERE = (
    "This index has no document schema, so the documents API does not serve it. Use the vectors API: "
    "`POST /vectors/upsert`, `GET /vectors/fetch`, `POST /query`."
)
_NOT_FOR_DOCUMENTS = {
    **dict.fromkeys(("upsert", "upsert_records", "update", "delete"), _WRITES_ELSEWHERE),
    **dict.fromkeys(("fetch", "fetch_by_metadata", "list", "query", "search"), _READS_ELSEWHERE),
}


@dataclass
class Shape:
    """The records that the index accepts, read from its schema."""

    kind: str  # vector | integrated | document | pod
    dimension: int | None
    metric: str
    sparse: bool
    text_field: str | None = None  # the field that an integrated index embeds
    document: DocumentFields | None = None  # of a document index

    @property
    def vector_type(self) -> str:
        return "dense" if self.dimension else "sparse"

    def refuse(self, operation: str, api: str) -> None:
        """Refuse an operation that this kind of index lacks."""
        if self.document is None and api == "documents":
            raise invalid(_DOCUMENTS_ELSEWHERE)
        if self.document is not None and api != "documents" and operation in _NOT_FOR_DOCUMENTS:
            raise invalid(_NOT_FOR_DOCUMENTS[operation])
        if self.kind == "pod" and operation not in _POD_OPERATIONS:
            raise invalid(f"Operation {operation} is not supported for pod-based indexes")
