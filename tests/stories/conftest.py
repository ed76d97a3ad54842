"""The fixture of every story: a world of its own, gone when the story ends."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.stories.emulated import Emulator
from tests.stories.launching import Launch, warm
from tests.stories.world import OpenWorld, World


@pytest.fixture
def open_world(fleet_database_url: str, redis_url: str, tmp_path: Path) -> Iterator[OpenWorld]:
    """`open_world(*options of the emulator, **settings)`: nothing is started yet but the emulator.

    Every process connects as the role that `vecfleet up` gives it, which may not change the job table's shape.
    """
    with ExitStack() as ending:

        def make(
            *options: str,
            database_url: str = fleet_database_url,
            redis_url: str = redis_url,
            launch: Launch = warm,
            **settings: float | str,
        ) -> World:
            emulator = Emulator(tmp_path, *options, launch=launch)
            world = World(tmp_path, emulator, database_url, redis_url, launch, **settings)
            ending.callback(world.close)
            return world

        yield make


@pytest.fixture
def seeds(open_world: OpenWorld) -> World:
    """The first user's index: 805 records of 3,072 dimensions in 30 namespaces."""
    return open_world("--load", "seeds")
