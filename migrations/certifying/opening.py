"""Opens scratch indexes to ask in them: each is made, and deleted in the end whatever happens meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from migrations.certifying import converting
from migrations.certifying.metering import Meter
from migrations.certifying.question import Asker, Scratch
from migrations.certifying.runs import Run, Runs
from migrations.certifying.scratch import convert, create, remove
from migrations.certifying.wire import Wire
from vecfleet.errors import BadInput, BadRequest, Missing, NeedsOperator, Refused, StoreError
from vecfleet.patience import patiently
from vecfleet.stores.base import IndexInfo
from vecfleet.stores.pinecone.clients import rest_client
from vecfleet.stores.pinecone.store import PineconeStore

T = TypeVar("T")

# After any other error the index may come to be there: also one that exists already, because no other run has its name.
_REFUSALS = (BadRequest, Missing, NeedsOperator)


@dataclass(frozen=True, slots=True)
class Opening:
    """The scratch indexes of a run. `left`: the names of those that are, or may come to be, there."""

    store: PineconeStore
    run: Run
    runs: Runs
    meter: Meter
    left: set[str]

    @contextmanager
    def opened(self, scratch: Scratch) -> Iterator[Asker]:
        """Make the index, and open it. Raises StoreError, NotShown or BadInput if that cannot be."""
        made = self._converted() if scratch is Scratch.CONVERTED else self._created(scratch)
        with made as info, rest_client(self.store.host(info), self.store.settings) as http:
            yield self._asker(info, Wire(http, self.meter))

    @contextmanager
    def _created(self, scratch: Scratch) -> Iterator[IndexInfo]:
        with self._deleted_again(scratch, lambda: create(self.store, self.run, scratch)) as info:
            self.runs.note(self.run.model_copy(update={"project": info.project}))
            yield info

    @contextmanager
    def _converted(self) -> Iterator[IndexInfo]:
        """Have the service make the index of another scratch index, which stays until this one is gone."""
        with self.opened(Scratch.CONVERTIBLE) as source:
            converting.fill(source)
            self.meter.unpriced.append(converting.UNPRICED)
            with self._deleted_again(Scratch.CONVERTED, lambda: convert(self.store, self.run)) as begun:
                converting.finish(self.store, begun)
                yield patiently(lambda: self.store.describe(begun.target))

    @contextmanager
    def _deleted_again(self, scratch: Scratch, make: Callable[[], T]) -> Iterator[T]:
        """Make an index, and delete it in the end; if it cannot be deleted, the run's file goes on to name it."""
        name = self.run.name_of(scratch)
        self.left.add(name)
        try:
            made = make()
        except BadInput:
            self.left.discard(name)
            raise
        except StoreError as error:
            with suppress(StoreError, Refused):
                if remove(self.store, self.run, name) or isinstance(error, _REFUSALS):
                    self.left.discard(name)
            raise
        try:
            yield made
        finally:
            with suppress(StoreError, Refused):
                remove(self.store, self.run, name)
                self.left.discard(name)

    def _asker(self, info: IndexInfo, wire: Wire) -> Asker:
        settings = self.store.settings
        lanes = {
            transport: PineconeStore(
                settings.model_copy(update={"pinecone_transport": transport}), self.store.name
            ).open(info)
            for transport in ("grpc", "rest")
        }
        return Asker(info, wire, lanes, self.meter, settings.freshness_wait_seconds)
