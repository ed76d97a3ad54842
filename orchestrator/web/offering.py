"""Acts on offer on a job's page: those that its `next:` names first, then what else its state allows. Pure."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.core.next_steps import next_steps
from orchestrator.core.reading import Reading
from orchestrator.core.states import JOB_EDGES, JOB_ENDED, JobState
from orchestrator.core.wording import counted
from orchestrator.web.acting import CONFIRMED, DELETING

_J = JobState
Field = tuple[str, str]
CUT_OVER_STEPS = (5, 25, 50, 100)
SHOWN_HERE = frozenset({"status", "park list", "report"})
"""Commands of `next:` that show what the job's page shows, or what it links to."""
TYPED = frozenset({"doctor", "dispatcher", "plan", "worker"})
"""Commands of `next:` about a machine and its processes, or a new plan: the page names them, and cannot run them."""
_ALL = ("record", "")  # of an act on parked records: every one


@dataclass(frozen=True, slots=True)
class Action:
    """A button. `asks`: a page in between says what will happen and wants a word typed, or a yes.

    `field`: the name and the value that the button sends. `against`: the guard's objections right now; with any of
    them, the button is shown and does nothing. `likeliest`: most people want this one next.
    """

    name: str
    label: str
    asks: bool = False
    field: Field | None = None
    against: tuple[str, ...] = ()
    likeliest: bool = False

    @property
    def deletes(self) -> bool:
        """Say whether the act deletes records."""
        return self.name in DELETING

    @property
    def percent(self) -> int | None:
        """Return the share of readers that a cut-over is for."""
        return int(self.field[1]) if self.field is not None and self.name == "cutover" else None


def actions(reading: Reading, decided: int = 0) -> list[Action]:
    """Return the acts to offer. Each act's guard says whether it may be done right now.

    What is parked is decided on first; then come the commands of `next:`, in their order; then the others. The buttons
    of one act stay together. `decided`: number of parked records that a person left behind.
    """
    named = [act for step in next_steps(reading) if (act := act_of(step)) is not None]
    offered = list(dict.fromkeys((*_by_state(reading, decided), *named)))
    names = [name for name, _ in named]

    def place(act: tuple[str, Field | None]) -> int:
        name, _ = act
        return -1 if name in _DECISIONS else names.index(name) if name in names else len(names)

    first = next((act for act in sorted(offered, key=place) if act in named), None)
    return [
        Action(
            name,
            _label(reading, name, field),
            name in CONFIRMED,
            field,
            likeliest=(name, field) == first and name not in _WEIGHED,
        )
        for name, field in sorted(offered, key=place)
    ]


_DECISIONS = ("retry", "accept")
_WEIGHED = CONFIRMED - {"cutover"} | {"accept"}  # acts that no page proposes before the others


def command(step: str) -> tuple[str, tuple[str, ...]]:
    """Return the verb of a command of `next:` (`park undo`), and its words after the job's number."""
    words = [word for word in shlex.split(step, comments=True)[1:] if word != "--watch"]
    verb = words[:2] if words[0] == "park" else words[:1]
    return " ".join(verb), tuple(words[len(verb) + 1 :])


def act_of(step: str) -> tuple[str, Field | None] | None:
    """Return the act, and what its button sends, that does what a command of `next:` does; None if no button does."""
    match command(step):
        case "cutover", (_, percent):
            return "cutover", ("percent", percent)
        case "retry", (what,):
            return "retry", ("what", what)
        case "park accept", _:
            return "accept", _ALL
        case "park undo", _:
            return "undo", _ALL
        case "set", (lever, value, *of):
            return "set", ("lever", " ".join((lever, value, *of[1:])))
        case verb, _ if verb in _LABELS:
            return verb, None
        case _:
            return None


_LABELS: Mapping[str, str] = {
    "pause": "Pause",
    "resume": "Resume",
    "verify": "Verify again",
    "pass": "Another pass",
    "undo": "Take back what stays behind",
    "reverse": "Reverse the cut-over",
    "cleanup": "Clean up…",
    "finish": "Finish…",
    "rollback": "Roll back…",
    "cancel": "Cancel…",
}


def _label(reading: Reading, name: str, field: Field | None) -> str:
    match name, field:
        case "retry", (_, "failed"):
            count = reading.parked_batches
            return "Retry the failed batch" if count == 1 else f"Retry all {count:,} failed batches"
        case "retry", _:
            count = reading.undecided
            return "Copy the parked record again" if count == 1 else f"Copy {count:,} parked records again"
        case "accept", _:
            count = reading.undecided
            return "Leave the parked record behind" if count == 1 else f"Leave all {count:,} parked records behind"
        case "cutover", (_, percent):
            return f"Cut over {percent} %…"
        case "set", (_, wish):
            return _lever(*wish.split(" ", 2))
        case _:
            return _LABELS[name]


def _lever(lever: str, value: str, target: str = "") -> str:
    match lever:
        case "missing":
            missing = counted(int(value), "record is missing", "records are missing")
            return f"Confirm that {missing} {f'at {target}' if target else 'in a source'}"
        case "budget":
            return f"Raise the budget to {value} times the estimate"
        case _:
            return f"Allow {value} {lever}"


def _by_state(reading: Reading, decided: int) -> Iterator[tuple[str, Field | None]]:
    job = reading.job
    state, edges = job.state, JOB_EDGES[job.state]
    if reading.parked_batches and state not in JOB_ENDED:
        yield "retry", ("what", "failed")
    if reading.undecided and state not in JOB_ENDED:
        yield "retry", ("what", "parked")
        yield "accept", _ALL
    if _J.PAUSING in edges:
        yield "pause", None
    if state in (_J.PAUSING, _J.PAUSED):
        yield "resume", None
    if state in (_J.COPIED, _J.VERIFIED, _J.NEEDS_ATTENTION, _J.CUT_OVER):
        yield "verify", None
    if state in (_J.VERIFIED, _J.CUT_OVER) and job.policies.quiet_passes:
        yield "pass", None
    if decided and state not in JOB_ENDED:
        yield "undo", _ALL
    if state is _J.VERIFIED:
        for percent in CUT_OVER_STEPS:
            if percent > job.cut_over_percent:
                yield "cutover", ("percent", str(percent))
    if job.cut_over_percent and state not in JOB_ENDED:
        yield "reverse", None
    if state in (_J.VERIFIED, _J.CUT_OVER, _J.NEEDS_ATTENTION):
        yield "cleanup", None
    if state in (_J.VERIFIED, _J.CUT_OVER):
        yield "finish", None
    if _J.ROLLING_BACK in edges and state not in (_J.PAUSING, _J.PAUSED, _J.ROLLED_BACK):
        yield "rollback", None
    if _J.CANCELLING in edges:
        yield "cancel", None
