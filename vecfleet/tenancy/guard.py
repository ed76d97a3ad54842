"""The access of users to namespaces. Every decision goes through the codec of names, never through a prefix."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from vecfleet import logs, names
from vecfleet.tenancy.places import TenantIsolationError

log = logs.get_logger("vecfleet.tenancy")

T = TypeVar("T")
ADMIN = "admin"
_IDENTITIES = ("user_id", "id", "sub", "email")  # the first is the key of the seeds' own application


class Audit(Protocol):
    """The receiver of a guard's reports; `vecfleet.tenancy.audit.TenantAuditLogger` is one."""

    def log_isolation_violation(self, *, user_id: str, requested: str, **details: object) -> None: ...
    def log_admin_access(self, *, user_id: str, requested: str, **details: object) -> None: ...


class _OfClassOrInstance:
    """One name for two forms: called on the class it takes a creator, called on a guard it knows its user."""

    def __init__(self, of_class: Callable[..., bool], of_instance: Callable[..., bool]) -> None:
        self._of_class, self._of_instance = of_class, of_instance

    def __get__(self, guard: object | None, _: type) -> Callable[..., bool]:
        return self._of_class if guard is None else self._of_instance.__get__(guard)


def _check_creator(user_creator_id: str, namespace: str) -> bool:
    """Return True if the namespace is this creator's, or one of its twins'. Raises TenantIsolationError otherwise."""
    if not _belongs(namespace, user_creator_id):
        raise _denied(f"namespace {namespace!r}")
    return True


def _check_user(guard: "TenantGuard", namespace: str) -> bool:
    """Return True if the namespace is one of the user's, or the user an admin; else raise TenantIsolationError."""
    tenant = names.parse(namespace) if isinstance(namespace, str) else None
    if tenant is not None and tenant.creator in guard.creator_ids:
        return True
    return guard._only_for_admins(f"namespace {namespace!r}")


class TenantGuard:
    """The access of one user. `user`: who asks, `role`, and `creator_ids`, `creator_id` or `tenant_id`.

    Who asks is said by the first of `user_id`, `id`, `sub` and `email` that is there; a user without one is refused,
    for all of those would share a rate and an audit line. A `tenant_id` alone stands for the creator
    `tenant_{tenant_id}`. An admin passes everywhere, and is logged. `token`, if there is one, names the token that was
    sent: two tokens of one user are two identities.
    """

    validate_namespace_access = _OfClassOrInstance(_check_creator, _check_user)

    def __init__(self, user: Mapping[str, Any], audit: Audit | None = None) -> None:
        self.user_id = identity_of(user)
        self.creator_ids = creators_of(user)
        self.is_admin = user.get("role") == ADMIN
        token = user.get("token")
        self.who: dict[str, Any] = {"user_id": self.user_id, **({"token": token} if token else {})}
        self._audit = audit

    def validate_creator_access(self, creator_id: str) -> bool:
        """Return True if the creator is one of the user's. Raises TenantIsolationError otherwise."""
        if isinstance(creator_id, str) and creator_id in self.creator_ids:
            return True
        return self._only_for_admins(f"creator {creator_id!r}")

    def get_allowed_namespaces(self) -> list[str]:
        """Return the user's namespaces, for people to read: `creator_{id}` and `creator_{id}_*`. Decides nothing."""
        if self.is_admin:
            return ["*"]
        return [pattern for id in sorted(self.creator_ids) for pattern in (f"creator_{id}", f"creator_{id}_*")]

    def filter_results_by_tenant(self, results: Iterable[T]) -> list[T]:
        """Return the results that are the user's: by the namespace they came from, else by their `creator_id`.

        A result that says neither is left out.
        """
        listed = list(results)
        if self.is_admin:
            self._only_for_admins("results")
            return listed
        return [result for result in listed if self._is_own(result)]

    def _is_own(self, result: Any) -> bool:
        metadata = _field(result, "metadata") or {}
        namespace = _field(result, "namespace")
        named = names.parse(namespace) if isinstance(namespace, str) else None
        if named is not None and named.creator not in self.creator_ids:
            return False
        owner = metadata.get("creator_id") if isinstance(metadata, Mapping) else None
        if owner is None:
            return named is not None
        return isinstance(owner, str) and owner in self.creator_ids

    def _only_for_admins(self, requested: str) -> bool:
        if self.is_admin:
            log.info("Admin access granted", user=self.user_id, requested=requested)
            if self._audit is not None:
                self._audit.log_admin_access(**self.who, requested=requested)
            return True
        if self._audit is not None:
            self._audit.log_isolation_violation(**self.who, requested=requested)
        raise _denied(requested)


def _denied(requested: str) -> TenantIsolationError:
    return TenantIsolationError(
        f"Access denied: {requested} belongs to another tenant", next_step="ask for a namespace of your own"
    )


def _belongs(namespace: str, creator: str) -> bool:
    return isinstance(namespace, str) and isinstance(creator, str) and names.belongs_to(namespace, creator)


def identity_of(user: Mapping[str, Any]) -> str:
    """Return the identity of a user. Raises TenantIsolationError for one that has none."""
    for name in _IDENTITIES:
        if user.get(name) not in (None, ""):
            return str(user[name])
    raise TenantIsolationError(
        "Access denied: who asks is not known", next_step="give the guard a user with one of " + ", ".join(_IDENTITIES)
    )


def creators_of(user: Mapping[str, Any]) -> frozenset[str]:
    """Return the creators that a user reaches, however the mapping names them."""
    several = user.get("creator_ids")
    if several is not None:
        listed = [several] if isinstance(several, str) else several
    elif user.get("creator_id"):
        listed = [user["creator_id"]]
    elif user.get("tenant_id"):
        listed = [f"tenant_{user['tenant_id']}"]
    else:
        listed = []
    return frozenset(id for id in listed if isinstance(id, str) and id)


def _field(result: Any, name: str) -> Any:
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)
