import pytest
from planning_world import World


@pytest.fixture
def world() -> World:
    """A store in memory without indexes."""
    return World()
