"""A job as the page shows it, from what the job table says: words, marks and the acts on offer. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.core.guards import ENOUGH, Step, complaints
from orchestrator.core.model import Move
from orchestrator.core.progress import NamespaceView, Progress
from orchestrator.core.reading import ParkedGroup
from orchestrator.core.states import JOB_WORKING, JobState, MoveState
from orchestrator.core.waiting import rests
from orchestrator.core.wording import duration, with_left_behind
from orchestrator.ledger.audit import Act
from orchestrator.ledger.dashboards import Cell, Throughput
from orchestrator.ledger.parked import Parked, ParkedBatch
from orchestrator.web.charts import Chart, path, scale
from orchestrator.web.offering import Action
from orchestrator.web.sampling import EVERY_S, Sample
from vecfleet.errors import Objection

_J, _M = JobState, MoveState

# Some people cannot tell colours apart: each state has a mark and a word too.
JOB_MARKS: dict[JobState, tuple[str, str]] = {
    _J.PLANNED: ("○", "quiet"),
    _J.RUNNING: ("▶", "busy"),
    _J.COPIED: ("▶", "busy"),
    _J.VERIFIED: ("✓", "good"),
    _J.CUT_OVER: ("⇄", "good"),
    _J.CLEANING: ("▶", "busy"),
    _J.CLEANED: ("✓", "good"),
    _J.FINISHED: ("✓", "good"),
    _J.NEEDS_ATTENTION: ("▲", "bad"),
    _J.PAUSING: ("‖", "warn"),
    _J.PAUSED: ("‖", "warn"),
    _J.CANCELLING: ("✕", "quiet"),
    _J.CANCELLED: ("✕", "quiet"),
    _J.ROLLING_BACK: ("↺", "warn"),
    _J.ROLLED_BACK: ("↺", "quiet"),
}
# One letter each: with 12,000 cells every byte of a class counts. app.css draws them.
CELL_LETTERS: dict[MoveState, str] = {
    _M.PENDING: "p",
    _M.LISTING: "l",
    _M.COPYING: "c",
    _M.COPIED: "d",
    _M.MISMATCHED: "m",
    _M.REPAIRING: "r",
    _M.PARKED: "x",
    _M.VERIFIED: "v",
    _M.CLEANING: "k",
    _M.CLEANED: "z",
    _M.ROLLED_BACK: "b",
}
_MATCHES = "its target matches"
VERDICTS: dict[MoveState, str] = {
    _M.VERIFIED: _MATCHES,
    _M.CLEANING: _MATCHES,
    _M.CLEANED: "every record equal",  # clean-up compares contents, at whichever level the job was verified
    _M.MISMATCHED: "differs",
    _M.REPAIRING: "differs",
}
_FILLING = frozenset({_M.LISTING, _M.COPYING, _M.REPAIRING, _M.CLEANING})
_IN_TROUBLE = frozenset({_M.PARKED, _M.MISMATCHED})
_LETTERS = {str(state): letter for state, letter in CELL_LETTERS.items()}
_LETTERS_FILLING = frozenset(_LETTERS[state] for state in _FILLING)
SHOWN = 100  # rows of a list on the job's page; the counts beside it stay exact


def spoken(word: str) -> str:
    return word.replace("_", " ")


def job_mark(state: JobState, left_behind: int) -> tuple[str, str]:
    """Return the mark and the tone of a job. A job that left records behind is never shown as good."""
    mark, tone = JOB_MARKS[state]
    return (mark, "warn") if left_behind and tone == "good" else (mark, tone)


def verdict(namespace: NamespaceView | Move) -> str:
    """Return the verdict on a namespace, and what it does not cover."""
    said = VERDICTS.get(namespace.state, "")
    return with_left_behind(said, namespace.left_behind, namespace.parked) if said else said


def cell_class(cell: Cell) -> str:
    """`c n4 w`: copying, four tenths done, something of it is parked."""
    letter = _LETTERS[cell.state]
    marks = letter
    if letter in _LETTERS_FILLING:
        done = cell.deleted if letter == "k" else cell.done
        marks += f" n{min(9, 10 * done // cell.expected) if cell.expected else 0}"
    return f"{marks} w" if cell.parked else marks


@dataclass(frozen=True, slots=True)
class Shadow:
    """Results of the shadow reads at the present step of a roll-out."""

    step: Step
    complaints: tuple[str, ...]
    enough: int = ENOUGH


def shadow(step: Step | None) -> Shadow | None:
    return Shadow(step, tuple(complaints(step.evidence))) if step is not None and step.percent else None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job at one moment: everything that its page shows."""

    progress: Progress
    cells: tuple[Cell, ...]
    batches: tuple[ParkedBatch, ...]
    records: tuple[Parked, ...]
    shadow: Shadow | None
    acts: tuple[Act, ...]
    comments: tuple[Act, ...]
    throughput: Throughput | None
    samples: tuple[Sample, ...]
    actions: tuple[Action, ...]
    against_retry: tuple[str, ...]
    decided: int  # parked records that a person left behind

    @property
    def standing(self) -> str:
        """Return the job's state and what it does not cover."""
        reading = self.progress.reading
        return with_left_behind(reading.job.state, reading.totals.left_behind)

    @property
    def mark(self) -> str:
        return self._marked[0]

    @property
    def tone(self) -> str:
        return self._marked[1]

    @property
    def _marked(self) -> tuple[str, str]:
        reading = self.progress.reading
        return job_mark(reading.job.state, reading.totals.left_behind)

    @property
    def took(self) -> float:
        """Return the seconds since the job began: until it ended or, if it rests, until the last that it did."""
        reading = self.progress.reading
        job = reading.job
        began, ended = job.started_at or job.created_at, job.ended_at
        if ended is None and self.rests:
            copied = self.throughput.ended if self.throughput is not None else None
            done = (copied, job.verified_at, job.cut_over_at, job.pass_ended_at)
            ended = max((moment for moment in done if moment is not None), default=None)
        return ((ended or reading.now) - began).total_seconds()

    @property
    def rests(self) -> bool:
        """Say whether the job does nothing more until a person acts."""
        return rests(self.progress.reading)

    @property
    def parked_reasons(self) -> list[ParkedGroup]:
        return [group for group in self.progress.reading.reasons if group.of_records]

    @property
    def failed_reasons(self) -> list[ParkedGroup]:
        return [group for group in self.progress.reading.reasons if not group.of_records]

    @property
    def stopped(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the acts that may not be done now, with the reasons; acts with the same reasons stand together.

        A job that needs attention is one reason for all: what else speaks against an act follows from it.
        """
        labels_by_reasons: dict[tuple[str, ...], list[str]] = {}
        for action in self.actions:
            if action.against:
                reasons = tuple(filter(_needs_attention, action.against)) or action.against
                labels_by_reasons.setdefault(reasons, []).append(action.label.removesuffix("…"))
        return [(", ".join(labels), why) for why, labels in labels_by_reasons.items()]

    @property
    def cell_classes(self) -> list[str]:
        return [cell_class(cell) for cell in self.cells]

    @property
    def states(self) -> list[tuple[MoveState, str, int]]:
        """Return every state that some namespace is in, with its letter and the number of namespaces."""
        counts = Counter(cell.state for cell in self.cells)
        return [(state, CELL_LETTERS[state], counts[state]) for state in MoveState if counts[state]]

    @property
    def with_parked(self) -> int:
        return sum(cell.parked > 0 for cell in self.cells)

    @property
    def density(self) -> str:
        """Return a size of cell at which all cells fit one screen."""
        return "few" if len(self.cells) <= 200 else "some" if len(self.cells) <= 2_000 else "many"

    @property
    def namespaces_title(self) -> str:
        """Say which namespaces stand first in the table, if any stand there for a reason."""
        shown = self.progress.namespaces
        if any(view.state in _IN_TROUBLE or view.parked for view in shown):
            return "Those in trouble first"
        if any(view.state in _FILLING for view in shown):
            return "Those under way first"
        return "One by one"

    @property
    def charts(self) -> list[Chart]:
        """Return the charts that have a line."""
        working = self.progress.reading.job.state in JOB_WORKING
        return [chart for chart in (_records(self), *_paces(self.samples if working else ())) if chart.line]


def _needs_attention(objection: str) -> bool:
    return isinstance(objection, Objection) and objection.code == "attention-needed"


def _records(look: JobView) -> Chart:
    throughput, working = look.throughput, look.progress.reading.job.state is _J.RUNNING
    rates = throughput.rates if throughput else ()
    top = scale(rates)
    line, area = path(rates, top)
    rate = look.progress.rate if working else None
    now = "—" if rate is None else f"{rate:,.0f}/s"
    since, until = (_clock(throughput.began), _clock(throughput.ended)) if throughput else ("", "")
    return Chart("Records copied a second", now, f"{top:,.0f}/s", since, until, line, area, "busy")


def _paces(samples: Sequence[Sample]) -> list[Chart]:
    """Draw the samples; there is one for each second in which the job worked."""
    paces = [sample.pace for sample in samples]
    line, area = path(paces, 1.0)
    now = f"{paces[-1]:.0%}" if paces else "—"
    since = _ago(len(samples) * EVERY_S) if samples else ""
    shares = _shares(samples)
    refused, under = path(shares, 1.0)
    share = f"in {shares[-1]:.0%} of seconds" if shares else "—"
    return [
        Chart("Pace, of the limits", now, "100 %", since, "now", line, area, "good"),
        Chart("429 answers", share, "100 %", since, "now", refused, under, "warn"),
    ]


_MINUTE = int(60 / EVERY_S)


def _shares(samples: Sequence[Sample]) -> list[float]:
    """Return, for each sample, the share of the minute before it in which the service refused a call for its rate."""
    shares, refused = [], 0
    for number, sample in enumerate(samples):
        refused += sample.refused
        if number >= _MINUTE:
            refused -= samples[number - _MINUTE].refused
        shares.append(refused / min(number + 1, _MINUTE))
    return shares


def _ago(seconds: float) -> str:
    return f"{duration(seconds)} ago"


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}"
