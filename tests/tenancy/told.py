"""A provider of routes, a clock, and either client: all at a test's command."""

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

from vecfleet.errors import Unreachable
from vecfleet.tenancy import DelphiPineconeClient, PineconeDelphiClient, Rollout
from vecfleet.tenancy.fences import Books


class Told:
    """A provider whose answers are set by the test; `table` None: nobody answers."""

    def __init__(self, **table: Any) -> None:
        self.table: dict[str, Any] | None = table
        self.asked = 0
        self.meanwhile: Callable[[], object] = lambda: None
        """Do what happens between the question and the answer."""

    def read(self) -> bytes | None:
        self.asked += 1
        self.meanwhile()
        if self.table is None:
            raise Unreachable("nobody answers")
        return json.dumps(self.table).encode()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class InCoroutines:
    """The client for coroutines, called as the one for threads is."""

    def __init__(self, index: str, rollout: Rollout | None = None, books: Books | None = None) -> None:
        self._index, self._rollout, self._books = index, rollout, books

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            async def ask() -> Any:
                async with DelphiPineconeClient(self._index, rollout=self._rollout, books=self._books) as client:
                    found = getattr(client, name)(*args, **kwargs)
                    return await found if inspect.isawaitable(found) else found

            return asyncio.run(ask())

        return call


Client = PineconeDelphiClient | InCoroutines
CLIENTS = (PineconeDelphiClient, InCoroutines)


def client_of(kind: type[Client], index: str, rollout: Rollout | None = None, books: Books | None = None) -> Client:
    return kind(index, rollout=rollout, books=books)
