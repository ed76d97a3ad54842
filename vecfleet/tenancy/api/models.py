"""The requests and answers of the API."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

MAX_TOP_K = 1_000
MAX_DIMENSION = 20_000  # the service's own limit
MAX_TEXT_CHARS = 20_000
MAX_TWINS = 100

_ID = r"^[\x21-\x7e]+$"
CreatorId = Annotated[
    str, Field(min_length=1, max_length=240, pattern=_ID, description="whose records", examples=["sainath.no.1"])
]
TwinId = Annotated[str, Field(min_length=1, max_length=240, pattern=_ID, examples=["coach"])]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-3.4e38, le=3.4e38)]
Nothing = SkipJsonSchema[None]


def _whole(value: object) -> object:
    """Return a whole float as an integer: to JSON 10.0 is an integer, to pydantic's strict mode none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Asked(_In):
    creator_id: CreatorId | Nothing = Field(
        default=None, description="whose records; may be left out by a user with one creator"
    )
    vector: Annotated[list[Number], Field(min_length=1, max_length=MAX_DIMENSION)] | Nothing = Field(
        default=None, description="what is looked for, embedded; or give `query`"
    )
    query: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)] | Nothing = Field(
        default=None, description="what is looked for, as text; or give `vector`"
    )
    top_k: Annotated[int, BeforeValidator(_whole)] = Field(default=10, ge=1, le=MAX_TOP_K)
    filter: dict[str, Any] | Nothing = Field(default=None, description="a metadata filter of Pinecone's")
    include_metadata: bool = True

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.vector is None) == (self.query is None):
            raise ValueError("give either `vector` or `query`")
        return self


_EITHER: dict[str, Any] = {"oneOf": [{"required": ["vector"]}, {"required": ["query"]}]}


class Search(_Asked):
    """A search in one twin's namespace, or without `twin_id` in the creator-wide one."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra=_EITHER
        | {"examples": [{"creator_id": "sainath.no.1", "twin_id": "coach", "query": "how to rest", "top_k": 5}]},
    )

    twin_id: TwinId | Nothing = Field(default=None, description="without it: the creator-wide namespace")


class CrossTwinSearch(_Asked):
    """A search in several twins at once, or without `twin_ids` in all of the creator's."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra=_EITHER
        | {"examples": [{"creator_id": "sainath.no.1", "twin_ids": ["coach", "writer"], "query": "how to rest"}]},
    )

    twin_ids: Annotated[list[TwinId], Field(min_length=1, max_length=MAX_TWINS)] | Nothing = Field(
        default=None, description="without them: all of the creator's twins"
    )


class OfCreator(_In):
    creator_id: CreatorId | Nothing = Field(default=None, description="may be left out by a user with one creator")


class OfName(_In):
    name: str = Field(max_length=1_000, examples=["support_bot"])


class Found(BaseModel):
    """One record found, best first."""

    id: str
    score: float
    namespace: str
    metadata: dict[str, Any] | None = None


class Answer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{
        "creator_id": "sainath.no.1",
        "matches": [{"id": "doc-1", "score": 0.93, "namespace": "creator_sainath.no.1_twin_coach",
                     "metadata": {"text": "Rest is training.", "creator_id": "sainath.no.1", "twin_id": "coach"}}],
    }]})  # fmt: skip

    creator_id: str
    matches: list[Found]


class Deleted(BaseModel):
    namespace: str
    records: int = Field(description="as counted before; the service's counts lag")


class Erased(BaseModel):
    """The namespaces that were deleted; their absence was confirmed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{
        "creator_id": "sainath.no.1", "twin_id": "coach", "confirmed": True, "seconds": 0.2,
        "deleted": [{"namespace": "creator_sainath.no.1_twin_coach", "records": 73}],
    }]})  # fmt: skip

    creator_id: str
    twin_id: str | None = None
    confirmed: Literal[True] = True
    deleted: list[Deleted]
    seconds: float


class Twins(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"creator_id": "sainath.no.1", "twins": ["coach"]}]})

    creator_id: str
    twins: list[str]


class NameVerdict(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [
        {"name": "support_bot", "valid": True},
        {"name": "admin", "valid": False, "reason": "the twin name 'admin' is a reserved word"},
    ]})  # fmt: skip

    name: str
    valid: bool
    reason: str | None = None
