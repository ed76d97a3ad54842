"""Named accounts of Pinecone beside the one of PINECONE_API_KEY, from a file that only its owner reads.

    [eu]                                     # used as pinecone@eu:INDEX
    api_key = "pcsk_…"
    project = "abc1234"                      # optional: the key of another project is refused
    controller_host = "https://…"            # optional: another control plane
    hosts = { brain = "brain-abc1234.svc.private.…" }   # optional: how to dial an index, beside its own host

No key is part of a plan or a job. Plans and jobs hold the account's name, and each working machine has its own file.
"""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter

from vecfleet.errors import BadInput
from vecfleet.names import meant
from vecfleet.private import read_private
from vecfleet.settings import Settings

PINECONE = "pinecone"
"""The store's name of the account of PINECONE_API_KEY."""
ACCOUNT = f"{PINECONE}@"
"""Begins the store's name of a named account."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def full_name(store: str, index: str) -> str:
    """Return the name of an index where accounts meet: routes, the job table's books, certificates.

    Two accounts may each have an index of one name. A named account's name stands before its own; other stores' do not.
    """
    return f"{store}:{index}" if store.startswith(ACCOUNT) else index


def bare_name(store: str, name: str) -> str:
    """Return the name that an index has in its own account, of its full name."""
    return name.removeprefix(f"{store}:") if store.startswith(ACCOUNT) else name


def located(text: str) -> tuple[str, str]:
    """Return the store's name and the index of INDEX or pinecone@NAME:INDEX. Raises BadInput for any other store."""
    store, _, index = text.rpartition(":")
    if not index or (store and store != PINECONE and not store.startswith(ACCOUNT)) or index.startswith(ACCOUNT):
        raise BadInput(
            f"{text!r} is not an index of Pinecone",
            next_step=f"name an INDEX, or {ACCOUNT}NAME:INDEX; `vecfleet plan stores` goes between stores",
        )
    return store or PINECONE, index


class Connection(BaseModel):
    """One account. Its key shows as stars."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    api_key: Annotated[SecretStr, Field(min_length=1)]
    project: str | None = None
    controller_host: str | None = None
    hosts: Mapping[str, str] = Field(default_factory=dict)

    def settings(self, settings: Settings) -> Settings:
        """Return the settings with this account in the place of the default one."""
        return settings.model_copy(
            update={
                "pinecone_api_key": self.api_key,
                "pinecone_project": self.project,
                "pinecone_controller_host": self.controller_host,
                "pinecone_index_name": None,
                "pinecone_host": None,
            }
        )


_FILE = TypeAdapter(dict[str, Connection])


def connections(settings: Settings) -> dict[str, Connection]:
    """Return the named accounts; none if no file is set. Raises BadInput, whose text never holds a key."""
    path = settings.pinecone_connections
    if path is None:
        return {}
    accounts = read_private(path, "PINECONE_CONNECTIONS", _FILE, "write it as docs/recipes/another-account.md shows")
    for name in accounts:
        if not _NAME.fullmatch(name):
            raise BadInput(f"{path}: {name!r} cannot be the name of an account", next_step="use a-z, 0-9, _ and -")
    return accounts


def connection(settings: Settings, name: str) -> Connection:
    """Return a named account. Raises BadInput, which names the accounts that exist."""
    accounts = connections(settings)
    if name not in accounts:
        path, step = settings.pinecone_connections, f"add [{name}] with its api_key to"
        known = ", ".join(f"{ACCOUNT}{other}" for other in sorted(accounts))
        near = meant(f"{ACCOUNT}{name}", (f"{ACCOUNT}{other}" for other in accounts))
        why = f"; there are: {known}{near}" if known else f": {path} names none"
        if path is None:
            why = ": PINECONE_CONNECTIONS is not set"
        where = path or "a file, set PINECONE_CONNECTIONS to its whole path, then start this again"
        raise BadInput(f"there is no account '{ACCOUNT}{name}' here{why}", next_step=f"{step} {where}")
    return accounts[name]
