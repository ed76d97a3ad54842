"""Files that only their owner reads, whatever the umask."""

import os
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from vecfleet.errors import BadInput

_OTHERS = 0o077  # every right of the group and of others
_COMPLAINTS = 5

Content = TypeVar("Content")


def write_private(path: Path, content: bytes | str) -> None:
    """Write `content` under this name, all of it; if this dies, the old content stays. Safe to repeat."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    unfinished.replace(path)


def read_private(path: Path, setting: str, content: TypeAdapter[Content], remedy: str) -> Content:
    """Return what stands in a file of TOML that holds keys. Raises BadInput, which never holds one.

    A file that others than its owner may read or change is refused. `setting` names the file.
    """
    try:
        if path.stat().st_mode & _OTHERS:
            raise BadInput(
                f"{path} holds keys, and others than its owner may read or change it", next_step=f"chmod 600 {path}"
            )
        return content.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        said = f"{path} of {setting} cannot be read: {error.strerror}"
        raise BadInput(said, next_step=remedy) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not TOML", next_step=remedy) from error
    except ValidationError as error:
        shown = error.errors()[:_COMPLAINTS]
        said = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in shown)
        raise BadInput(f"{path} cannot be used: {said}", next_step=remedy) from error
