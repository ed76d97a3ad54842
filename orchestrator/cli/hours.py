"""The options of a maintenance window, for every recipe."""

from dataclasses import dataclass
from typing import Annotated

import typer

from migrations.window import Window
from vecfleet.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursOptions:
    """The hours in which alone a job's batches begin."""

    window: Annotated[
        str | None,
        typer.Option(metavar="HH:MM-HH:MM", help="Batches begin only in these hours of the day, also past midnight."),
    ] = None
    zone: Annotated[str, typer.Option(help="The time zone of --window, such as Europe/Berlin.")] = "UTC"

    def hours(self) -> Window | None:
        """Return the window of the plan's policies. Raises BadInput."""
        if self.window is None:
            if self.zone != "UTC":
                raise BadInput(
                    f"--zone {self.zone} needs a window, and none is given",
                    next_step="give one, as in --window 01:00-04:00 --zone Europe/Berlin",
                )
            return None
        return Window.read(self.window, self.zone)
