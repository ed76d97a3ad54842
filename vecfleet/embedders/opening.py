"""Models by their names: looked up when a plan is made, opened where texts are embedded."""

from vecfleet.embedders import local, remote
from vecfleet.embedders.local import LOCAL_MODEL, LocalModel
from vecfleet.embedders.models import EmbeddingModel
from vecfleet.embedders.remote import RemoteModel
from vecfleet.embedders.services import SERVICES, Service
from vecfleet.errors import BadInput, BadRequest, ModelChanged
from vecfleet.model_cards import ModelCard
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import inference

# A text that any model takes: a plan learns the model's revision and dimension from its answer.
_PROBE = "vecfleet"


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
    if provider in SERVICES:
        return _of_service(SERVICES[provider], model, settings, dimension)
    match provider:
        case "pinecone":
            return inference.look_up(model, settings, dimension)
        case "local" if name == LOCAL_MODEL:
            return local.card(dimension)
        case "local":
            raise BadInput(f"there is no local model {name!r}", next_step=f"name {LOCAL_MODEL}")
    raise BadInput(
        f"there is no provider {provider!r}", next_step="name one of openai, cohere, voyage, pinecone, local"
    )


def open_model(card: ModelCard, settings: Settings) -> EmbeddingModel:
    """Return the model of a card. Asks nothing. Raises BadInput or ModelChanged if it is not to be had from here."""
    match card.provider:
        case "pinecone":
            return inference.PineconeModel(card, settings)
        case "local":
            return LocalModel(card)
    service = SERVICES[card.provider]
    here = service.place(settings)
    if here != card.endpoint:
        raise ModelChanged(
            f"the plan embeds with {card.name} at {card.endpoint or service.title}; {service.address_name} leads to "
            f"{here or service.title} here",
            next_step=f"set {service.address_name} as it was when the plan was made, then resume",
        )
    return RemoteModel(card, remote.endpoint(service, settings))


def _of_service(service: Service, model: str, settings: Settings, dimension: int | None) -> ModelCard:
    place = service.place(settings)
    known = service.known(model, place)
    if known is not None and dimension not in (None, known.dimension) and dimension not in known.others:
        raise _cannot_give(model, dimension, known.dimensions)
    endpoint = remote.endpoint(service, settings)
    try:
        asked = endpoint.ask(model, [_PROBE], None)
        own = remote.answer_of(model, asked).vectors.shape[1]
        shortened = dimension is not None and dimension != own
        if shortened:
            asked = endpoint.ask(model, [_PROBE], dimension)
            given = remote.answer_of(model, asked).vectors.shape[1]
            if given != dimension:  # many services take no notice of the wish
                raise _cannot_give(model, dimension, f"{given:,}")
    except BadRequest as error:
        if dimension is None:
            next_step = f"check the model's name and {service.address_name}"
            raise BadInput(error.message, next_step=next_step) from error
        raise _cannot_give(model, dimension) from error
    except ModelChanged as error:
        raise BadInput(error.message, next_step=error.next_step) from error
    card = ModelCard(
        name=f"{service.provider}/{model}",
        revision=asked.revision,
        endpoint=place,
        dimension=dimension or own,
        shortened=shortened,
        texts_per_request=service.texts,
    )
    told = {"requests_per_minute": asked.requests_per_minute, "tokens_per_minute": asked.tokens_per_minute}
    limits = {} if known is None else dict(known.limits)
    return card.model_copy(update=limits | {name: limit for name, limit in told.items() if limit})


def _cannot_give(model: str, dimension: int | None, dimensions: str = "") -> BadInput:
    return BadInput(
        f"the model {model!r} cannot give {dimension:,} dimensions",
        next_step=f"it gives {dimensions}" if dimensions else "leave --dimension out: its own dimension is taken",
    )
