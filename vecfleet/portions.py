"""Many things in portions, each within a number and a size: a request holds so many, and so much."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

K = TypeVar("K")


def portions(sizes: Mapping[K, float], most: int, room: float) -> Iterator[list[K]]:
    """Yield the keys in their order, in portions within both limits. One that alone exceeds the room stands alone."""
    portion: list[K] = []
    filled = 0.0
    for key, size in sizes.items():
        if portion and (len(portion) >= most or filled + size > room):
            yield portion
            portion, filled = [], 0.0
        portion.append(key)
        filled += size
    if portion:
        yield portion
