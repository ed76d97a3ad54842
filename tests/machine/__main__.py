"""Look for longer than the suite does: `python -m tests.machine --examples 500 [what pytest takes]`.

That many lives of each kind with every safeguard in place, and as many of anything in any order, over the
adversary's store.
"""

import argparse
import os
import sys
from pathlib import Path

import pytest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.machine", description=__doc__)
    parser.add_argument("--examples", type=int, default=100, metavar="N", help="lives of each kind (default: 100)")
    told, rest = parser.parse_known_args()
    os.environ["VECFLEET_EXAMPLES"] = str(told.examples)
    return int(
        pytest.main(["-q", "-s", "-p", "no:warnings", str(Path(__file__).parent / "test_lagging_store.py"), *rest])
    )


if __name__ == "__main__":
    sys.exit(main())
