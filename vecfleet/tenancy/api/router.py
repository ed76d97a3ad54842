"""The endpoints of seed 001, guarded: the asker, the rate and the owner are checked before anything is sent."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Path, Query
from starlette.convertors import PathConvertor, register_url_convertor

from vecfleet import names
from vecfleet.embedders import Embedder, embed_one, openai_embedder
from vecfleet.errors import BadInput, BadName
from vecfleet.stores.serving import Hit
from vecfleet.tenancy.api.bodies import BODY_BYTES
from vecfleet.tenancy.api.models import (
    Answer,
    CrossTwinSearch,
    Deleted,
    Erased,
    Found,
    NameVerdict,
    OfCreator,
    OfName,
    Search,
    TwinId,
    Twins,
)
from vecfleet.tenancy.api.problems import Refusal, documented
from vecfleet.tenancy.api.rate import RateLimit
from vecfleet.tenancy.api.routes import THREADS, Turns, guarded
from vecfleet.tenancy.api.users import USER, Failures, admitting, bearer
from vecfleet.tenancy.audit import TenantAuditLogger
from vecfleet.tenancy.client import PineconeDelphiClient, get_delphi_client
from vecfleet.tenancy.guard import TenantGuard
from vecfleet.tenancy.tokens import TokenFile, User


class _Anything(PathConvertor):
    """Matches Starlette's own `path`, and line feeds: they are refused by their field, not as an unknown page."""

    regex = r"[\s\S]*"


register_url_convertor("vecfleet_anything", _Anything())


def delphi_router(
    client: PineconeDelphiClient | None = None,
    *,
    tokens: TokenFile | None = None,
    user: Callable[..., Any] | None = None,
    embedder: Embedder | None = None,
    rate: RateLimit | None = None,
    audit: TenantAuditLogger | None = None,
    on_erasure: Callable[[float], None] | None = None,
    prefix: str = "/delphi",
    body_bytes: int = BODY_BYTES,
    threads: anyio.CapacityLimiter | None = None,
    failures: Failures | None = None,
) -> APIRouter:
    """Return the router, to be included in an application.

    `user`, a FastAPI dependency that gives a mapping as `TenantGuard` takes it, or `tokens` tells who asks. `client`
    None: the process's own, from the environment. `on_erasure` is called with the seconds each erasure took. With
    `tokens`, the asker is known before the body is read, up to `body_bytes` of it. A sender that comes without a known
    token again and again waits as `failures` says. The work is done in `threads`.
    """
    if (tokens is None) == (user is None):
        raise BadInput("the API needs to know its users", next_step="give either `tokens` or `user`")
    identify = user if tokens is None else bearer(tokens)
    limit, log = rate or RateLimit(), audit or TenantAuditLogger()
    erasing = _OneAtATime()

    turns = Turns()

    async def asker(asking_user: Annotated[User, Depends(identify)]) -> AsyncIterator[TenantGuard]:
        guard = TenantGuard(asking_user, log)
        limit.require(guard.who.get("token", guard.user_id))
        async with turns.of(",".join(sorted(guard.creator_ids)) or guard.user_id):
            yield guard

    Asker = Annotated[TenantGuard, Depends(asker)]

    def tenants() -> PineconeDelphiClient:
        return client if client is not None else get_delphi_client()

    def question(asked: Search | CrossTwinSearch) -> dict[str, Any]:
        """Return the vector or the text, which the client embeds by a route's model or ours, once for both sides."""
        shared = {"top_k": asked.top_k, "filter": asked.filter, "include_metadata": asked.include_metadata}
        if asked.query is None:
            return {"vector": asked.vector, **shared}
        if tenants().texts.integrated:
            return {"text": asked.query, **shared}
        embed = cache(partial(embed_one, embedder or openai_embedder(tenants().settings)))
        return {"text": asked.query, "embed": embed, **shared}

    def answer(guard: TenantGuard, creator: str, twin: str | None, hits: list[Hit]) -> Answer:
        log.log_vector_query(**guard.who, creator_id=creator, twin_id=twin, results=len(hits))
        return Answer(creator_id=creator, matches=[_found(hit) for hit in hits])

    # A token of another role reaches no records, whichever creators it was made for.
    admit = admitting(tokens, log, USER, failures=failures) if tokens is not None else None
    router = APIRouter(
        prefix=prefix,
        tags=["delphi"],
        route_class=guarded(admit, threads or anyio.CapacityLimiter(THREADS), body_bytes),
        responses=documented(401, 403, 413, 422, 429, 503),
    )

    @router.post("/search", responses=documented(400))
    def search(asked: Search, guard: Asker) -> Answer:
        """Search one twin, or the creator-wide namespace."""
        creator = _creator(guard, asked.creator_id)
        result = tenants().query(creator_id=creator, twin_id=asked.twin_id, **question(asked))
        return answer(guard, creator, asked.twin_id, result.matches)

    @router.post("/search-cross-twin", responses=documented(400))
    def search_cross_twin(asked: CrossTwinSearch, guard: Asker) -> Answer:
        """Search several of a creator's twins at once."""
        creator = _creator(guard, asked.creator_id)
        hits = tenants().query_across_twins(creator_id=creator, twin_ids=asked.twin_ids, **question(asked))
        return answer(guard, creator, None, hits)

    @router.get("/twins")
    def twins(guard: Asker, of: Annotated[OfCreator, Query()]) -> Twins:
        """The twins of a creator."""
        creator = _creator(guard, of.creator_id)
        return Twins(creator_id=creator, twins=tenants().list_creator_twins(creator))

    @router.get("/validate-name")
    def validate_name(guard: Asker, of: Annotated[OfName, Query()]) -> NameVerdict:
        """Say whether a new twin may have this name."""
        try:
            names.check_semantic_twin_name(of.name)
        except BadName as refusal:
            return NameVerdict(name=of.name, valid=False, reason=refusal.message)
        return NameVerdict(name=of.name, valid=True)

    @router.delete("/twin/{twin_id:vecfleet_anything}", responses=documented(404, 409))
    def delete_twin(twin_id: Annotated[TwinId, Path()], guard: Asker, of: Annotated[OfCreator, Query()]) -> Erased:
        """Erase one twin, and confirm that nothing of it is left."""
        return erase(guard, _creator(guard, of.creator_id), twin_id)

    @router.delete("/creator", responses=documented(404, 409))
    def delete_creator(guard: Asker, of: Annotated[OfCreator, Query()]) -> Erased:
        """Erase a creator with all twins, and confirm that nothing is left."""
        return erase(guard, _creator(guard, of.creator_id), None)

    def erase(guard: TenantGuard, creator: str, twin: str | None) -> Erased:
        with erasing.of(creator):
            erased = tenants().erase(creator, twin, who=guard.user_id)
        number = erased.certificate.get("erasure")
        forgotten = number is not None  # the fleet's files name the tenant no more, and this line would be the first to
        log.log_data_deletion(
            **guard.who,
            creator_id=f"erased-{number}" if forgotten else creator,
            twin_id=None if forgotten else twin,
            namespaces=[] if forgotten else [place.name for place in erased.deleted],
            confirmed=erased.confirmed,
        )
        if on_erasure is not None:
            on_erasure(erased.seconds)
        if not erased.confirmed:
            raise Refusal(409, "not all of it is gone", next_step="ask again to erase the rest", left=list(erased.left))
        if not erased.deleted:
            raise Refusal(404, f"nothing of {_called(creator, twin)} is there", next_step="look at GET /delphi/twins")
        return Erased(
            creator_id=creator,
            twin_id=twin,
            deleted=[Deleted(namespace=place.name, records=place.count) for place in erased.deleted],
            seconds=erased.seconds,
        )

    return router


def _creator(guard: TenantGuard, asked: str | None) -> str:
    """Return the creator that is meant, if the user may reach it."""
    if asked is None:
        if len(guard.creator_ids) != 1:
            raise BadInput("which creator is meant is not clear", next_step="give `creator_id`")
        (asked,) = guard.creator_ids
    guard.validate_creator_access(asked)
    return asked


def _found(hit: Hit) -> Found:
    metadata = dict(hit.metadata) if hit.metadata is not None else None
    return Found(id=hit.id, score=hit.score, namespace=names.canonical(hit.namespace), metadata=metadata)


def _called(creator: str, twin: str | None) -> str:
    return f"the creator {creator!r}" if twin is None else f"the twin {twin!r} of {creator!r}"


class _OneAtATime:
    """Refuses the second of two erasures of one creator at once: each would report what the other deleted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: set[str] = set()

    @contextmanager
    def of(self, creator: str) -> Iterator[None]:
        with self._lock:
            if creator in self._under_way:
                raise Refusal(409, f"the creator {creator!r} is being erased already", next_step="ask again later")
            self._under_way.add(creator)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.discard(creator)
