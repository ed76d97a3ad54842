"""`vecfleet serve` as its own process, beside the fleet of a story."""

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.embedded.ports import free_port, listening
from tests.stories.world import World

START_S = 120.0  # takes 2 s; a loaded two-core machine may need this


@contextmanager
def served(world: World, port: int | None = None) -> Iterator[str]:
    """`vecfleet serve` over a world's job table, at this address."""
    port = port or free_port()
    log = world.folder / "serve.log"
    process = world.launch("serve", "orchestrator", "serve", "--port", str(port), log=log, env=world.env, port=port)
    try:
        process.wait_until(lambda: listening(port), START_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop(patience_s=10)
    assert "Traceback" not in log.read_text(), log.read_text()
