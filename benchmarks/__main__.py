"""`python -m benchmarks`: measure the main job. The environment's `JSON` names a file for the raw samples."""

import argparse
import os
from pathlib import Path

from rich.console import Console

from benchmarks import main_job


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the vectors; its JSON says so")
    json_file = os.environ.get("JSON")
    quick = parser.parse_args().quick
    return 0 if main_job.run(0.2 if quick else 1.0, Path(json_file) if json_file else None, Console()) else 1


raise SystemExit(main())
