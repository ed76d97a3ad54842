"""The embeddings APIs of Cohere and Voyage, as documented: what a request may hold, and how each answers.

Written from their documentation alone, so that it shares no code with ours.
"""

from collections.abc import Sequence
from typing import Any

from embedding_service import Api, answer_in_rows


def _by_type(model: str, vectors: Sequence[Sequence[float]], tokens: int) -> dict[str, Any]:
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}
    return {"id": "a-request", "embeddings": {"float": vectors}, "texts": [], "meta": meta}


COHERE = Api(
    path="/v2/embed",
    texts="texts",
    dimension="output_dimension",
    most_texts=96,
    fields={
        "model": None,
        "texts": None,
        "input_type": ("search_document", "search_query", "classification", "clustering"),
        "embedding_types": (["float"],),
        "output_dimension": (256, 512, 1_024, 1_536),
        "truncate": ("NONE", "START", "END"),
    },
    needs=("model", "input_type", "texts"),
    answer=_by_type,
    truncates=("truncate", "END"),
)
VOYAGE = Api(
    path="/v1/embeddings",
    texts="input",
    dimension="output_dimension",
    most_texts=1_000,
    fields={
        "model": None,
        "input": None,
        "input_type": (None, "query", "document"),
        "truncation": (True, False),
        "output_dimension": (256, 512, 1_024, 2_048),
        "output_dtype": ("float",),
    },
    needs=("model", "input"),
    answer=answer_in_rows,
    truncates=("truncation", True),
)
