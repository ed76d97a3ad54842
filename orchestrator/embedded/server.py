"""The common part of the private Postgres and the private Redis: a folder, a password, a port, a start and a stop."""

import importlib.util
import os
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

from orchestrator.embedded.ports import claim_port, forget_port, remembered_port
from orchestrator.embedded.process import DidNotStart, Process

START_TRIES = 15
PAUSE_S = 1.0
"""Seconds between tries: another program took the port, or a killed server's last process is still ending."""

PORT_TAKEN = "Address already in use"

PASSWORD_BYTES = 24
"""192 random bits, in characters that need no quoting in a URL or a configuration file."""

MACHINE = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Variables that tell of this machine, and hold no key."""


def environment() -> dict[str, str]:
    """Return the part of our environment that a server needs. No key: another account can read its environment."""
    return {name: os.environ[name] for name in MACHINE if name in os.environ}


class Server(ABC):
    """One server with one state folder: `with Postgres(folder) as pg: pg.url`.

    Safe to start again on the same folder, whatever killed the last one: the data, the password and, if still free,
    the port stay the same. With `durable=False` it is faster, and leaving the `with` block erases its files.
    """

    name: ClassVar[str]
    wheel: ClassVar[str]
    variable: ClassVar[str]
    """The environment variable that names a server of the user's own, used instead of this one."""
    passing: ClassVar[tuple[str, ...]] = (PORT_TAKEN,)
    """Words in its log that mean another try may help."""
    start_s: ClassVar[float]
    stop_s: ClassVar[float]

    def __init__(self, state_dir: Path, *, durable: bool = True) -> None:
        self.state_dir = state_dir.absolute()
        self.durable = durable
        self.place = self.state_dir / self.name
        self.log = self.state_dir / "logs" / f"{self.name}.log"
        self.port: int | None = None
        self.process: Process | None = None

    @property
    def home(self) -> Path:
        """Return the real folder of its files: `place` may be a link that another account cannot follow."""
        return self.place.resolve()

    @property
    @abstractmethod
    def url(self) -> str:
        """Return the address with all rights, password included."""

    @property
    def client_url(self) -> str:
        """Return the address for clients, password included."""
        return self.url

    def last_url(self) -> str | None:
        """Return the address of its last start, whether it runs or not. None where it never ran here, or was erased."""
        self.port = remembered_port(self.state_dir, self.name)
        try:
            return self.url if self.port and (self.home / "password").exists() else None
        except OSError:  # another account's folder, so the server is not ours to start
            return None

    def start(self, launched: Callable[[Process], object] = lambda _: None) -> Self:
        """Return when it is ready to be used. `launched` gets each process at once, before it is ready."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self._make_home()
        self._prepare()
        for _ in range(START_TRIES):
            self.port = claim_port(self.state_dir, self.name)
            self.process = self._launch()
            launched(self.process)
            try:
                self.process.wait_until(self._answers, self.start_s)
            except DidNotStart as failure:
                self.stop()
                if not any(reason in failure.message for reason in self.passing):
                    raise
                if PORT_TAKEN in failure.message:
                    forget_port(self.state_dir, self.name)
                time.sleep(PAUSE_S)
            else:
                return self
        raise DidNotStart(
            f"{self.name} did not start in {START_TRIES} tries; its log is {self.log}.",
            next_step="fix what its log says, then run it again",
        )

    def stop(self) -> None:
        """Return when it is gone. Everything that it confirmed as saved to clients stays saved."""
        if self.process is not None:
            self.process.stop(self.stop_s)
            self.process = None

    def erase(self) -> None:
        """Remove all its files; it must be stopped."""
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        if not self.durable:
            self.erase()

    @abstractmethod
    def _make_home(self) -> None: ...

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _launch(self) -> Process: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def _password(self) -> str:
        """Return the password, made at first use; it is complete in its file or absent."""
        place = self.home / "password"
        if not place.exists():
            unfinished = self.home / "password.unfinished"
            unfinished.touch(mode=0o600)
            unfinished.write_text(secrets.token_urlsafe(PASSWORD_BYTES))
            unfinished.rename(place)
        return place.read_text()

    @classmethod
    def _wheel_folder(cls) -> Path:
        """Return the folder of the installed wheel, found without running its code."""
        spec = importlib.util.find_spec(cls.wheel)
        if spec is None or spec.origin is None:
            raise DidNotStart(
                f"The private {cls.name} server is not installed here.",
                next_step=f"run `make setup`, or set {cls.variable} to a server of your own",
            )
        return Path(spec.origin).parent
