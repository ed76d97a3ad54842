"""Rows of a look-up, as text: the answers of an application's database about ownership."""

from typing import NamedTuple


class TwinRow(NamedTuple):
    """A twin; `creator` and `name` are empty if the row has none."""

    id: str
    creator: str
    name: str


class SourceRow(NamedTuple):
    """A source (such as a document), and the id of its twin (empty if the row has none)."""

    id: str
    twin: str
