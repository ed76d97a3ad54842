"""Embedding models as a plan names them: identity, limits and price of one model at one dimension."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Purpose = Literal["passage", "query"]
"""Some models embed what is stored and what is asked differently."""

# Pinecone refuses a vector of which no value is farther from zero.
NEARLY_ZERO = 1e-8
ALL_ZEROS, NO_NUMBER = "is all zeros", "has a value that is no number"
_LARGEST = 3.4028234663852886e38  # that a float32 holds: beyond it are the infinities

_Rate = Annotated[float, Field(gt=0)]


class ModelCard(BaseModel):
    """One model at one dimension. Part of a plan, so it holds no key and no address.

    `name` begins with the provider. `revision` is what the model says of itself in its answers: vectors of two
    revisions are never mixed. `endpoint` is the host, and the path, of another service that speaks the provider's API.
    `shortened`: the dimension is asked for, because it is not the model's own. `max_tokens`: of one text, None if
    nobody says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^(openai|cohere|voyage|pinecone|local)/.+$")
    revision: str
    endpoint: str = ""
    dimension: int = Field(ge=1)
    shortened: bool = False
    metric: str = "cosine"
    max_tokens: int | None = Field(default=None, ge=1)
    texts_per_request: int = Field(default=100, ge=1)
    tokens_per_request: int = Field(default=100_000, ge=1)
    requests_per_minute: _Rate = 3_000
    tokens_per_minute: _Rate = 1_000_000
    dollars_per_million_tokens: float = Field(default=0.0, ge=0)

    @property
    def provider(self) -> str:
        return self.name.partition("/")[0]

    @property
    def model(self) -> str:
        """The name by which the provider knows the model."""
        return self.name.partition("/")[2]

    @property
    def is_local(self) -> bool:
        """Say whether the model runs in this process: free, without limits, and the same for the same text."""
        return self.provider == "local"

    def dollars(self, tokens: float) -> float:
        return tokens * self.dollars_per_million_tokens / 1e6

    def space(self, purpose: Purpose) -> str:
        """Return the identity of the vector space: vectors of two spaces cannot be compared."""
        return "\n".join((self.name, self.endpoint, self.revision, str(self.dimension), purpose))


def without_direction(vector: Iterable[float]) -> str | None:
    """Return why nothing can be found by a model's vector, to be said after "that"; None if something can.

    Needs no NumPy. `embedders.models.no_vectors` says the same of many at once.
    """
    try:
        sizes = [abs(value) for value in vector]
        if not all(size <= _LARGEST for size in sizes):  # as it is with NaN, too
            return NO_NUMBER
        return None if any(size >= NEARLY_ZERO for size in sizes) else ALL_ZEROS
    except TypeError:
        return NO_NUMBER
