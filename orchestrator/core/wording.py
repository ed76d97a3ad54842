"""Sentences that several places share: counts, and what a rollback drops."""

import re
import shlex
from collections.abc import Sequence

from migrations.plan import Monthly, NewIndex, Plan
from orchestrator.core.model import Target

POLICY_WAITS = "the policy waits: "
"""Start of a job's reason while a guard keeps a policy from acting."""

WORKER = "worker process "
"""Start of a job's reason if a worker lacks what it needs: an account, a setting."""


def counted(count: int, one: str, many: str) -> str:
    """Return a count with its noun: `1 batch is parked`, `2 batches are parked`."""
    return f"1 {one}" if count == 1 else f"{count:,} {many}"


def moves_between(recipe: str, source: str, target: str) -> str:
    """Return what a job does, and where: `creators in seeds`, `reembed: small → small-anew`."""
    return f"{recipe} in {source}" if source == target else f"{recipe}: {source} → {target}"


def told_apart(source_store: str, source: str, target_store: str, target: str) -> tuple[str, str]:
    """Return the names of two indexes; if two stores have one of the same name, each behind its store."""
    if source == target and source_store != target_store:
        return f"{source_store}:{source}", f"{target_store}:{target}"
    return source, target


def sides(plan: Plan) -> tuple[str, str]:
    """Return the names of a plan's source and target, as a person tells them apart."""
    return told_apart(plan.source.store, plan.source.typed, plan.target.store, plan.target.typed)


def read_for(read_units: float, requests: int) -> str:
    """Return the cost of reading: `1 read unit in 2 requests`."""
    units = round(read_units)
    return f"{counted(units, 'read unit', 'read units')} in {counted(requests, 'request', 'requests')}"


def spoken(state: str) -> str:
    """Return a state as people say it: `needs attention`."""
    return state.replace("_", " ")


def being(state: str) -> str:
    """Return a state as a predicate: `is rolled back`, `needs attention`."""
    return spoken(state) if state == "needs_attention" else f"is {spoken(state)}"


def with_left_behind(state: str, left_behind: int, parked: int = 0) -> str:
    """Return a state with the counts that it does not cover: `verified, 4,000 left behind, 30 parked`."""
    said = f"{spoken(state)}, {left_behind:,} left behind" if left_behind else spoken(state)
    return f"{said}, {parked:,} parked" if parked and state != "parked" else said


def would_stay_behind(count: int, records: int, source: str) -> str:
    return f"{count:,} of the {records:,} records of {source} would stay behind"


def not_found_by_readers(left_behind: int) -> str:
    """Say how many records readers do not find once they have moved."""
    records = counted(left_behind, "record was", "records were")
    return f"{records} left behind: readers of the new namespaces do not find them"


def in_namespaces(records: int, namespaces: int) -> str:
    """Return both counts: `376 records in 1 namespace`."""
    return f"{counted(records, 'record', 'records')} in {counted(namespaces, 'namespace', 'namespaces')}"


def went_on(batches: int) -> str:
    """Return, as the end of a sentence, how many more batches a worker did without another wake-up."""
    return f"; went on with {counted(batches, 'more batch', 'more batches')}" if batches else ""


ONCE_GONE = " once its reason is gone"


def after_another_run(failure: str) -> str:
    """Return the sentence of a batch that failed and was run again since, without the command that runs it again."""
    return f"run again since; {re.sub(f': `[^`]+`{ONCE_GONE}$', '', failure)}"


def in_days(count: float) -> str:
    return "1 day" if count == 1 else f"{count:g} days"


def duration(seconds: float) -> str:
    """Return seconds as people read them: `40 s`, `3 min 20 s`, `2 h`, `1 day 5 h`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, in_days(days)), (hours, f"{hours} h"), (minutes, f"{minutes} min"), (rest, f"{rest} s"))
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    (_, said), *finer = parts[first : first + 2]
    return " ".join([said, *(finer_said for count, finer_said in finer if count)])


def elapsed(seconds: float) -> str:
    """Return seconds as `duration` does, and those under a minute to two digits: `0.5 s`, `1.4 s`, `41 s`."""
    return f"{seconds:.2g} s" if seconds < 60 else duration(seconds)


def a_month(monthly: Monthly) -> str:
    """Say what the moved records cost a month on both sides."""

    def from_to(before: float | None, after: float | None) -> str:
        return f"{_dollars(before, monthly.before.because)} → {_dollars(after, monthly.after.because)}"

    storage = from_to(monthly.before.storage, monthly.after.storage)
    reads = from_to(monthly.before.reads, monthly.after.reads)
    return f"a month: storage {storage}, both until the clean-up · {monthly.queries:,} queries {reads}"


def _dollars(dollars: float | None, because: str | None) -> str:
    return f"${dollars:,.2f}" if dollars is not None else because or "not known"


def creation(new: NewIndex) -> str:
    """Say how an absent target is created."""
    place = f" in {new.cloud} {new.region}" if new.cloud else ""
    tags = ", ".join(f"{key}={value}" for key, value in sorted((new.tags or {}).items()))
    nodes = new.read_capacity
    wanted = [
        *([f"tags {tags}"] if tags else []),
        *(["deletion protection"] if new.deletion_protection else []),
        *([f"{nodes.shards} shards × {nodes.replicas} replicas of {nodes.type} nodes for its reads"] if nodes else []),
    ]
    return f"the target is created{place} if it is absent" + (f": {'; '.join(wanted)}" if wanted else "")


def leading(sides: Sequence[str], aliases: int) -> str:
    """Say how many routes lead to the new side, and how many aliases do too. `sides`: the side of each route."""
    new = sides.count("new")
    following = counted(aliases, "alias leads where its readers", "aliases lead where their readers")
    routes = f"{new:,} of {counted(len(sides), 'route', 'routes')} {'leads' if new == 1 else 'lead'}"
    return f"{routes} to the new namespaces" + (f"; {following} are" if aliases else "")


def given_up(job_id: int, written: int, *, deleting: bool) -> str:
    """Say what cancelling leaves in place. `deleting`: the clean-up had begun."""
    stay = "record that it wrote stays at its target", "records that it wrote stay at their targets"
    rest = "what it deleted from its sources stays deleted" if deleting else "its sources are untouched"
    until = "" if deleting else " until you roll back"
    return f"This gives job {job_id} up for good. The {counted(written, *stay)}{until}; {rest}."


def parked_records_wait(records: int) -> str:
    """Say how many parked records wait for a person's decision."""
    return counted(records, "parked record waits for a decision", "parked records wait for a decision")


def plan_keeping(recipe: str, command: Sequence[str]) -> str:
    """Return the command that plans the same and keeps what records hold; the recipe's help if it is not known."""
    if not command or recipe == "reverse":  # a way back adds no keys, and takes no such option
        return f"vecfleet plan {recipe} --help"
    return shlex.join(("vecfleet", *without_option(command, "--conflicts"), "--conflicts", "keep"))


def without_option(words: Sequence[str], option: str) -> tuple[str, ...]:
    """Return a command line without an option and its value."""
    values = {place + 1 for place, word in enumerate(words) if word == option}
    return tuple(
        word
        for place, word in enumerate(words)
        if place not in values and word != option and not word.startswith(f"{option}=")
    )


def another_plan(records: int, recipe: str, command: Sequence[str], back: Sequence[str]) -> str:
    """Say what happens to parked records that hold another value in a key that the plan adds.

    `back`: the commands that take the job back.
    """
    holding = counted(records, "parked record holds", "parked records hold")
    again = f"`{plan_keeping(recipe, command)}`"
    last = again if command else f"the plan again, with --conflicts keep ({again} shows its options)"
    return (
        f"{holding} another value in a key that the plan adds, and a retry parks them again as long as they do: "
        f"to move them as they are, {''.join(f'`{step}`, then ' for step in back)}{last}; "
        "or accept that they stay behind"
    )


def numbered(way_back: str, job_id: int) -> str:
    """Return a job's way back with the job's number in its commands, which were written before it had one."""
    for command in ("rollback", "plan reverse"):
        way_back = way_back.replace(f"`vecfleet {command}`", f"`vecfleet {command} {job_id}`")
    return way_back


def after_clean_up(way_back: str, job_id: int) -> str:
    """Return the way back that is left once the clean-up begins."""
    return numbered(way_back, job_id).rpartition("after it ")[2]


def to_be_dropped(targets: Sequence[Target]) -> str:
    """Say what a rollback does to the namespaces that its job created."""
    kept = sum(target.created_by_us and target.is_authoritative for target in targets)
    dropped = counted(sum(target.created_by_us for target in targets) - kept, "namespace", "namespaces")
    stays = (
        f" {counted(kept, 'namespace', 'namespaces')} to which readers had moved will stay, empty or not: applications "
        "may write there."
        if kept
        else ""
    )
    return f"{dropped} that it created, once empty.{stays}"
