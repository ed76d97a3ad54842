"""A port that was found free is not given to another before its server listens there."""

import random
import socket
from pathlib import Path

import pytest

from orchestrator.embedded import ports

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not RANGE.exists(), reason="only Linux tells its range")
def test_a_free_port_is_none_that_the_system_gives_to_whoever_asks_for_any() -> None:
    first_of_any = int(RANGE.read_text().split()[0])
    found = {ports.free_port() for _ in range(50)}
    assert max(found) < first_of_any
    assert len(found) > 40  # who looks at the same time finds another


def test_two_with_the_same_seed_find_different_ports() -> None:
    found = []
    for _ in range(2):
        random.seed(7)
        found.append([ports.free_port() for _ in range(3)])
    assert found[0] != found[1]


def test_where_the_system_gives_every_port_to_whoever_asks_any_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = tmp_path / "range"
    everything.write_text("1024\t65535\n")
    monkeypatch.setattr(ports, "_RANGE", everything)
    with socket.create_server(("127.0.0.1", ports.free_port())) as server:
        assert ports.listening(server.getsockname()[1])


def test_a_connection_that_reaches_itself_is_nobody_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a connection that goes out from the very port that it asks, as one may be given
    port = ports.free_port()

    class FromThere(socket.socket):
        def connect_ex(self, address: object) -> int:
            self.bind(("127.0.0.1", port))
            return super().connect_ex(address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "socket", FromThere)
    assert not ports.listening(port)
