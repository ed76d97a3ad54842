"""`python -m benchmarks`: measure the main job. The environment's `JSON` names a file for the raw samples."""

import argparse
import os
from pathlib import Path

from rich.console import Console

from benchmarks import main_job


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the vectors; 0.1 for a quick look")
    json_file = os.environ.get("JSON")
    share = parser.parse_args().share
    return 0 if main_job.run(share, Path(json_file) if json_file else None, Console()) else 1


raise SystemExit(main())
