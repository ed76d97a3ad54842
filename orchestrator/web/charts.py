"""Figures over time as the points of a small drawing. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 72
_HEADROOM = 1.1  # a line along the upper edge reads as cut off


@dataclass(frozen=True, slots=True)
class Chart:
    """A line in a box of WIDTH × HEIGHT, with its words. `line` and `area` are SVG paths, empty without data.

    `now` is the last value in words, `top` the value of the upper edge, `since` when the line begins,
    `until` when it ends.
    """

    title: str
    now: str
    top: str
    since: str
    until: str
    line: str
    area: str
    tone: str

    @property
    def told(self) -> str:
        """Describe the chart for people who cannot see it."""
        return f"{self.title}: now {self.now}; the scale ends at {self.top}"


def path(values: Sequence[float], top: float) -> tuple[str, str]:
    """Draw the line through evenly spaced values between 0 and `top`, and the area under it."""
    if len(values) < 2 or top <= 0:
        return "", ""
    step = WIDTH / (len(values) - 1)
    points = [f"{n * step:.1f},{HEIGHT - min(value / top, 1.0) * HEIGHT:.1f}" for n, value in enumerate(values)]
    line = "M" + "L".join(points)
    return line, f"{line}L{WIDTH},{HEIGHT}L0,{HEIGHT}Z"


def scale(values: Sequence[float]) -> float:
    """Return a round number a little above the largest value."""
    largest = max(values, default=0.0) * _HEADROOM
    if largest <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= largest:
        power *= 10
    while power > largest:
        power /= 10
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= largest)
