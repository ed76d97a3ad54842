"""A maintenance window: the hours of each day in which alone a job's batches begin."""

import re
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vecfleet.errors import BadInput

_TIME = r"([01]\d|2[0-3]):[0-5]\d"
_HOURS = re.compile(rf"(?P<opens>{_TIME})-(?P<closes>{_TIME})")


class Window(BaseModel):
    """The hours from `opens` until `closes` by the clock of `zone`. One that closes before it opens ends the next day.

    Its text is `01:00-04:00 Europe/Berlin`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    opens: str = Field(pattern=f"^{_TIME}$")
    closes: str = Field(pattern=f"^{_TIME}$")
    zone: str

    @classmethod
    def read(cls, typed: str, zone: str) -> Self:
        """Read hours as a person types them. Raises BadInput."""
        match = _HOURS.fullmatch(typed)
        if match is None:
            raise BadInput(f"{typed!r} is not a window", next_step="write from when until when: --window 01:00-04:00")
        if match["opens"] == match["closes"]:
            raise BadInput(
                f"a window from {match['opens']} until {match['closes']} has no hours",
                next_step="leave it out for all hours, or write it as --window 01:00-04:00",
            )
        if not _is_known(zone):
            raise BadInput(
                f"there is no time zone {zone!r}",
                next_step="name one as in the tz database: Europe/Berlin, America/New_York, UTC",
            )
        return cls(opens=match["opens"], closes=match["closes"], zone=zone)

    @model_validator(mode="after")
    def _has_hours(self) -> Self:
        if self.opens == self.closes:
            raise ValueError("a window that closes when it opens has no hours")
        if not _is_known(self.zone):
            raise ValueError(f"this machine knows no time zone {self.zone!r}")
        return self

    def __str__(self) -> str:
        return f"{self.opens}-{self.closes} {self.zone}"


def _is_known(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return False
    return True
