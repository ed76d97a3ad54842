"""`python -m orchestrator` is `vecfleet`."""

import faulthandler
import gc
import os
import sys

# Loading makes 500,000 objects, hardly any of them garbage; by default Python searches after every 700 new objects.
_OBJECTS_PER_SEARCH = 50_000


def run() -> int:
    """Run the command line of this process. Return its exit code.

    A short command spent a quarter of its time on the search for garbage, mostly at its end, when memory goes anyway.
    """
    faulthandler.enable()  # where a library in C crashes, the log says in which call; it shows code, and no data
    gc.set_threshold(_OBJECTS_PER_SEARCH)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it reads what every installed package offers
    from orchestrator.cli.app import main

    exit_code = main()
    gc.freeze()
    return exit_code


if __name__ == "__main__":
    sys.exit(run())
