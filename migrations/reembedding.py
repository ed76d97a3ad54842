"""Recipe `reembed`: an index into another one, with the vectors that a model makes of its records' texts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from migrations import embedding_cost
from migrations.between import TABLES, halves, tables_of
from migrations.embedding import Embedding, NoText
from migrations.estimating import LIVE_SHARE
from migrations.idsources import IdSources
from migrations.index import new_index, owned, require_nothing_asked
from migrations.plan import NewIndex, Plan, TextCost
from migrations.recipes import Common, plan_surveyed
from migrations.survey import Surveyor
from migrations.texts import texts_of
from vecfleet.embedders import EmbeddingModel
from vecfleet.errors import BadPlan
from vecfleet.stores.base import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ReembedOptions:
    """Recipe `reembed`: ids, names and metadata stay, or change as the options say; vectors are made anew.

    The target is created where it is absent, of the model's dimension and metric, as `new` says. Only a pod index needs
    `ids`.
    """

    source: str
    target: str
    embedding: Embedding
    new: NewIndex = field(default_factory=NewIndex)
    ids: IdSources | None = None
    common: Common = field(default_factory=Common)


def plan_reembed(store: Store, into: Store, options: ReembedOptions, *, model: EmbeddingModel, now: datetime) -> Plan:
    """Plan the recipe `reembed`. `model`: that of the options, which counts tokens and prices a sample.

    Raises BadPlan with every problem found, NotFound where there is no such source.
    """
    surveyor = Surveyor.between(store, into)
    survey = surveyor.survey(options.source, options.target, options.ids)
    if survey.same_index:
        raise BadPlan(
            f"{options.source!r} is both the source and the target: the vectors of an index are of one model",
            next_step="name another index for the new vectors; it is created where it is absent",
        )
    if options.embedding.integrated and not into.name.startswith("pinecone"):
        raise BadPlan(
            f"{options.target!r} is not an index of Pinecone, and only those embed texts themselves",
            next_step="leave --integrated out: the workers embed, and write vectors",
        )
    in_tables = into.name in TABLES
    if in_tables:
        require_nothing_asked(options.new, "a schema of Postgres")
        create = NewIndex() if survey.target is None else None
    else:
        create = new_index(survey, options.target, options.new)
    policies = options.common.policies.model_copy(update={"embedding": options.embedding})
    common = replace(options.common, policies=policies)
    made = replace(survey, source=options.embedding.made(survey.source))
    warnings = halves(made, into, common) if in_tables else []
    plan = plan_surveyed("reembed", surveyor, survey, None, common, now, options.target, create)
    warnings += tables_of(plan) if in_tables else []
    texts = texts_of(options.embedding, common.texts, surveyor.sample(survey))
    cost = _cost(model, options.embedding, texts, plan)
    cap = options.embedding.dollars_cap
    if cap is not None and cost.dollars > cap:
        warnings.append(
            f"the texts are expected to cost ${cost.dollars:,.2f}, and the job pauses before ${cap:,.2f}: raise "
            "--dollars-cap, or raise the budget of the job when it pauses"
        )
    estimate = plan.estimate.model_copy(update={"embedding": cost})
    changes = {"warnings": (*plan.warnings, *warnings), "estimate": estimate, "moves": tuple(map(owned, plan.moves))}
    return plan.model_copy(update=changes).sealed()


def _cost(model: EmbeddingModel, embedding: Embedding, sample: Sequence[str | NoText], plan: Plan) -> TextCost:
    texts = [text for text in sample if isinstance(text, str)]
    records = round(plan.records * len(texts) / len(sample)) if sample else 0
    share = 1.0 if plan.policies.exclusive else LIVE_SHARE
    cost = embedding_cost.estimate(model, texts, records, share=share, cut=embedding.too_long == "cut")
    return TextCost(**{name: getattr(cost, name) for name in TextCost.model_fields})
