"""Files that only their owner reads, whatever the umask says."""

import os
from pathlib import Path


def write_private(path: Path, content: bytes | str) -> None:
    """Put `content` under this name: all of it or, if this dies, what was there before. Safe to repeat."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    unfinished.replace(path)
