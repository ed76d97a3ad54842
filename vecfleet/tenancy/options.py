"""The environment's settings for a client's texts and names."""

from dataclasses import dataclass

from vecfleet.settings import Settings

DEFAULT_INDEX = "digital-twin-brain"  # seed 000's, if neither the caller nor PINECONE_INDEX_NAME names one
# Cohere's name of its model, as the seeds' environment has it, and Pinecone's name of the same model.
_RERANKERS = {"rerank-v3.5": "cohere-rerank-3.5"}


@dataclass(frozen=True, slots=True)
class TextOptions:
    """Options of text searches: the field of the texts, and the model that has a second look at the order.

    `integrated`: the index embeds texts itself.
    """

    field: str = "chunk_text"
    reranker: str | None = None
    integrated: bool = False


def text_options(settings: Settings) -> TextOptions:
    model = settings.cohere_rerank_model
    return TextOptions(
        settings.pinecone_text_field,
        _RERANKERS.get(model, model) if model else None,
        settings.pinecone_index_mode == "integrated",
    )
