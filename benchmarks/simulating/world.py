"""The world of a simulation: its machine, its time, and what everybody spends of it."""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.simulating.costs import BYTES, CALLS, EMULATOR, POSTGRES, RECORDS, STEPS, Costs
from benchmarks.simulating.kernel import Kernel
from vecfleet.records import Record

BEGINS_AT = 1_800_000_000.0  # any time: what the clock shows at second nought


@dataclass(frozen=True, slots=True)
class Machine:
    """The surroundings of a fleet. `others`: cores that other programs keep busy; `late_s`: lateness of answers."""

    cores: int
    workers: int
    others: float = 0.0
    late_s: float = 0.0


@dataclass
class World:
    """One simulation: its clock, what things cost in it, and how much of what was done (by role and unit)."""

    kernel: Kernel
    costs: Costs
    machine: Machine
    counted: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    _who: threading.local = field(default_factory=threading.local)

    @property
    def now(self) -> float:
        return BEGINS_AT + self.kernel.now

    def acts_as(self, role: str, process: str) -> None:
        """From now on the calling actor is a thread of this process."""
        self._who.role, self._who.process, self._who.depth = role, process, 0

    def spend(self, **units: float) -> None:
        """The calling actor does so much of each unit in its own process."""
        self._compute(self._who.role, self._who.process, units, single=True)

    def spend_elsewhere(self, role: str, *, single: bool, **units: float) -> None:
        """The calling actor waits for another process that does so much."""
        self._compute(role, role, units, single=single)

    def _compute(self, role: str, process: str, units: Mapping[str, float], *, single: bool) -> None:
        seconds = 0.0
        for unit, times in units.items():
            self.counted[role, unit] += times
            seconds += self.costs.of(role, unit, times)
        if seconds:
            self.kernel.compute(process, seconds, single=single)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Around a transaction: what it takes here comes before it, what it takes Postgres after."""
        outermost = self.kernel.is_acting and self._who.depth == 0
        if outermost:
            self.spend(**{STEPS: 1})
        if self.kernel.is_acting:
            self._who.depth += 1
        try:
            yield
        finally:
            if self.kernel.is_acting:
                self._who.depth -= 1
        if outermost:
            self.spend_elsewhere(POSTGRES, single=False, **{STEPS: 1})

    def call(
        self,
        act: Callable[[], Any],
        sent: Collection[Record] = (),
        received: Callable[[Any], Collection[Record]] = lambda _: (),
    ) -> Any:
        """A request to the service: what is sent takes time here first, what is received takes it last."""
        if not self.kernel.is_acting:
            return act()
        self.spend(**_weight(sent))
        self.kernel.sleep(self.machine.late_s)
        answer = act()
        back = received(answer)
        self.spend_elsewhere(EMULATOR, single=True, **{CALLS: 1}, **_weight([*sent, *back]))
        self.spend(**_weight(back))
        return answer


def _weight(records: Collection[Record]) -> dict[str, float]:
    return {RECORDS: len(records), BYTES: sum(len(one.values) for one in records)} if records else {}
