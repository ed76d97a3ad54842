"""Conditions on many rows at once."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY


def among(column: Any, ids: Iterable[int]) -> sa.ColumnElement[bool]:
    """The column is one of these numbers: one parameter, where IN has one for each and a statement takes 65,535."""
    found: sa.ColumnElement[bool] = column == sa.any_(sa.cast(list(ids), ARRAY(sa.BigInteger)))
    return found
