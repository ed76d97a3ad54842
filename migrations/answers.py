"""The rows of a look-up, as text: what an application's database says about ownership."""

from typing import NamedTuple


class TwinRow(NamedTuple):
    """A twin; `creator` and `name` are empty where the row has none."""

    id: str
    creator: str
    name: str


class SourceRow(NamedTuple):
    """A source (a document, say), and the id of the twin it belongs to (empty where the row has none)."""

    id: str
    twin: str
