"""Every measured claim, part by part: a table for each, and one JSON file. `--quick` takes 20 to 25 minutes.

python -m benchmarks [--quick] [--json FILE] [PART…]
"""

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module

from benchmarks.figures import Figure
from benchmarks.runner import parser, report

# In this order; each is a module with a `measure(quick)`, and a command of its own.
PARTS = (
    "main_job",
    "start",
    "copy",
    "overhead",
    "limits",
    "pacing",
    "peers",
    "scale",
    "waits",
    "catch_up",
    "memory",
    "restart",
    "queueing",
    "simulation",
    "pgvector",
    "reembed",
    "tenancy",
    "erasure",
    "check",
    "emulator",
    "page",
)


def measure(part: str, quick: bool) -> Iterable[Figure]:
    """Loaded when its turn comes: a part that cannot be loaded costs no other."""
    found: Callable[[bool], Iterable[Figure]] = import_module(f"benchmarks.{part}").measure
    return found(quick)


def main() -> int:
    arguments = parser("python -m benchmarks", __doc__)
    arguments.add_argument("part", nargs="*", help=f"some alone, of {', '.join(PARTS)}")
    given = arguments.parse_args()
    unknown = [part for part in given.part if part not in PARTS]
    if unknown:
        arguments.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return report({part: partial(measure, part) for part in given.part or PARTS}, given)


if __name__ == "__main__":
    raise SystemExit(main())
