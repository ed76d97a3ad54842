"""The application's package: the tenants' clients, the guard, and the roll-out.

Reading order: `places` (where a tenant's records are, and what may be read there), `routes` and `providers` (routes of
a roll-out), `rollout` (which side a tenant is on), `requests` (questions and answers), `question_models` (texts of
questions as vectors), `client_core` (the steps of both clients), `client` and its twin `async_client`, `journal`
(writes to both sides), `guard` and `audit`, `finding`, `filtered` (deletion by a filter), `fences` and `erasing`,
`shadow_reads`, `evidence_sender`. The HTTP API (`api`) and the monitor (`monitor`) need the extra `api` and are
imported by their own names. Nothing here needs Celery, Postgres, or a package of ours but `vecfleet`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecfleet.tenancy.async_client import DelphiPineconeClient
    from vecfleet.tenancy.audit import TenantAuditLogger
    from vecfleet.tenancy.client import PineconeDelphiClient, PineconeServerlessManager, get_delphi_client
    from vecfleet.tenancy.erasing import Erased
    from vecfleet.tenancy.guard import TenantGuard
    from vecfleet.tenancy.places import TenantIsolationError
    from vecfleet.tenancy.providers import CachedRoutes, FileRoutes, HttpRoutes, RedisRoutes
    from vecfleet.tenancy.query_metrics import QueryMetrics
    from vecfleet.tenancy.rollout import Rollout, use_creator_namespaces, use_delphi_namespaces, use_serverless

__all__ = [
    "CachedRoutes",
    "DelphiPineconeClient",
    "Erased",
    "FileRoutes",
    "HttpRoutes",
    "PineconeDelphiClient",
    "PineconeServerlessManager",
    "QueryMetrics",
    "RedisRoutes",
    "Rollout",
    "TenantAuditLogger",
    "TenantGuard",
    "TenantIsolationError",
    "get_delphi_client",
    "use_creator_namespaces",
    "use_delphi_namespaces",
    "use_serverless",
]

_MODULES = {
    "async_client": ("DelphiPineconeClient",),
    "audit": ("TenantAuditLogger",),
    "client": ("PineconeDelphiClient", "PineconeServerlessManager", "get_delphi_client"),
    "erasing": ("Erased",),
    "guard": ("TenantGuard",),
    "places": ("TenantIsolationError",),
    "providers": ("CachedRoutes", "FileRoutes", "HttpRoutes", "RedisRoutes"),
    "query_metrics": ("QueryMetrics",),
    "rollout": ("Rollout", "use_creator_namespaces", "use_delphi_namespaces", "use_serverless"),
}


def __getattr__(name: str) -> Any:
    """Load a name when it is asked for: a program that needs only the form of evidence waits for no SDK."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
