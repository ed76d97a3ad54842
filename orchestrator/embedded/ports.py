"""Loopback ports: a free one, or the same one after a restart, so that addresses printed earlier stay true."""

import random
import socket
from itertools import chain
from pathlib import Path

from orchestrator.embedded.process import DidNotStart

# Linux gives ports from here on to connections that go out, and to who asks for any: a port that was looked at and is
# not listened at yet would soon be another's. Below it only those are taken that somebody names.
_NAMED, _FIRST_OF_ANY, _TRIED = 20_000, 32_768, 50
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_chance = random.SystemRandom()  # two processes that look at once look at different ports, also where a test has a seed


def free_port(*preferred: int) -> int:
    """Return the first of `preferred` that is free, else a free port that no outgoing connection is given."""
    for port in chain(preferred, _named(), [0]):
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


def _named() -> list[int]:
    """Return some ports below those that this machine gives to any who ask; none where it gives all of them."""
    words = _RANGE.read_text().split() if _RANGE.exists() else []
    ports = range(_NAMED, int(words[0]) if words else _FIRST_OF_ANY)
    return _chance.sample(ports, min(_TRIED, len(ports)))


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
    """Say whether somebody listens there. A connection that was given this very port reaches itself, and is nobody."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0 and probe.getsockname() != probe.getpeername()


def _place(state_dir: Path, name: str) -> Path:
    return state_dir / "ports" / name
