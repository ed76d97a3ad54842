"""A witness of what really happened and is really there: plain HTTP, JSON and base64, no code of vecfleet."""

import base64
import json
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

ANSWERS_WITHIN_S = 20.0
# Of httpx' `verify`: all of this is plain HTTP on this machine, and to read a store of certificates for each request
# took a third of a life.
PLAIN = False


@dataclass(frozen=True)
class Stored:
    """A record as the store keeps it: the bytes of its values, not numbers."""

    id: str
    values: bytes
    sparse: tuple[tuple[int, ...], bytes] | None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def face(self) -> str:
        """Text that two records share only if every byte, key, value and type of them is the same."""
        return self._face

    @cached_property
    def _face(self) -> str:
        sparse = [list(self.sparse[0]), self.sparse[1].hex()] if self.sparse else None
        return json.dumps([self.id, self.values.hex(), sparse, _typed(dict(self.metadata))], sort_keys=True)


Rows = dict[str, Stored]
Contents = dict[str, Rows]


def _typed(value: Any) -> Any:
    """Tells true from 1.0, and one number from the same one spelled otherwise."""
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [type(value).__name__, value]
    return ["number", float(value).hex()]


class Witness:
    """The emulator's own account. The call log is kept here, for it does not survive a kill of the emulator."""

    def __init__(self, address: str, indexes: Sequence[str], key_of: Callable[[str, str], str]) -> None:
        """`key_of`: the metadata key that a name stands for in an index. No namespace is in two of the indexes."""
        self.calls: list[dict[str, Any]] = []
        self._indexes, self._key_of = indexes, key_of
        self._address = address
        self._since = int(self._ask("calls", counts=1)["last_seq"])

    def contents(self) -> Contents:
        """Every record of every namespace that holds any."""
        there: Contents = {}
        for index in self._indexes:
            for name in self._ask("digest", index=index)["namespaces"]:
                rows = {one.id: one for one in self._records(index, name)}
                assert not (rows and name in there), f"{name} is in two indexes"
                there |= {name: rows} if rows else {}
        return there

    def listen(self) -> int:
        """Take over what the log says since the last time. Returns how many calls that were."""
        answer = self._ask("calls", since=self._since)
        assert answer["dropped"] == 0, "the emulator's call log is full"
        self._since = answer["last_seq"]
        new = [call for call in answer["calls"] if call["index"] in self._indexes]
        self.calls += new
        return len(new)

    def starts_over(self) -> None:
        """The emulator was killed and is back: its log begins anew."""
        self._since = 0

    def _records(self, index: str, namespace: str) -> Iterator[Stored]:
        for line in filter(None, self._get("records", index=index, namespace=namespace).split("\n")):
            body = json.loads(line)
            sparse = body["sparse"]
            yield Stored(
                body["id"],
                base64.b64decode(body["values"]),
                (tuple(sparse["indices"]), base64.b64decode(sparse["values"])) if sparse else None,
                {self._key_of(index, name): value for name, value in (body["metadata"] or {}).items()},
            )

    def _ask(self, what: str, **params: str | int) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._get(what, **params))
        return answer

    def _get(self, what: str, **params: str | int) -> str:
        url = f"{self._address}/_emulator/{what}?{urllib.parse.urlencode(params)}"
        with urllib.request.urlopen(url, timeout=ANSWERS_WITHIN_S) as answer:
            body: bytes = answer.read()
        return body.decode()
