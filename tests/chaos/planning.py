"""The plan that a case asks for."""

from datetime import UTC, datetime

from migrations.creators import Grouping, Row
from migrations.ownership import look_up
from migrations.plan import Plan, Policies
from migrations.recipes import Common, CreatorsOptions, plan_creators
from tests.chaos.fleet import ChaosFleet
from tests.chaos.schedule import Schedule
from tests.chaos.small_index import Case


def make_plan(case: Case, schedule: Schedule, fleet: ChaosFleet) -> Plan:
    """Made anew each time it is asked for: it says what the index holds then."""
    policies = {**case.policies, "metadata_map": case.map}
    if schedule.ending == "cleaned by policy":
        policies |= {"cut_over": "auto" if case.seed % 2 else "none", "clean_up": "auto"}
    if case.grouping == "creator":
        grouping = Grouping(creator=case.creators[0])
    elif case.grouping == "rows":
        grouping = Grouping(rows=tuple(Row(name, o.creator, o.twin) for name, o in case.owners.items()))
    else:
        file = f"owners-{case.seed}.yaml"
        (fleet.folder / file).write_text(case.ownership_file())
        grouping = Grouping(snapshot=look_up("file", fleet.parts.settings, file=file), default="split")
    options = CreatorsOptions(
        index=case.index, grouping=grouping, common=Common(policies=Policies.model_validate(policies))
    )
    return plan_creators(fleet.parts.store, options, now=datetime.now(UTC))
