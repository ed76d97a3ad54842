"""The guard as the seeds' application calls it, over the guard of `vecfleet.tenancy`. Needs the extra `api`."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import orjson
from fastapi import HTTPException, Request

from vecfleet.tenancy import TenantIsolationError, audit, guard

__all__ = [
    "TenantAuditLogger",
    "TenantGuard",
    "TenantIsolationError",
    "derive_creator_ids",
    "get_current_user",
    "require_creator_access",
]

T = TypeVar("T")

_ADMINS = ("admin", "superadmin")


def derive_creator_ids(user: Mapping[str, Any]) -> list[str]:
    """Return the user's creators: `creator_ids`, if there are any; else `creator_id`; else `tenant_{tenant_id}`."""
    several = user.get("creator_ids")
    if isinstance(several, list) and several:
        return [str(id) for id in several]
    if user.get("creator_id"):
        return [str(user["creator_id"])]
    return sorted(guard.creators_of({"tenant_id": user.get("tenant_id")}))


class TenantAuditLogger(audit.TenantAuditLogger):
    """Writes JSON lines to the logger `tenant_audit` of the standard `logging`: violations as warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.logger = logging.getLogger("tenant_audit")

    def _write(self, event: str, severity: str, **fields: object) -> None:
        line = {"event": event, "timestamp": self._clock().isoformat(), "severity": severity, **fields}
        level = logging.WARNING if severity == audit.HIGH else logging.INFO
        self.logger.log(level, "%s", orjson.dumps(line, default=str).decode())


class TenantGuard(guard.TenantGuard):
    """The access of one user. A role `superadmin` is an admin too; refusals and admins' acts are audited."""

    def __init__(self, user: Mapping[str, Any]) -> None:
        self.role = user.get("role", "user")
        self.email = user.get("email", "unknown")
        listed = derive_creator_ids(user)
        role = guard.ADMIN if self.role in _ADMINS else self.role
        super().__init__({**user, "creator_ids": listed, "role": role}, TenantAuditLogger())
        self._patterns = [f"creator_{id}_*" for id in listed]

    def get_allowed_namespaces(self) -> list[str]:
        """Return one pattern a creator, for people to read. Decides nothing."""
        return ["creator_*"] if self.is_admin else self._patterns


def require_creator_access(
    creator_id_param: str = "creator_id",
) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Awaitable[T]]]:
    """Let an endpoint run only for a user who may reach the creator that its request names.

    The request is the endpoint's argument `request`, or its first; the user is `current_user` or `user`. Raises
    HTTPException: 400 without a creator, 401 without a user, 403 for another's.
    """

    def decorated(endpoint: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        @wraps(endpoint)
        async def guarded(*args: Any, **kwargs: Any) -> T:
            request = kwargs.get("request", args[0] if args else None)
            creator_id = getattr(request, creator_id_param, None)
            if not creator_id:
                raise HTTPException(400, f"{creator_id_param} is required")
            user = kwargs.get("current_user") or kwargs.get("user")
            if not user:
                raise HTTPException(401, "Authentication required")
            try:
                TenantGuard(user).validate_creator_access(creator_id)
            except TenantIsolationError as refusal:
                raise HTTPException(403, refusal.message) from refusal
            return await endpoint(*args, **kwargs)

        return guarded

    return decorated


def get_current_user(request: Request) -> dict[str, Any]:
    """Return the user whom the application's own middleware put at `request.state.user`, or refuse with 401."""
    user: dict[str, Any] | None = getattr(request.state, "user", None)
    if not user:
        raise HTTPException(401, "Not authenticated")
    return user
