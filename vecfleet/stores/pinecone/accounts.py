"""The accounts of Pinecone by name: that of PINECONE_API_KEY, and those of the file of PINECONE_CONNECTIONS."""

from collections.abc import Iterable
from dataclasses import replace

from vecfleet.connections import ACCOUNT, PINECONE, connection, full_name, located
from vecfleet.patience import patiently
from vecfleet.settings import Settings
from vecfleet.stores.pinecone.document_index import DocumentIndex
from vecfleet.stores.pinecone.index import PineconeIndex
from vecfleet.stores.pinecone.store import PineconeStore


class Accounts:
    """Makes each account's store once, when it is first asked for; nothing is sent, and no file read, before."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stores: dict[str, PineconeStore] = {}

    def store(self, name: str) -> PineconeStore:
        """Return the store of `pinecone` or `pinecone@NAME`. Raises BadInput for an account that is not in the file."""
        if name not in self._stores:
            self._stores[name] = self._made(name)
        return self._stores[name]

    def located(self, text: str) -> tuple[PineconeStore, str]:
        """Return account and index of INDEX or pinecone@NAME:INDEX. Raises BadInput for any other store."""
        name, index = located(text)
        return self.store(name), index

    def account(self, text: str | None) -> tuple[PineconeStore, str | None]:
        """Return what `located` does; of pinecone@NAME alone, or of nothing, the account as a whole."""
        if text is None or (text.startswith(ACCOUNT) and ":" not in text):
            return self.store(text or PINECONE), None
        return self.located(text)

    def open(self, text: str, names: Iterable[tuple[str, str]] = ()) -> PineconeIndex | DocumentIndex:
        """Open INDEX or pinecone@NAME:INDEX. Its description bears the name that tells accounts apart.

        `names`: metadata keys with the names of their fields in documents, where these are others.
        """
        store, name = self.located(text)
        index = store.open(replace(store.describe(name), names=dict(names)))
        index.info = replace(index.info, name=full_name(store.name, name))
        return index

    def existing(self, names: Iterable[str]) -> set[str]:
        """Return the full names of those indexes that exist. Raises BadInput for an account that is not in the file."""
        wanted = set(map(located, names))
        accounts = {store for store, _ in wanted}
        there = {(store, info.name) for store in accounts for info in patiently(self.store(store).indexes)}
        return {full_name(*place) for place in wanted & there}

    def _made(self, name: str) -> PineconeStore:
        if name == PINECONE:
            return PineconeStore(self._settings)
        account = connection(self._settings, name.removeprefix(ACCOUNT))
        return PineconeStore(account.settings(self._settings), name, account.hosts)
