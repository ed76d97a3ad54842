"""`python -m orchestrator` is `vecfleet`."""

import gc
import sys

# Loading makes 500,000 objects, hardly any of them garbage; Python would search them at each 700 new ones.
_OBJECTS_PER_SEARCH = 50_000


def run() -> int:
    """The command line of this process. Returns its exit code.

    A short command spent a quarter of its time on looking for garbage, most of it at its end, when all goes anyway.
    """
    gc.set_threshold(_OBJECTS_PER_SEARCH)
    from orchestrator.cli.app import main

    exit_code = main()
    gc.freeze()
    return exit_code


if __name__ == "__main__":
    sys.exit(run())
