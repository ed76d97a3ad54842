"""Files that a plan may name: under one folder, of a bounded size, and never executed."""

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from vecfleet.errors import BadInput, NotFound
from vecfleet.names import meant

# 1,000,000 ids or twins take about 40 MB as CSV.
MAX_FILE_BYTES = 256_000_000
# YAML is read whole into memory, where it takes about ten times its size.
MAX_YAML_BYTES = 64_000_000


def within(root: Path, name: str) -> Path:
    """Return the file of this name under `root`. Raises BadInput if the name leads out of the folder."""
    parts = PurePosixPath(name.replace("\\", "/"))
    path = (root / parts).resolve()
    if parts.is_absolute() or PureWindowsPath(name).drive or not path.is_relative_to(root.resolve()):
        raise BadInput(
            f"the file {name!r} is not under the folder for plan files",
            next_step="copy the file there, and name it relative to that folder",
        )
    if not path.is_file():
        beside = meant(path.name, (file.name for file in path.parent.glob("*")))
        raise NotFound(f"there is no file {name!r} under {root}{beside}", next_step="check the name")
    return path


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file in order. Raises BadInput if the file lacks one of these columns."""
    _refuse_over(path, MAX_FILE_BYTES)
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            present = rows.fieldnames or ()
            missing = [column for column in columns if column not in present]
            if missing:
                raise BadInput(
                    f"{path.name} has no column {', '.join(missing)}",
                    next_step=f"its first line must name the columns {','.join(columns)}",
                )
            for row in rows:
                if None in row or None in row.values():
                    raise BadInput(
                        f"{path.name}, line {rows.line_num}: it has another number of fields than the first line",
                        next_step="correct that line; a field that holds a comma stands in quotes",
                    )
                yield {column: value.strip() for column, value in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path.name} is not CSV in UTF-8: {error}", next_step="save it as CSV in UTF-8") from error


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file that are not empty, without their ends. An id may begin or end with a space."""
    _refuse_over(path, MAX_FILE_BYTES)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for line in lines:
                text = line.rstrip("\r\n")
                if text:
                    yield text
    except UnicodeDecodeError as error:
        raise BadInput(f"{path.name} is not text in UTF-8: {error}", next_step="save it as text in UTF-8") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file. Raises BadInput if it is too large or is not YAML."""
    _refuse_over(path, MAX_YAML_BYTES)
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path.name} is not YAML: {str(error).splitlines()[0]}",
            next_step="correct it; a name with `: ` or `#` in it stands in quotes",
        ) from error


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read CSV with these columns, or a YAML list of such mappings. A missing field is empty."""
    if not is_yaml(path):
        return list(read_rows(path, columns))
    body = read_yaml(path)
    if not isinstance(body, list) or not all(isinstance(line, dict) and {*line} <= {*columns} for line in body):
        raise BadInput(
            f"{path.name} must be a list of {{{', '.join(columns)}}}",
            next_step=f"write each line so: - {{{', '.join(f'{column}: …' for column in columns)}}}",
        )
    return [{column: str(given) for column in columns if (given := line.get(column)) is not None} for line in body]


def is_yaml(path: Path) -> bool:
    return path.suffix.lower() in {".yaml", ".yml"}


def _refuse_over(path: Path, limit: int) -> None:
    size = path.stat().st_size
    if size > limit:
        raise BadInput(
            f"{path.name} has {size:,} bytes; at most {limit:,} are read",
            next_step="split the file, and plan each part by itself",
        )
