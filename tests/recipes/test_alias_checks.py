"""A plan that leaves aliases says beforehand where one could never be made."""

from job_table import INDEX, planned

from migrations.checks import check_targets
from migrations.plan import Policies
from migrations.survey import HeldNamespace, Survey

LEAVING = Policies(leave_alias=True)


def problems(*sources: str, there: int = 0) -> list[str]:
    aliases = {f"alias-{number}": "elsewhere" for number in range(there)}
    survey = Survey(INDEX, INDEX, {source: HeldNamespace(1) for source in sources}, occupied={}, aliases=aliases)
    moves = [planned(source, f"creator_ana_twin_t{number}", 1) for number, source in enumerate(sources)]
    return check_targets(moves, survey, LEAVING).problems


def test_a_name_that_no_alias_can_bear_is_a_problem() -> None:
    assert problems("alma", "b.r_u~no-1") == []
    (problem,) = problems("alma", "café", "a b", "__default__")
    assert "none can be left for 'a b', 'café'" in problem


def test_more_aliases_than_the_index_may_have_are_a_problem() -> None:
    assert problems("alma", there=999) == []
    (problem,) = problems("alma", "bruno", there=999)
    assert "would have 1,001 aliases, 999 of them there already; its quota is 1,000" in problem


def test_a_target_whose_name_is_an_alias_is_a_problem_in_every_plan() -> None:
    aliases = {"creator_ana_twin_t": "bruno", "other": "alma"}
    survey = Survey(INDEX, INDEX, {"alma": HeldNamespace(1)}, occupied={}, aliases=aliases)
    moves = [planned("alma", "creator_ana_twin_t", 1)]
    for takes_back in (False, True):  # it leads to no source of this plan
        (problem,) = check_targets(moves, survey, Policies(), takes_back=takes_back).problems
        assert "under the name of an alias: 'creator_ana_twin_t' (leads to 'bruno'); remove it first" in problem
