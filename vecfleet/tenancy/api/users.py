"""Identifying the asker: the bearer tokens of a file, or any dependency of the application that gives a user."""

import math
from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from vecfleet.tenancy.api.bodies import Admit
from vecfleet.tenancy.api.problems import Refusal
from vecfleet.tenancy.audit import TenantAuditLogger
from vecfleet.tenancy.guard import ADMIN, TenantGuard
from vecfleet.tenancy.tokens import TokenFile, User

USER = "user"  # also for a token that names no role
_SCHEME = HTTPBearer(auto_error=False, description="A token made by `vecfleet token create`.")


class Failures(Protocol):
    """Limits on unknown askers: the seconds that an address has to wait (0: none), and a note of each failure."""

    def wait_s(self, address: str) -> float: ...
    def note(self, address: str) -> None: ...


def bearer(tokens: TokenFile) -> Callable[..., User]:
    """Return a dependency that gives the user of the request's bearer token, or refuses with 401."""

    async def user(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)]) -> User:
        return user_of(request, tokens)

    return user  # type: ignore[return-value]


def user_of(request: Request, tokens: TokenFile) -> User:
    """Return the user of the request's bearer token, by its headers alone. Raises Refusal with 401."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    user = tokens.user(token.strip()) if scheme.lower() == "bearer" else None
    if user is None:
        raise Refusal(
            401,
            "the request has no valid bearer token",
            next_step="send `Authorization: Bearer …`; `vecfleet token create` makes one",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return user


def admitting(
    tokens: TokenFile, audit: TenantAuditLogger, role: str, *more: str, failures: Failures | None = None
) -> Admit:
    """Let in tokens of this role, of `more`, and admins', by the headers alone. Raises Refusal; a 403 is audited.

    An unknown asker waits, by `failures`. A known token never does: others of its address may have none.
    """

    def admit(request: Request) -> None:
        try:
            user = user_of(request, tokens)
        except Refusal:
            if failures is not None:
                _slow_down(request, failures)
            raise
        if user.get("role", USER) not in (role, *more, ADMIN):
            audit.log_isolation_violation(**TenantGuard(user).who, requested=f"a token of the role {role}")
            raise Refusal(
                403, f"this is for tokens of the role `{role}`", next_step=f"vecfleet token create --role {role}"
            )

    return admit


def _slow_down(request: Request, failures: Failures) -> None:
    """Note that a request came without a known token. Raises Refusal with 429 if too many did."""
    address = request.client.host if request.client is not None else "nowhere"
    wait_s = math.ceil(failures.wait_s(address))
    if wait_s:
        raise Refusal(
            429,
            "too many requests without a valid bearer token came from this address",
            next_step=f"send `Authorization: Bearer …` of a token that is valid, or wait {wait_s} s",
            headers={"Retry-After": str(wait_s)},
        )
    failures.note(address)
