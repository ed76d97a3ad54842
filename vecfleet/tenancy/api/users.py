"""Who asks: the bearer tokens of a file, or any dependency of the application that gives a user."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from vecfleet.tenancy.api.bodies import Admit
from vecfleet.tenancy.api.problems import Refusal
from vecfleet.tenancy.audit import TenantAuditLogger
from vecfleet.tenancy.guard import ADMIN, TenantGuard
from vecfleet.tenancy.tokens import TokenFile, User

USER = "user"  # of a token that names no role, too
_SCHEME = HTTPBearer(auto_error=False, description="A token made by `vecfleet token create`.")


def bearer(tokens: TokenFile) -> Callable[..., User]:
    """A dependency that gives the user of the request's bearer token, or refuses with 401."""

    async def user(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)]) -> User:
        return user_of(request, tokens)

    return user  # type: ignore[return-value]


def user_of(request: Request, tokens: TokenFile) -> User:
    """Return whose bearer token the request carries, by its headers alone. Raises Refusal with 401."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    found = tokens.user(token.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        raise Refusal(
            401,
            "the request has no valid bearer token",
            next_step="send `Authorization: Bearer …`; `vecfleet token create` makes one",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return found


def admitting(tokens: TokenFile, audit: TenantAuditLogger, role: str, *more: str) -> Admit:
    """Let in tokens of this role, of `more`, and admins', by the headers alone. Raises Refusal; a 403 is audited."""

    def admit(request: Request) -> None:
        user = user_of(request, tokens)
        if user.get("role", USER) not in (role, *more, ADMIN):
            audit.log_isolation_violation(**TenantGuard(user).who, requested=f"a token of the role {role}")
            raise Refusal(
                403, f"this is for tokens of the role `{role}`", next_step=f"vecfleet token create --role {role}"
            )

    return admit
