"""The folders under one root that have an `_index.json`, which describes their records."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from vecfleet.digests import DIGEST_VERSION
from vecfleet.errors import BadInput, Conflict, Missing, WrongKind
from vecfleet.names import meant
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.documents import Layout
from vecfleet.stores.parquet import files
from vecfleet.stores.parquet.folders import DRAFT, INDEX_FILE, host_of, index_path, is_index_name
from vecfleet.stores.parquet.index import ParquetIndex
from vecfleet.stores.rules import DOCUMENTS_REMEDY

# 1: folders `namespace=…`, digests in a column; 3: JSON lines, which who knows only 2 would not see. Before 3, document
# indexes were exported as Parquet too.
FORMAT, LINES_FORMAT = 2, 3
_TABLES = {1, FORMAT}
_HANDED_OUT = "handed_out"


class ParquetStore:
    """Indexes as folders of files. Names are relative to the root: one folder, or one in another."""

    name = "parquet"

    def __init__(self, root: Path) -> None:
        self._root = root

    def indexes(self) -> list[IndexInfo]:
        return [self.describe(name) for name in self.names() if is_index_name(name)]

    def names(self) -> list[str]:
        """Return all folders with the description of an index, also those that `describe` refuses or cannot read."""
        with files.translated(f"list the folders under {self._root}"):
            index_files = [file for depth in ("*", "*/*") for file in self._root.glob(f"{depth}/{INDEX_FILE}")]
        folders = [file.parent for file in index_files if not file.parent.name.startswith(DRAFT)]
        return sorted(folder.relative_to(self._root).as_posix() for folder in folders)

    def is_handed_out(self, index: str) -> bool:
        """Say whether `hand_out` made this folder; False if there is none. Raises BadInput if it cannot be read."""
        try:
            return _is_handed_out(self._description_of(index))
        except Missing:
            return False

    def describe(self, index: str) -> IndexInfo:
        """Return the index's description. Raises Missing without such a folder, BadInput if it cannot be read."""
        return _info(index, self._description_of(index))

    def _description_of(self, index: str) -> bytes:
        file = index_path(self._root, index) / INDEX_FILE
        try:
            with files.translated(f"read the description of {index!r}"):
                return file.read_bytes()
        except files.Replaced:
            existing = self.names()
            raise Missing(
                f"there is no folder {index!r} with an {INDEX_FILE}; there are: {', '.join(existing) or 'none'}"
                + meant(index, existing),
                next_step="name one of them, as it stands under VECFLEET_ROOT",
            ) from None

    def create_like(self, name: str, source: IndexInfo, cloud: str | None, region: str | None) -> IndexInfo:
        """Create an index like the source, and record where the source lives: an import creates its index there."""
        return self._create(name, source, cloud, region, {})

    def hand_out(self, name: str, source: IndexInfo) -> IndexInfo:
        """Create a folder for a tenant's export before its erasure: it is the tenant's, and no erasure looks there.

        The folder is marked from its first moment on: a later erasure would otherwise delete the only copy.
        """
        return self._create(name, source, None, None, {_HANDED_OUT: True})

    def _create(
        self, name: str, source: IndexInfo, cloud: str | None, region: str | None, more: Mapping[str, Any]
    ) -> IndexInfo:
        if source.kind is Kind.DOCUMENT:
            raise WrongKind(
                f"the index {source.name!r} holds documents, which cannot be read back unchanged",
                next_step=DOCUMENTS_REMEDY,
            )
        kind = Kind.DENSE if source.kind is Kind.POD else source.kind
        info = replace(source, name=name, kind=kind, host=host_of(name), ready=True, names={})
        info = replace(info, cloud=cloud or source.cloud, region=region or source.region)
        with files.translated(f"create the folder {name!r}"):
            created = files.create_folder(index_path(self._root, name), INDEX_FILE, {**_description(info), **more})
        if not created:
            raise Conflict(f"the folder {name!r} exists and is not empty", next_step="name another folder")
        return info

    def open(self, info: IndexInfo) -> ParquetIndex:
        layout = Layout.of(info)
        if layout is not None and _format_of(self._description_of(info.name)) in _TABLES:
            layout = None
        return ParquetIndex(info, index_path(self._root, info.name), layout)


def _is_handed_out(text: bytes) -> bool:
    try:
        return orjson.loads(text).get(_HANDED_OUT) is True
    except (ValueError, AttributeError):
        return False  # damaged: opening it raises an error


def _format_of(text: bytes) -> object:
    try:
        return orjson.loads(text).get("format")
    except (ValueError, AttributeError):
        return None  # damaged: describing it raises an error


def _description(info: IndexInfo) -> dict[str, Any]:
    return {
        "format": FORMAT if Layout.of(info) is None else LINES_FORMAT,
        "digest_version": DIGEST_VERSION,
        "kind": info.kind.value,
        "dimension": info.dimension,
        "metric": info.metric,
        "cloud": info.cloud,
        "region": info.region,
        "tags": dict(info.tags),
        "schema": dict(info.schema),
    }


def _info(name: str, text: bytes) -> IndexInfo:
    try:
        body: Mapping[str, Any] = orjson.loads(text)
        form, digest_version = body["format"], body["digest_version"]
        described = {key: body[key] for key in ("dimension", "metric", "cloud", "region", "tags", "schema")}
        info = IndexInfo(name=name, kind=Kind(body["kind"]), host=host_of(name), **described)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"the {INDEX_FILE} of {name!r} does not describe an index", next_step="export again") from error
    read = _TABLES if Layout.of(info) is None else {*_TABLES, LINES_FORMAT}
    if form not in read or digest_version != DIGEST_VERSION:
        raise BadInput(
            f"the folder {name!r} was written by another version of vecfleet", next_step="import it with that version"
        )
    return info
