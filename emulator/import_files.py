"""The files of a bulk import, one folder a namespace: where they are, and what must be known of a format."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from emulator.errors import invalid
from emulator.index import Index
from emulator.records import Record

FILES_PER_IMPORT = 100_000
NAMESPACES_PER_IMPORT = 10_000
BATCH_ROWS = 1_000  # rows that land together


@dataclass(frozen=True)
class Format:
    """A kind of file: what it is called, how its names end, and how its rows are counted, read and understood."""

    name: str
    endings: tuple[str, ...]
    count_rows: Callable[[Index, Path], int]
    read_batches: Callable[[Path], Iterator[list[Any]]]
    read_row: Callable[[Index, Any], Record]  # raises the `Refusal` that an upsert of the row would get


class ImportFailed(Exception):
    """Ends an import; its text becomes the import's `error`."""


@dataclass(frozen=True)
class Sources:
    """The objects of URIs on this machine."""

    buckets: Path | None  # holds a folder for each bucket; None: `file://` URIs only

    def folder(self, uri: str, cloud: object) -> Path:
        """Return the folder that a URI names, which need not exist; `cloud` is the index's."""
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise invalid(f"uri cannot be read: {error}") from None
        path = unquote(parts.path).strip("/")
        if "\0" in path:
            raise invalid("uri may not contain a NUL")
        match parts.scheme, parts.netloc:
            case "file", "" | "localhost":
                return Path("/") / path
            case "s3", bucket if bucket and cloud != "aws":
                raise invalid("An index that is not hosted on AWS cannot import from Amazon S3")
            case "s3" | "gs", bucket if bucket:
                path = f"{bucket}/{path}"
            case "https", host if host.endswith(".blob.core.windows.net") and path:
                pass  # the path begins with the container
            case _:
                raise invalid(
                    "uri must be s3://BUCKET/DIR, gs://BUCKET/DIR, https://ACCOUNT.blob.core.windows.net/CONTAINER/DIR "
                    f"or, here, file:///DIR; got '{uri[:200]}'"
                )
        if self.buckets is None:
            raise invalid("This emulator has no buckets: start it with --imports DIR, or import from file:///DIR")
        folder = (self.buckets / path).resolve()
        if not folder.is_relative_to(self.buckets.resolve()):
            raise invalid(f"uri leaves its bucket: '{uri[:200]}'")
        return folder


def find_files(folder: Path, form: Format) -> list[tuple[str, Path]]:
    """Return each file of the format with its namespace; an import ignores other files."""
    files = [
        (path.relative_to(folder).parts[0], path)
        for path in sorted(folder.rglob("*"))
        if path.name.endswith(form.endings) and path.parent != folder and path.is_file()
    ]
    if not files:
        raise ImportFailed(f"No {form.name} files were found; each namespace needs a folder of its own under the URI")
    if len(files) > FILES_PER_IMPORT or len({namespace for namespace, _ in files}) > NAMESPACES_PER_IMPORT:
        raise ImportFailed(
            f"An import may have at most {FILES_PER_IMPORT} files and {NAMESPACES_PER_IMPORT} namespaces"
        )
    return files


def name_file(path: Path) -> str:
    """Name a file for messages: with its folder."""
    return f"{path.parent.name}/{path.name}"


def unreadable(path: Path, form: str, error: Exception) -> ImportFailed:
    return ImportFailed(f"{name_file(path)} is not a readable {form} file: {error}")
