"""Count the statements that the fleet asks Postgres while something is done, by the server's own log.

`BEGIN` and `COMMIT` are statements too. A session is told by its process, and that by the port of its connection.
"""

import re
from collections import Counter
from collections.abc import Callable

import sqlalchemy as sa

from benchmarks.fleet import Running

ROLES = ("worker", "dispatcher")
_ASKED = re.compile(rb"\[(\d+)\] LOG:  (?:statement|execute)\b")
_SESSIONS = "SELECT pid, client_port FROM pg_stat_activity WHERE client_port IS NOT NULL"


def counted(fleet: Running, act: Callable[[], object]) -> dict[str, int]:
    """Return how many statements each role asked meanwhile. The sessions that remain count: the fleet keeps its own."""
    log = fleet.state_dir / "logs" / "postgres.log"
    _set(fleet, "ALTER SYSTEM SET log_statement = 'all'")
    before = log.stat().st_size
    try:
        act()
        roles = _roles(fleet)
    finally:
        _set(fleet, "ALTER SYSTEM RESET log_statement")
    with log.open("rb") as file:
        file.seek(before)
        asked = Counter(int(found[1]) for line in file if (found := _ASKED.search(line)))
    return {role: sum(asked[pid] for pid, whose in roles.items() if whose == role) for role in ROLES}


def _set(fleet: Running, statement: str) -> None:
    with _administrator(fleet) as connection:
        connection.execute(sa.text(statement))
        connection.execute(sa.text("SELECT pg_reload_conf()"))


def _roles(fleet: Running) -> dict[int, str]:
    """The role of each process of Postgres that serves the fleet."""
    ports = {
        connection.laddr.port: role
        for role in ROLES
        for process in fleet.processes(role)
        for connection in process.net_connections("tcp4")
    }
    with _administrator(fleet) as connection:
        sessions = connection.execute(sa.text(_SESSIONS)).all()
    return {pid: ports[port] for pid, port in sessions if port in ports}


def _administrator(fleet: Running) -> sa.Connection:
    engine = sa.create_engine(fleet.administrator_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    return engine.connect()
