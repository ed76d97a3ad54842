"""The fewest seeds that meet whatever many seeds meet: each fault, each kind of index, each policy and each ending."""

from collections.abc import Iterable
from dataclasses import fields

from tests.chaos.schedule import make_schedule
from tests.chaos.small_index import make_case

Trait = tuple[str, object]


def traits(seed: int) -> set[Trait]:
    """Return what is special about a seed's life, apart from which reads lag in all of it."""
    case = make_case(seed)
    schedule = make_schedule(case)
    met: set[Trait] = {("fault", event.what) for event in schedule.events}
    met |= {("policy", (name, str(choice))) for name, choice in case.policies.items()}
    kinds = ("kind", "grouping", "form", "embeds", "is_capped", "splits", "is_renamed")
    met |= {("case", (name, getattr(case, name))) for name in kinds}
    has = ("foreign", "early", "writes", "late", "erased", "map", "searches", "names")
    met |= {("case has", (name, bool(getattr(case, name)))) for name in has}
    chosen = {field.name: getattr(schedule, field.name) for field in fields(schedule)}
    met |= {("schedule", (name, choice)) for name, choice in chosen.items() if isinstance(choice, str | bool)}
    return met | {("cancelled", bool(schedule.cancel_at_s))}


def covering(seeds: Iterable[int]) -> list[int]:
    """Return the seeds, each time the one that meets most of what none before it meets."""
    met_by = {seed: traits(seed) for seed in seeds}
    missing = set[Trait]().union(*met_by.values())
    chosen: list[int] = []
    while missing:
        chosen.append(max(met_by, key=lambda seed: len(met_by[seed] & missing)))
        missing -= met_by[chosen[-1]]
    return chosen
