"""The plan that a case asks for."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from migrations.creators import Grouping, Row
from migrations.documents import DocumentsOptions, plan_documents
from migrations.embedding import Embedding
from migrations.namespaces import NamespacesOptions, naming_of, plan_namespaces
from migrations.ownership import look_up
from migrations.plan import Plan, Policies
from migrations.recipes import Common, CreatorsOptions, plan_creators
from migrations.renaming import Pair
from tests.chaos.billing import A_DOLLAR_A_TOKEN
from tests.chaos.case import DEFAULT, Case
from tests.chaos.fleet import ChaosFleet
from tests.chaos.model import AILMENTS, MODEL
from tests.chaos.schedule import Schedule
from tests.embedding_service import tokens_of
from vecfleet.embedders.opening import look_up as look_up_model

# A life's texts may be 40 kB each, which counts as 10 million tokens in all. They are to take seconds.
_TOKENS_PER_MINUTE = 60_000_000.0


def make_plan(case: Case, schedule: Schedule, fleet: ChaosFleet) -> Plan:
    """Made anew each time it is asked for: it says what the index holds then."""
    policies = {**case.policies, "metadata_map": case.map}
    if case.embeds:
        policies["embedding"] = _embedding(case, fleet)
    if schedule.ending == "cleaned by policy":
        policies |= {"cut_over": "auto" if case.seed % 2 else "none", "clean_up": "auto"}
    common = Common(policies=Policies.model_validate(policies))
    if case.grouping == "namespaces":
        naming = naming_of(
            tuple(_pairs(case)),
            merges=True,
            key="team" if case.splits else None,
            otherwise=case.otherwise.namespace if case.splits and case.otherwise is not None else None,
        )
        options = NamespacesOptions(index=case.index, naming=naming, common=common)
        return plan_namespaces(fleet.parts.store, options, now=datetime.now(UTC))
    if case.grouping == "creator":
        grouping = Grouping(creator=case.creators[0])
    elif case.grouping == "rows":
        grouping = Grouping(rows=tuple(Row(name, o.creator, o.twin) for name, o in case.owners.items()))
    else:
        file = f"owners-{case.seed}.yaml"
        (fleet.folder / file).write_text(case.ownership_file())
        grouping = Grouping(snapshot=look_up("file", fleet.parts.settings, file=file), default="split")
    if case.form == "into documents":
        # Records that can be no documents are parked: they are known beforehand.
        documents = DocumentsOptions(
            source=case.index,
            target=case.target_index,
            names=case.names,
            parks_refused=True,
            grouping=grouping,
            common=common,
        )
        return plan_documents(fleet.parts.store, documents, now=datetime.now(UTC))
    creators = CreatorsOptions(index=case.index, grouping=grouping, common=common)
    return plan_creators(fleet.parts.store, creators, now=datetime.now(UTC))


def _embedding(case: Case, fleet: ChaosFleet) -> Embedding:
    """Return what is embedded, by a model whose bill begins now and which is ill for a while."""
    fleet.model.faults.clear()
    card = look_up_model(MODEL, fleet.parts.settings, case.dimension)
    changes = {"tokens_per_minute": _TOKENS_PER_MINUTE, "dollars_per_million_tokens": A_DOLLAR_A_TOKEN}
    texts = {str(record.metadata.get("text", "")) for rows in case.sources.values() for record in rows}
    cap = max(1, sum(map(tokens_of, texts)) // 2) if case.is_capped else None
    fleet.model.billed.clear()
    fleet.model.fail(*AILMENTS)
    return Embedding(card=card.model_copy(update=changes), text="{text}", dollars_cap=cap)


def _pairs(case: Case) -> Iterator[Pair]:
    """A glob for each tenant's namespaces would say the same; names of all kinds try more."""
    for name, owner in case.owners.items():
        yield Pair(re.sub(r"([\\*?])", r"\\\1", name), owner.namespace)
    if case.splits:
        yield Pair(DEFAULT, "team-{value}")
