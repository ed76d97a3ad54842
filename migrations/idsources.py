"""Ids from a file, for a store that cannot list them (pods): CSV `namespace,id`, or one id a line for one namespace."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migrations.files import read_lines, read_rows, within
from vecfleet import names
from vecfleet.errors import BadInput

COLUMNS = ("namespace", "id")


@dataclass(frozen=True, slots=True)
class IdSources:
    """The file under `root` with the ids of each namespace (canonical), and its number of different ids."""

    root: Path
    files: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def ids(self, namespace: str) -> list[str]:
        """Return the ids of one namespace, each once, in byte order."""
        return sorted(set(read_ids(self.root, self.files[namespace], namespace)))


def find_ids(root: Path, given: Sequence[str]) -> IdSources:
    """Read `--ids FILE` (CSV with the columns namespace,id) and `--ids NAMESPACE=FILE` (one id a line).

    Raises BadInput if a file cannot be used, or if two files give ids of one namespace.
    """
    sources = IdSources(root)
    for option in given:
        namespace, is_single, file = option.partition("=")
        counts = (
            {names.canonical(namespace): len(set(read_lines(within(root, file))))}
            if is_single
            else _count(root, option)
        )
        for name, count in counts.items():
            if name in sources.files:
                raise BadInput(f"two files give ids of the namespace {name!r}", next_step="name one of them only")
            sources.files[name] = file if is_single else option
            sources.counts[name] = count
    return sources


def count_ids(root: Path, files: Mapping[str, str]) -> IdSources:
    """Return the id sources of a plan, which names a file for each namespace. Raises BadInput, NotFound."""
    tables = {file: _count(root, file) for file in set(files.values()) if _is_table(within(root, file))}
    counts = {
        name: tables[file].get(name, 0) if file in tables else len(set(read_lines(within(root, file))))
        for name, file in files.items()
    }
    return IdSources(root, dict(files), counts)


def read_ids(root: Path, file: str, namespace: str) -> Iterator[str]:
    """Yield the ids that the file gives for the namespace, unchanged. Raises BadInput, NotFound."""
    path = within(root, file)
    if not _is_table(path):
        yield from read_lines(path)
        return
    for row in read_rows(path, COLUMNS):
        if names.canonical(row["namespace"]) == namespace and row["id"]:
            yield row["id"]


def _count(root: Path, file: str) -> dict[str, int]:
    ids_by_name: dict[str, set[str]] = defaultdict(set)
    for row in read_rows(within(root, file), COLUMNS):
        if row["id"]:
            ids_by_name[names.canonical(row["namespace"])].add(row["id"])
    return {name: len(ids) for name, ids in ids_by_name.items()}


def _is_table(path: Path) -> bool:
    first = next(read_lines(path), "")
    return {column.strip() for column in first.split(",")} >= set(COLUMNS)
