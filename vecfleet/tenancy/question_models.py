"""Questions in the model of the records that are asked: a text is embedded by the model that a place's route names."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from vecfleet.errors import BadInput
from vecfleet.model_cards import without_direction
from vecfleet.settings import Settings
from vecfleet.stores.serving import Question
from vecfleet.tenancy.places import Place, RecordModel, Where

if TYPE_CHECKING:
    from vecfleet.embedders.models import EmbeddingModel

Embed = Callable[[RecordModel, str], Sequence[float]]
"""Returns the vector of a question's text by a model."""


def embedding_by(settings: Settings) -> Embed:
    """Return a function that embeds by the models that this environment reaches, each looked up once a process.

    It raises BadInput for a model that is not to be had from here, and the StoreErrors of its service.
    """
    opened: dict[RecordModel, EmbeddingModel] = {}

    def embed(model: RecordModel, text: str) -> list[float]:
        from vecfleet.embedders import vectors_of  # loads NumPy, which clients without such routes need not
        from vecfleet.embedders.opening import look_up, open_model

        asked = opened.get(model)
        if asked is None:
            card = look_up(model.name, settings, model.dimension)
            asked = opened.setdefault(model, open_model(card, settings))
        vector: list[float] = vectors_of(asked, [text], "query")[0].tolist()
        return vector

    return embed


def model_to_ask(places: Sequence[Place], question: Question) -> RecordModel | None:
    """Return the model that the question's text is embedded by; None if it is asked as it is.

    Raises BadInput for a vector of another model, or of one that nobody names: what it finds would look like an answer.
    """
    model = places[0].model
    if model is None or question.vector is None:
        return model if question.text is not None else None
    if question.model != model.name:
        given = f"of {question.model}" if question.model is not None else "of a model that is not named"
        raise BadInput(
            f"the vector is {given}, and the records of {places[0].namespace!r} are embedded by {model.name}",
            next_step=f"ask by `text`, or give a vector of that model and `model={model.name!r}`",
        )
    return None


def may_ask_other(where: Where, question: Question) -> bool:
    """Say whether the other side can be asked this question, too: in the model of its records, if either is known.

    A text asks both sides if the models of both are named, or of none: an index then embeds it. A vector asks records
    of its own model alone.
    """
    here, other = where.reads[0].model, where.other[0].model
    if here is None and other is None:
        return True
    if question.text is not None:
        return here is not None and other is not None
    return question.vector is None or (other is not None and question.model == other.name)


def by_vector(question: Question, vector: Sequence[float]) -> Question:
    """Return the question with its text embedded. Raises BadInput for a vector by which nothing can be found.

    NaN would be sent as null, and by zeros a store answers with any records.
    """
    if (why := without_direction(vector)) is not None:
        raise BadInput(
            f"the question's text got a vector that {why}: it is not asked",
            next_step="ask with other words; if it happens with every text, correct what embeds them",
        )
    return replace(question, text=None, vector=list(vector), rerank=None)
