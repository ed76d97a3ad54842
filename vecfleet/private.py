"""Files that only their owner reads, whatever the umask."""

import os
from pathlib import Path


def write_private(path: Path, content: bytes | str) -> None:
    """Write `content` under this name, all of it; if this dies, the old content stays. Safe to repeat."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    unfinished.replace(path)
