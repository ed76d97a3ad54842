"""Loopback ports: a free one, or the same one after a restart, so that addresses printed earlier stay true."""

import socket
from pathlib import Path

from orchestrator.embedded.process import DidNotStart


def free_port(*preferred: int) -> int:
    """Return the first of `preferred` that is free, else any free port."""
    for port in (*preferred, 0):
        with socket.socket() as probe:
            # As the servers do: a port whose last connections are still closing counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DidNotStart(
        "This machine has no free port on 127.0.0.1.",
        next_step="end what holds them (`ss -ltnp` lists it), then run it again",
    )


def claim_port(state_dir: Path, name: str, *usual: int) -> int:
    """Return the first free one of these, and remember it: the port `name` had last time, a `usual` one, any."""
    place = _place(state_dir, name)
    remembered = remembered_port(state_dir, name)
    port = free_port(*([] if remembered is None else [remembered]), *usual)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(str(port))
    return port


def remembered_port(state_dir: Path, name: str) -> int | None:
    """Return the port that `name` had last time; None where it never ran here, or was erased."""
    place = _place(state_dir, name)
    remembered = place.read_text() if place.exists() else ""
    return int(remembered) if remembered.isdigit() else None


def forget_port(state_dir: Path, name: str) -> None:
    _place(state_dir, name).unlink(missing_ok=True)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _place(state_dir: Path, name: str) -> Path:
    return state_dir / "ports" / name
