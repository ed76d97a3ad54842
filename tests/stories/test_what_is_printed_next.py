"""Every answer ends with what to type next. Whoever types exactly that, and nothing else, arrives."""

import re
import shlex
from datetime import timedelta

from pytest import mark

from orchestrator.core.states import JobState
from orchestrator.embedded.process import Process
from tests.stories.emulated import CREATOR, as_twins, assert_same_index, row, target_of
from tests.stories.world import SMALL, OpenWorld, World

pytestmark = mark.story

PLAN = f"vecfleet plan creators {SMALL} --creator {CREATOR}"
RUN_ON = {"dispatcher", "worker"}  # a person leaves these running, each in a terminal of its own
MOST_COMMANDS = 40


class Person:
    """Types one line, and from then on what is printed as `next:`, the first of several."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.typed: list[str] = []
        self._terminal: Process | None = None
        self._read = 0

    def follow(self, line: str, until: str) -> str:
        """Type `line`, then each next line up to the first one that begins with `until`, which is given back."""
        while not line.startswith(until):
            self._type(line)
            line = self._next()
            assert len(self.typed) < MOST_COMMANDS, "this leads nowhere:\n" + "\n".join(self.typed)
        return line

    def _type(self, line: str) -> None:
        program, *words = shlex.split(line)
        assert program == "vecfleet", f"not a command: {line}"
        if words[0] in RUN_ON and line in self.typed:
            return  # it is starting
        self.typed.append(line)
        if words == ["dispatcher"]:
            self.world.start_dispatcher()
        elif words == ["worker"]:
            self.world.start_worker()
        else:
            self._open(words)

    def _open(self, words: list[str]) -> None:
        self._wait_for_the_prompt()
        log = self.world.folder / "terminal" / f"{len(self.typed)}.log"
        self._terminal = self.world.launch("terminal", "orchestrator", *words, log=log, env=self.world.env)
        self._read = 0

    def _next(self) -> str:
        """The next line that was not read yet; one that watches may say what to start, and go on watching."""
        assert self._terminal is not None
        terminal = self._terminal
        self.world.until(
            f"{self.typed[-1]} says what is next", lambda: len(self._told()) > self._read or not terminal.alive()
        )
        assert len(self._told()) > self._read, f"{self.typed[-1]} says nothing of what is next: {terminal.log_tail()}"
        self._read += 1
        return self._told()[self._read - 1]

    def _told(self) -> list[str]:
        assert self._terminal is not None
        return re.findall(r"^next: (.+)\n", self._terminal.log.read_text(), flags=re.MULTILINE)

    def _wait_for_the_prompt(self) -> None:
        if self._terminal is None:
            return
        terminal = self._terminal
        self.world.until("the prompt is back", lambda: not terminal.alive())
        assert "Traceback" not in terminal.log.read_text(), terminal.log.read_text()
        leading_on = [line for line in self._told() if line.split()[1] not in RUN_ON]
        assert len(leading_on) == 1, f"one next line and no other:\n{terminal.log.read_text()}"

    def commands(self) -> list[str]:
        return [line.split()[1] for line in self.typed]


def test_from_a_plan_to_the_report_with_nothing_typed_but_the_next_lines(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=40, __default__=25)
    person = Person(world)
    # When a person types a plan where nothing runs yet, and from then on what is printed as next
    line = person.follow(f"{PLAN} --default twin", until="vecfleet report 1")
    # Then the plan is shown and tried, what the fleet lacks is started as it is missed, and the readers are moved
    assert person.commands() == ["plan", "show", "apply", "apply", "dispatcher", "worker", "cutover"]
    # And after the day that plans wait by default, the verdicts are old
    world.later(timedelta(hours=25))
    person.follow(line, until="vecfleet audit")
    # Then the targets are read back once more before the old is deleted
    assert person.commands()[7:] == ["report", "cleanup", "verify", "cleanup", "cleanup", "status", "report"]
    assert world.job(1).state is JobState.CLEANED
    assert_same_index(world.emulator.dump(SMALL), as_twins(before))


def test_what_failed_and_what_cannot_be_moved_is_decided_by_the_next_lines(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=20, bruno=30)
    # Given a record too large for the keys we add, and a namespace that the service refuses once
    huge = row("huge", chunk_text="x" * (40_000 - 40))
    world.emulator.write(SMALL, "alma", [huge])
    world.emulator.fault(operation="upsert", namespace=target_of("bruno"), status=409, message="it is locked", count=1)
    world.start(workers=1)
    person = Person(world)
    # When the next lines are followed to the end
    person.follow(f"{PLAN} --soak-seconds 0", until="vecfleet audit")
    # Then the batch was run again, and of the record it was said that it may stay: it is where it was, alone
    assert {"vecfleet retry 1 failed", "vecfleet park accept 1 --all"} < set(person.typed)
    assert world.job(1).state is JobState.CLEANED
    assert_same_index(world.emulator.dump(SMALL), {**as_twins(before), "alma": {"huge": huge}})
