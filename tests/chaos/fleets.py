"""Several fleets at once, each a process with servers of its own in its own folder; all take seeds from one queue."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from tests.chaos.outcome import Outcome
from tests.stories.launching import REPOSITORY

# A fleet is stopped in about a second; on a machine that does much else besides, in this at the most.
ENDS_WITHIN_S = 90.0
LAST_LINES = 20
# As root a server is started as another account, by a fork, in whose child gRPC would end it before it is a server.
NO_FORKS_OF_GRPC = {"GRPC_ENABLE_FORK_SUPPORT": "0"}


def live_all(seeds: Iterable[int], at_once: int, tell: Callable[[Outcome], object]) -> None:
    """Live the seeds, so many at once. `tell` hears of each when it is over. However this ends, nothing is left."""
    waiting = deque(seeds)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        keepers = [_Keeper(Path(folder) / f"fleet{n + 1}") for n in range(min(at_once, len(waiting)))]
        try:
            for keeper in keepers:
                keeper.begin(waiting.popleft())
            busy = list(keepers)
            while busy:
                for keeper in select.select(busy, [], [])[0]:
                    tell(keeper.outcome())
                    busy.remove(keeper)
                    if not waiting:
                        continue
                    if not keeper.whole:
                        keeper.ask_to_end()
                        keeper = _Keeper(Path(folder) / f"fleet{len(keepers) + 1}")
                        keepers.append(keeper)
                    keeper.begin(waiting.popleft())
                    busy.append(keeper)
        finally:
            for keeper in keepers:
                keeper.ask_to_end()
            for keeper in keepers:
                keeper.end()


class _Keeper:
    """The process of one fleet, and the seed it lives. `whole`: it can live another one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.whole = True
        self._log = folder / "keeper.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.keeper", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=REPOSITORY,
                env={**os.environ, **NO_FORKS_OF_GRPC},
                text=True,
                bufsize=1,
                start_new_session=True,  # Ctrl-C is ours to pass on
            )
        self._seed = 0

    def fileno(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def begin(self, seed: int) -> None:
        assert self._process.stdin is not None
        self._seed = seed
        with suppress(BrokenPipeError):  # it is dead: so its outcome will say
            self._process.stdin.write(f"{seed}\n")

    def outcome(self) -> Outcome:
        """Of the seed that it lives. Where the process ended without an answer, its log says why."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer = json.loads(line)
            self.whole = answer["whole"]
            return Outcome.of_json(answer["outcome"])
        self.whole = False
        last = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return Outcome(self._seed, wrong=["the process of its fleet ended:", *last])

    def ask_to_end(self) -> None:
        self._process.terminate()

    def end(self) -> None:
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
