"""The person who watches a job, and types what it says next."""

import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from orchestrator.cli.watching import look
from orchestrator.core.progress import Progress
from orchestrator.ledger.database import Database
from orchestrator.services import acts, left_behind
from tests.chaos.fleet import ChaosFleet
from tests.chaos.schedule import Schedule
from tests.chaos.strikes import Strikes
from vecfleet.errors import Refused, Unreachable, VecfleetError

WHO = "chaos"
# How often a person does what the job says before it counts as stuck.
MOST_STEPS, ENOUGH = 25, 3
# A person gives the job a moment to do something about what was typed.
LOOKS_EVERY_S = 0.6
_ASKS = ("paused", "needs_attention")
_ALL = 10**9  # records: so many may stay behind
_MEANT = re.compile(r"`vecfleet set \d+ missing (\d+)`")
_COSTS = re.compile(r"`vecfleet set \d+ budget ([\d.]+)`")


class Broken(AssertionError):
    """A law is broken, or the job never ended."""


class SetBack(Exception):
    """The job table is older than it was: what the person asked for may never have been asked for."""


class GivenUp(Exception):
    """The job cannot end well: the service lost records, or nothing is left to copy. The person cancels it."""


def give_up(database: Database, job_id: int) -> None:
    """Cancel a job; take its readers back first, as a person is told to where it has led them to the new side."""
    try:
        acts.cancel(database, job_id, WHO)
    except Refused as refused:
        if refused.code != "readers-on-target":
            raise
        acts.reverse(database, job_id, WHO)
        acts.cancel(database, job_id, WHO)


class Person:
    def __init__(
        self, fleet: ChaosFleet, schedule: Schedule, strikes: Strikes, note: Callable[[str], None], job_id: int
    ) -> None:
        self.job_id = job_id
        self.last_state = ""
        self.fleet, self.schedule, self.strikes, self.note = fleet, schedule, strikes, note
        self._steps = 0
        self._looks_at = 0.0
        self._tried: Counter[str] = Counter()

    def state(self) -> str:
        with suppress(Exception):  # Postgres may be away: then it is what it was
            [(self.last_state,)] = self.fleet.sql("SELECT state FROM job WHERE id = %s", self.job_id)
        return self.last_state

    def attend(self) -> None:
        """A person looks at the job and types what it says next."""
        before = self.last_state
        if (state := self.state()) != before:
            self.note(f"the job is {state}")
        if state not in (*_ASKS, "verified") or self.strikes.keeps_paused or time.monotonic() < self._looks_at:
            return
        self._looks_at = time.monotonic() + LOOKS_EVERY_S
        with suppress(Unreachable):
            shown = look(self.fleet.parts, self.job_id, namespaces=0)
            if shown.reading.job.state == "verified" and shown.reading.empty_targets and self._moves_readers(shown):
                raise GivenUp  # no reader may be moved to a target whose records were all left behind
            if shown.reading.job.state not in _ASKS:
                return  # it went on by itself meanwhile
            reason = shown.reading.job.reason or ""
            if reason.endswith("nothing was copied"):
                raise GivenUp
            steps = [step for step in shown.next_steps if self._command(step) is not None]
            if not steps:
                raise Broken(f"{state} ({reason}), and none of its next steps goes on: {shown.next_steps}")
            step = steps[self._tried[reason] % len(steps)]
            self._tried[reason] += 1
            self._steps += 1
            if self._tried[reason] > ENOUGH and self.schedule.cannot_be_repaired:
                raise GivenUp
            if self._steps > MOST_STEPS:
                raise Broken(f"{state} ({reason}), and what it says to do does not end it: {shown.next_steps}")
            if self._steps > MOST_STEPS // 2:
                self.strikes.clear_store()  # the vendor's trouble does not last for ever
            self.note(f"{state}: {reason}; typed: {step}")
            command = self._command(step)
            assert command is not None
            try:
                self._say_what_is_meant(reason)
                command()
            except Unreachable:
                raise
            except VecfleetError as error:
                self.note(f"told: {error}")

    def _say_what_is_meant(self, reason: str) -> None:
        """Allow what an application or an erasure took away to be gone; what lags is back when it is resumed.

        Allow what the model costs.
        """
        if (more := _COSTS.search(reason)) is not None:
            self.strikes.hit["a cap on the cost"] += 1
            acts.set_lever(self.fleet.parts.database, self.job_id, WHO, "budget", float(more[1]))
        asked = _MEANT.search(reason)
        if asked is None or self._tried[reason] == 1 or self.schedule.cannot_be_repaired:
            return
        self.note(f"said: {asked[1]} may be missing")
        acts.set_lever(self.fleet.parts.database, self.job_id, WHO, "missing", int(asked[1]))

    def _moves_readers(self, shown: Progress) -> bool:
        job = shown.reading.job
        cuts_over = job.policies.cut_over != "none" and not job.cut_over_percent
        return self.schedule.ending.startswith("cleaned") and cuts_over

    def note_what_is_wrong(self) -> None:
        with suppress(Exception):  # Postgres may be away
            for row in self.fleet.sql(
                "SELECT kind, state, seq, attempts, run_after, lands_by, dispatched_at, error_class, error_text "
                "FROM batch WHERE job_id = %s AND state NOT IN ('done', 'split') ORDER BY id LIMIT 20",
                self.job_id,
            ):
                self.note(f"not done: {row}")
            for row in self.fleet.sql(
                "SELECT t.namespace, f.kind, f.record_id, f.copy_id FROM finding f JOIN target t ON t.id = f.target_id "
                "WHERE t.job_id = %s",
                self.job_id,
            ):
                self.note(f"found: {row}")

    def _command(self, step: str) -> Callable[[], object] | None:
        """Return what a next step means. None: it only shows something, or gives the job up."""
        database, job = self.fleet.parts.database, self.job_id
        commands: dict[str, Callable[[], object]] = {
            f"vecfleet resume {job}": lambda: acts.resume(database, job, WHO),
            f"vecfleet retry {job} failed": lambda: acts.retry(database, job, WHO, "failed"),
            f"vecfleet retry {job} parked": lambda: acts.retry(database, job, WHO, "parked"),
            f"vecfleet park accept {job} --all": lambda: left_behind.accept_records(database, job, WHO, None, _ALL),
            f"vecfleet pass {job}": lambda: acts.another_pass(database, job, WHO),
            f"vecfleet rollback {job} --changed keep": lambda: acts.roll_back(database, job, WHO, "keep"),
            f"vecfleet cleanup {job}": lambda: acts.clean_up(database, job, WHO, by_ids=self.schedule.by_ids),
            f"vecfleet set {job} doubt 0": lambda: acts.set_lever(database, job, WHO, "doubt", 0),
            f"vecfleet verify {job}": lambda: acts.verify(database, job, WHO),
        }
        return commands.get(step)
