"""The fence of an erasure, and the books that keep it: the eraser's interface to the fleet.

Once the fence is raised no path of the fleet writes a record of the erased tenant. The job table is the books
(`orchestrator.services.erase`), reached directly or through `vecfleet serve`. Without any, the result says so.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import httpx
import msgspec

from vecfleet.errors import BadInput, Unreachable
from vecfleet.names import Tenant
from vecfleet.owners import LOOKUP_KEY, Owner, Ownership
from vecfleet.settings import Settings
from vecfleet.tenancy.finding import Known, TenantPlace

NO_FENCE = "no fence: a running job may write again"
FENCED = "raised: no path of the fleet writes this tenant's records"


def subject_of(tenant: Tenant) -> str:
    """Return the digest that stands for a tenant where its name must not: the same wherever it is computed."""
    text = f"vecfleet erasure\0{tenant.creator}\0{tenant.twin or ''}"
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def subjects_of(tenant: Tenant) -> list[str]:
    """Return the subjects of erasures that concern this tenant: it, or its creator as a whole."""
    return sorted({subject_of(tenant), subject_of(Tenant(tenant.creator))})


class Here(msgspec.Struct, frozen=True):
    """The books' knowledge of a tenant in one index.

    `twins` and `sources` are ids that look-ups named as this tenant's, each with its twin. `legacy` are namespaces that
    were given to it whole, `others` those given to another one.
    """

    twins: dict[str, str | None] = {}
    sources: dict[str, str | None] = {}
    legacy: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class Begun(msgspec.Struct, frozen=True):
    """An erasure under way: its number (None: nobody keeps books), and the books' knowledge of the tenant.

    `indexes` holds it for each index that a job ever read or wrote. In any other one only `twins` and `sources` count:
    no plan speaks of its namespaces. A server from before `indexes` (None) tells by name alone, for all of them at
    once, in `legacy` and `others`; a client from before it gets the same.
    """

    number: int | None = None
    twins: dict[str, str | None] = {}
    sources: dict[str, str | None] = {}
    legacy: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    lookup_keys: tuple[str, ...] = (LOOKUP_KEY,)
    indexes: dict[str, Here] | None = None

    def known(self, creator: str, index: str) -> Known:
        def owners(ids: Mapping[str, str | None]) -> dict[str, Owner]:
            return {id: Owner(creator, twin) for id, twin in ids.items()}

        if self.indexes is None:
            here = Here(self.twins, self.sources, self.legacy, self.others)
        else:
            here = self.indexes.get(index, Here(self.twins, self.sources))
        legacy, others = frozenset(here.legacy), frozenset(here.others)
        ownership = Ownership(owners(here.twins), owners(here.sources))
        # A name in both is this tenant's in one index and another's in a second. Told by name alone, its records
        # decide.
        return Known(legacy - others, others - legacy, ownership, self.lookup_keys)


class Books(Protocol):
    """The record of erasures."""

    def fenced(self, tenant: Tenant) -> bool:
        """Say whether this tenant was erased and did not come back: nobody copies its records then."""

    def begin(self, tenant: Tenant, who: str) -> Begun:
        """Raise the fence. On return it stands, for every later write. Safe to repeat."""

    def wait_s(self, number: int) -> float:
        """Return the seconds in which a write from before the fence may still land; 0 once none can."""

    def finish(
        self, number: int, tenant: Tenant, found: Sequence[TenantPlace], certificate: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Forget the tenant in the books themselves, and put the certificate on record. Returns it completed."""


@dataclass(frozen=True, slots=True)
class NoBooks:
    """Books that keep nothing."""

    def fenced(self, tenant: Tenant) -> bool:
        return False

    def begin(self, tenant: Tenant, who: str) -> Begun:
        return Begun()

    def wait_s(self, number: int) -> float:
        return 0.0

    def finish(
        self, number: int, tenant: Tenant, found: Sequence[TenantPlace], certificate: Mapping[str, Any]
    ) -> dict[str, Any]:
        return dict(certificate)


Who = Annotated[str, msgspec.Meta(max_length=200)]
Id = Annotated[str, msgspec.Meta(max_length=240)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Beginning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /delphi/erasures."""

    creator: Id
    who: Who
    twin: Id | None = None


class Reported(msgspec.Struct, frozen=True):
    """The counts that the books take over from an application's certificate. The rest they saw themselves."""

    aliases: Count = 0
    exported: Count | None = None


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /delphi/erasures/N."""

    creator: Id
    found: tuple[TenantPlace, ...]
    certificate: Reported
    twin: Id | None = None


# Made by the importing thread: msgspec crashes if two threads let it meet a class at once.
BEGINNING, ENDING = msgspec.json.Decoder(Beginning), msgspec.json.Decoder(Ending)
_BEGUN = msgspec.json.Decoder(Begun)
_TIMEOUT_S = 60.0
_LOOKS_S = 900.0  # the server looks for the tenant's records itself, and rewrites every manifest that names it


class HttpBooks:
    """The books of a `vecfleet serve`, by its address and a token of the role `fencing`."""

    def __init__(self, address: str, token: str, timeout_s: float = _TIMEOUT_S) -> None:
        from vecfleet.stores.pinecone.clients import PerProcess  # loads the SDK, which the job table needs not

        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        base = address.rstrip("/")
        self._clients = PerProcess(lambda: httpx.Client(base_url=base, headers=headers, timeout=timeout_s))

    def fenced(self, tenant: Tenant) -> bool:
        return bool(msgspec.json.decode(self._call("GET", f"?{_digests(tenant)}"))["fenced"])

    def begin(self, tenant: Tenant, who: str) -> Begun:
        return _BEGUN.decode(self._call("POST", "", Beginning(tenant.creator, who, tenant.twin)))

    def wait_s(self, number: int) -> float:
        return float(msgspec.json.decode(self._call("GET", f"/{number}"))["wait_s"])

    def finish(
        self, number: int, tenant: Tenant, found: Sequence[TenantPlace], certificate: Mapping[str, Any]
    ) -> dict[str, Any]:
        told = {"creator": tenant.creator, "twin": tenant.twin, "found": found, "certificate": certificate}
        answer: dict[str, Any] = msgspec.json.decode(self._call("POST", f"/{number}", told, _LOOKS_S))
        return answer

    def _call(
        self,
        method: str,
        path: str,
        body: msgspec.Struct | dict[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        try:
            content = msgspec.json.encode(body) if body is not None else None
            within: Any = httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s
            answer = self._clients.get().request(method, f"/delphi/erasures{path}", content=content, timeout=within)
        except httpx.HTTPError as error:
            raise Unreachable(
                f"the fence cannot be reached: {type(error).__name__}",
                next_step="check VECFLEET_FENCE; nothing is erased",
            ) from error
        if answer.is_error:
            raise Unreachable(
                f"the fence was refused with status {answer.status_code}{_said(answer)}",
                next_step="check VECFLEET_FENCE and VECFLEET_ROUTES_TOKEN (a token of the role `fencing`)",
            )
        return answer.content


def _said(answer: httpx.Response) -> str:
    """Return what a refusal of ours says of itself; nothing for any other."""
    try:
        detail = answer.json().get("detail")
    except (ValueError, AttributeError):
        return ""
    return f": {detail}" if isinstance(detail, str) else ""


def _digests(tenant: Tenant) -> httpx.QueryParams:
    """Return the tenant's digests as a query: names would end in a server's access log."""
    return httpx.QueryParams({"subject": subjects_of(tenant)})


def books_of(settings: Settings) -> Books:
    """Return the books that VECFLEET_FENCE names; none if it is empty."""
    if settings.vecfleet_fence is None:
        return NoBooks()
    if settings.vecfleet_routes_token is None:
        raise BadInput("VECFLEET_FENCE needs a token", next_step="set VECFLEET_ROUTES_TOKEN")
    return HttpBooks(settings.vecfleet_fence, settings.vecfleet_routes_token.get_secret_value())
