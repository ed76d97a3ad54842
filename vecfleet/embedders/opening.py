"""Models by their names: looked up when a plan is made, opened where texts are embedded."""

from dataclasses import dataclass

from vecfleet.embedders import local, openai
from vecfleet.embedders.local import LOCAL_MODEL, LocalModel
from vecfleet.embedders.models import EmbeddingModel
from vecfleet.embedders.openai import OpenAIModel
from vecfleet.errors import BadInput, BadRequest, ModelChanged
from vecfleet.model_cards import ModelCard
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import inference

# A text that any model takes: a plan learns the model's revision and dimension from its answer.
_PROBE = "vecfleet"


@dataclass(frozen=True, slots=True)
class _Known:
    """A model of OpenAI's, as documented: its own dimension, whether it gives fewer, dollars for a million tokens."""

    dimension: int
    shortens: bool
    price: float


# Documented in 2026. The limits of a request hold for all: 2,048 texts, 300,000 tokens; a text has 8,191 at most.
OPENAI_MODELS = {
    "text-embedding-3-small": _Known(1_536, True, 0.02),
    "text-embedding-3-large": _Known(3_072, True, 0.13),
    "text-embedding-ada-002": _Known(1_536, False, 0.10),
}
_OPENAI_TEXT_TOKENS = 8_191
# Far below the documented 2,048, so that an answer is a few MB and a lost one costs little.
_OPENAI_TEXTS, _OPENAI_REQUEST_TOKENS = 256, 300_000


def look_up(name: str, settings: Settings, dimension: int | None = None) -> ModelCard:
    """Return the card of `provider/model` at a dimension, its own by default. Asks the provider; costs a few tokens.

    Raises BadInput naming what there is, and the provider's StoreErrors.
    """
    provider, _, model = name.partition("/")
    if not model:
        raise BadInput(
            f"{name!r} names no provider of the model",
            next_step=f"write openai/text-embedding-3-small, pinecone/multilingual-e5-large or {LOCAL_MODEL}",
        )
    match provider:
        case "openai":
            return _of_openai(model, settings, dimension)
        case "pinecone":
            return inference.look_up(model, settings, dimension)
        case "local" if name == LOCAL_MODEL:
            return local.card(dimension)
        case "local":
            raise BadInput(f"there is no local model {name!r}", next_step=f"name {LOCAL_MODEL}")
    raise BadInput(f"there is no provider {provider!r}", next_step="name one of openai, pinecone, local")


def open_model(card: ModelCard, settings: Settings) -> EmbeddingModel:
    """Return the model of a card. Asks nothing. Raises BadInput or ModelChanged if it is not to be had from here."""
    match card.provider:
        case "pinecone":
            return inference.PineconeModel(card, settings)
        case "local":
            return LocalModel(card)
    here = openai.host_of(settings)
    if here != card.endpoint:
        raise ModelChanged(
            f"the plan embeds with {card.name} at {card.endpoint or 'OpenAI'}; OPENAI_BASE_URL leads to "
            f"{here or 'OpenAI'} here",
            next_step="set OPENAI_BASE_URL as it was when the plan was made, then resume",
        )
    return OpenAIModel(card, openai.endpoint(settings))


def _of_openai(model: str, settings: Settings, dimension: int | None) -> ModelCard:
    host = openai.host_of(settings)
    known = OPENAI_MODELS.get(model) if not host else None
    if known is not None and dimension is not None and not 1 <= dimension <= known.dimension:
        raise _cannot_give(model, dimension, known.dimension)
    if known is not None and not known.shortens and dimension not in (None, known.dimension):
        raise _cannot_give(model, dimension, known.dimension)
    endpoint = openai.endpoint(settings)
    try:
        asked = endpoint.ask(model, [_PROBE], None)
        own = openai.answer_of(model, asked).vectors.shape[1]
        shortened = dimension is not None and dimension != own
        if shortened:
            asked = endpoint.ask(model, [_PROBE], dimension)
            given = openai.answer_of(model, asked).vectors.shape[1]
            if given != dimension:  # many services take no notice of the wish
                raise _cannot_give(model, dimension, given)
    except BadRequest as error:
        if dimension is None:
            raise BadInput(error.message, next_step="check the model's name and OPENAI_BASE_URL") from error
        raise _cannot_give(model, dimension) from error
    except ModelChanged as error:
        raise BadInput(error.message, next_step=error.next_step) from error
    card = ModelCard(
        name=f"openai/{model}",
        revision=asked.revision,
        endpoint=host,
        dimension=dimension or own,
        shortened=shortened,
        max_tokens=None if host else _OPENAI_TEXT_TOKENS,
        dollars_per_million_tokens=known.price if known is not None else 0.0,
    )
    told = {
        "requests_per_minute": asked.requests_per_minute,
        "tokens_per_minute": asked.tokens_per_minute,
        **({} if host else {"texts_per_request": _OPENAI_TEXTS, "tokens_per_request": _OPENAI_REQUEST_TOKENS}),
    }
    return card.model_copy(update={name: value for name, value in told.items() if value})


def _cannot_give(model: str, dimension: int | None, own: int | None = None) -> BadInput:
    return BadInput(
        f"the model {model!r} cannot give {dimension:,} dimensions",
        next_step=f"it gives {own:,}" if own is not None else "leave --dimension out: its own dimension is taken",
    )
