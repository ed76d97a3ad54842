"""Files under names that a person typed: an older one stays whole until the new one is certain to take its place."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from vecfleet.errors import BadInput


class Draft:
    """A new file beside the one that it is to replace. `path`: where to write.

    What is written there is seen under the name from `publish` on, and each later line at once. Left before that, or
    dead: the older file is as it was. A name of no plain file, as /dev/stdout, is written to directly.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadInput if nothing can be written under this name."""
        place = path.resolve()  # a link stays one
        self.path, self._place = place, place
        self._named = path
        with _writable(path):
            if place.is_file() or not place.exists():
                self.path = place.with_name(f".{place.name}.{os.getpid()}.unfinished")
                self.path.open("w").close()
                if place.exists():
                    shutil.copymode(place, self.path)
            else:
                place.open("ab").close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path != self._place:
            self.path.unlink(missing_ok=True)

    def publish(self) -> None:
        """Let the draft take the name. Safe to repeat."""
        with _writable(self._named):
            if self.path != self._place:
                self.path.replace(self._place)
                self.path = self._place


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}", next_step="name another file") from error
