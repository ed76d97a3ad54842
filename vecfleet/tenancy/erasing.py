"""The one door by which a tenant's namespaces are deleted and their absence is confirmed.

Namespaces are found by parsing their names, from the namespace list; statistics lag, and a prefix reaches other
tenants. Safe to repeat: what is gone already is no error. Dies in the middle: the next call finds what is left.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vecfleet import names
from vecfleet.errors import StoreError
from vecfleet.stores.base import Index, NamespaceInfo

AT_ONCE = 16  # deletions under way: 1,000 namespaces in seconds, well under the documented 100 requests a second each
CONFIRM_S = 10.0  # how long the namespace list may lag behind a deletion
_LOOK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Erased:
    """What was deleted, and what is left of it with the reason."""

    creator: str
    twin: str | None
    deleted: tuple[NamespaceInfo, ...]
    left: tuple[str, ...]
    seconds: float

    @property
    def confirmed(self) -> bool:
        """Nothing of the tenant is left, as far as was looked."""
        return not self.left


def namespaces_of(index: Index, creator: str, twin: str | None = None) -> list[NamespaceInfo]:
    """The creator's namespaces, or the twin's, by the index's own list. Raises BadName for ids that can have none."""
    names.build(creator, twin)
    return [one for one in index.namespaces() if names.belongs_to(one.name, creator, twin)]


def twins_of(index: Index, creator: str) -> list[str]:
    """The creator's twins that have a namespace, sorted."""
    tenants = (names.parse(one.name) for one in namespaces_of(index, creator))
    return sorted({tenant.twin for tenant in tenants if tenant is not None and tenant.twin is not None})


def erase(
    index: Index,
    creator: str,
    twin: str | None = None,
    *,
    elsewhere: Iterable[str] = (),
    confirm_s: float = CONFIRM_S,
    clock: Callable[[], float] = time.monotonic,
) -> Erased:
    """Delete every namespace of the creator, or of the twin, and look until they are gone or the time is over.

    `elsewhere` names places with records of this tenant that this does not reach; they are reported as left.
    """
    started = clock()
    found = namespaces_of(index, creator, twin)
    refused = _delete(index, [one.name for one in found])
    left = _wait_until_gone(index, creator, twin, refused, clock, started + confirm_s)
    told = [f"{name}: {refused[name]}" if name in refused else name for name in left]
    return Erased(creator, twin, tuple(found), (*told, *elsewhere), clock() - started)


def _delete(index: Index, namespaces: Sequence[str]) -> dict[str, str]:
    """Delete them side by side. Gives those that were refused, with the store's sentence."""

    def one(name: str) -> tuple[str, str | None]:
        try:
            index.delete_namespace(name)
        except StoreError as error:
            return name, error.message
        return name, None

    if not namespaces:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(namespaces)), thread_name_prefix="erase") as pool:
        return {name: said for name, said in pool.map(one, namespaces) if said is not None}


def _wait_until_gone(
    index: Index,
    creator: str,
    twin: str | None,
    refused: Mapping[str, str],
    clock: Callable[[], float],
    until: float,
) -> list[str]:
    """What is left once nothing is, or only what was refused, or the time is over."""
    while True:
        left = [one.name for one in namespaces_of(index, creator, twin)]
        if set(left) <= refused.keys() or clock() >= until:
            return left
        time.sleep(_LOOK_AGAIN_S)
