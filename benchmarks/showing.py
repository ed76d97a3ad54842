"""The machine and the versions of a run: without it a figure cannot be compared."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

_REPOSITORY = Path(__file__).resolve().parents[1]
_PACKAGES = ("pinecone", "grpcio", "protobuf", "celery", "sqlalchemy", "psycopg", "redis", "numpy", "orjson", "xxhash")


def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": [round(load, 2) for load in psutil.getloadavg()],
    }


def versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def commit() -> str | None:
    """Return the commit that is measured, with `-dirty` where files differ from it; None outside of git."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude", "*"]
    try:
        told = subprocess.run(words, cwd=_REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
