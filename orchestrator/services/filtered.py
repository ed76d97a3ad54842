"""Delete the records of one tenant that a metadata filter matches: what `vecfleet delete` does, by the tenants' client.

The routes come from the job table itself. Each look at them is on record as a client's: a job that freezes its sources
waits until no deletion can rest on routes of before it.
"""

import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any

from orchestrator.bootstrap import Fleet
from orchestrator.ledger import audit, clients, route_table
from orchestrator.ledger.database import Database
from vecfleet.filters import keys_of
from vecfleet.names import Tenant
from vecfleet.tenancy.client import PineconeDelphiClient
from vecfleet.tenancy.filtered import Filtered
from vecfleet.tenancy.providers import CachedRoutes
from vecfleet.tenancy.rollout import Rollout
from vecfleet.tenancy.routes import write_table


class _Routes:
    """The routes as the job table has them now."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._name = f"{socket.gethostname()[:60]}/{os.getpid()}/{secrets.token_hex(4)}"

    def read(self) -> bytes:
        with self._database.begin() as connection:
            clients.note(connection, self._name, clients.COMMAND, freezes=True)
        with self._database.begin() as connection:
            return write_table(route_table.read(connection))


class FilteredDeletion:
    """One deletion of a tenant's records by a filter. A tenant without a route has its own namespace."""

    def __init__(self, parts: Fleet, index: str, tenant: Tenant, filter: Mapping[str, Any], who: str) -> None:
        settings = parts.settings
        routes = CachedRoutes(_Routes(parts.database), settings.routes_cache_seconds, settings.routes_stale_seconds)
        self._client = PineconeDelphiClient(index, settings=settings, rollout=Rollout(routes, flag=True))
        self._database, self._filter, self._who = parts.database, filter, who
        self._named = (tenant.creator, tenant.twin)

    def settle(self) -> None:
        """Bring to the other side of dual routes what earlier deletions on this machine owe it. Safe to repeat."""
        self._client.replay()

    def look(self) -> Filtered:
        """Count what matches. Changes nothing, and is refused where a deletion would be."""
        return self._client.delete_by_filter(self._filter, *self._named, dry_run=True)

    def delete(self, shown: Filtered) -> Filtered:
        """Delete what matches, at most as many as were shown.

        The intent is on record before the first deletion, without the filter's values. Dies in between: the same again
        deletes the rest.
        """
        self._note("delete by filter", matched=shown.matched)
        done = self._client.delete_by_filter(self._filter, *self._named, at_most=shown.matched)
        self._note("deleted by filter", deleted=done.deleted)
        return done

    def owed(self) -> int:
        """Return of how many records the other sides of dual routes are still to hear."""
        return self._client.journal.count()

    def _note(self, action: str, **count: int) -> None:
        creator, twin = self._named
        index, keys = self._client.index_name, keys_of(self._filter)
        with self._database.begin() as connection:
            audit.note(connection, self._who, action, None, index=index, creator=creator, twin=twin, keys=keys, **count)
