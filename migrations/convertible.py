"""Plans that the service can begin by a conversion of its own, and its price beside a copy's. Read-only."""

from typing import Protocol, runtime_checkable

from migrations.creators import Grouping
from migrations.estimating import CostModel, Prices
from migrations.findings import Findings, counted, few
from migrations.plan import NewIndex, Plan, Policies
from migrations.survey import Survey, Surveyor
from vecfleet.stores.base import Conversion, Kind, Store

_BYTES_PER_GB = 1e9


class Conversions(Protocol):
    """The conversions that a store makes of its indexes."""

    def find(self, source: str, target: str) -> Conversion | None: ...


@runtime_checkable
class Converting(Protocol):
    """A store that converts indexes by itself."""

    def conversions(self) -> Conversions: ...


def check(survey: Survey, grouping: Grouping | None, policies: Policies, new: NewIndex, *, across: bool) -> None:
    """Raise BadPlan with every reason why the service's conversion cannot begin this plan."""
    findings = Findings()
    place = (new.cloud, new.region)
    elsewhere = place != (None, None) and place != (survey.source.cloud, survey.source.region)
    reasons = {
        "makes a new index: name one that does not exist": survey.target is not None,
        "stays within an account": across,
        "takes no index of pods": survey.source.kind is Kind.POD,
        "keeps cloud, region and read capacity": elsewhere or new.read_capacity is not None,
        "protects no index against deletion: do that afterwards": new.deletion_protection,
        "keeps the names of namespaces": grouping is not None,
        "keeps metadata and vectors as they are": policies.metadata_map is not None or policies.embedding is not None,
        "knows nothing of an application that writes to both sides: `--writers delta` or freeze": policies.writers
        == "dual",
        "makes records that `--check-every-write` takes for others'": policies.check_every_write,
    }
    findings.problems += [f"the service's conversion {why}" for why, holds in reasons.items() if holds]
    findings.raise_problems()


def made_before(store: Store, plan: Plan) -> tuple[str, ...]:
    """Return the id of the newest conversion from the source into the target: whatever comes later is of an apply."""
    assert isinstance(store, Converting), "only an account of Pinecone is planned to convert"
    begun = store.conversions().find(plan.source.index, plan.target.index)
    return () if begun is None else (begun.id,)


def check_all_chosen(plan: Plan, survey: Survey, by: str = "conversion") -> None:
    """Raise BadPlan if the plan leaves namespaces out: the service takes all of them."""
    findings, held = Findings(), survey.namespaces
    left = [name for name in plan.left_alone if name in held and held[name].records]
    if left:
        findings.problems.append(f"the service's {by} takes every namespace, and the plan leaves out {few(left)}")
    findings.raise_problems()


def is_convertible(survey: Survey, grouping: Grouping | None, plan: Plan, *, across: bool) -> bool:
    """Say whether the other way is worth a word: an index that is there, or regrouped, is not converted."""
    kept = grouping is None and plan.create_target is not None and not across
    return kept and survey.source.kind is not Kind.POD and plan.policies.metadata_map is None


def said(plan: Plan, surveyor: Surveyor, survey: Survey, prices: Prices, renamed: int) -> list[str]:
    """Return what a person should know of both ways and their prices."""
    costs = {
        converted: CostModel(
            shape=surveyor.shape(survey),
            policies=plan.policies.model_copy(update={"converted": converted}),
            limits=surveyor.reader(survey.source).index.limits,
            prices=prices,
        ).estimate(plan.moves)
        for converted in (False, True)
    }
    converted = costs[True]
    gb = converted.records * converted.record_bytes / _BYTES_PER_GB
    unknown = "" if prices.conversion_gb else f" and the service's price of {gb:,.3f} GB (CONVERSION_DOLLARS_PER_GB)"
    copying = f"a copy: ${costs[False].dollars:,.4f} in all"
    converting = f"a conversion by the service first (`--via convert`): ${converted.dollars:,.4f}{unknown}"
    told = [f"two ways lead there, and both are proven. {copying}; {converting}"]
    if plan.policies.converted:
        told.append(
            "the service converts a snapshot when this is applied; what it skips, misses or has too old, the job copies"
        )
        if renamed:
            told.append(f"a conversion gives no key another name: the job copies {counted(renamed, 'record')} with one")
    return told
