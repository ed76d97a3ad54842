"""The time until the command line answers: the help of every verb, errors of usage, and verbs that ask the job table.

    python -m benchmarks.start [--quick]

Each is a process of its own, as a person starts it; its end counts. What a verb does beyond a look at a few rows is
not asked here.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figures import Figure
from benchmarks.fleet import running
from benchmarks.reach import REACHES
from benchmarks.runner import alone
from orchestrator.cli.commands import COMMANDS
from orchestrator.embedded.programs import PYTHON

REPOSITORY = Path(__file__).resolve().parents[1]
USAGE: tuple[Sequence[str], ...] = (("aply",), ("status",), ("pause", "x"), ("plan", "creators", "--nonsense"))
LOOKS: tuple[Sequence[str], ...] = (("jobs",), ("pace",), ("notices",), ("audit-log", "verify"))
ROUNDS, QUICK_ROUNDS = 5, 3
_EVERY = 8  # of the verbs, in the quick form


def measure(quick: bool) -> Iterator[Figure]:
    rounds = QUICK_ROUNDS if quick else ROUNDS
    verbs = list(COMMANDS)[:: _EVERY if quick else 1]
    reach = REACHES["start of a verb"]
    nothing = dict(os.environ)
    helps = [least_ms((*verb.split(), "--help"), nothing, rounds) for verb in verbs if verb != "emulator"]
    yield Figure.of(f"help of a verb, {len(helps)} of them", "ms", helps, reach)
    yield Figure.of("an error of usage", "ms", [least_ms(words, nothing, rounds) for words in USAGE], reach)
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        for words in LOOKS:
            samples = [ms(words, fleet.environment) for _ in range(rounds)]
            yield Figure.of(f"vecfleet {' '.join(words)}", "ms", samples, reach)


def least_ms(words: Sequence[str], environment: Mapping[str, str], rounds: int) -> float:
    return min(ms(words, environment) for _ in range(rounds))


def ms(words: Sequence[str], environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([*PYTHON, "orchestrator", *words], env=environment, cwd=REPOSITORY, capture_output=True, check=False)
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    raise SystemExit(alone("start", measure, __doc__))
