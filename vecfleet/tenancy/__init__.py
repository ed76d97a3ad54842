"""What an application imports: the tenants' clients, the guard, and the roll-out.

Reading order: `places` (where a tenant's records are, and what may be read there), `routes` and `providers` (how a
roll-out is told), `rollout` (which side a tenant is on), `asking` (questions and answers), `client` and its twin
`async_client`, `journal` (writes to both sides), `guard` and `audit`, `finding`, `fences` and `erasing`, `evidence`.
The HTTP API (`api`) and the monitor (`monitor`) need the extra `api` and are imported by their own names. Nothing here
needs Celery, Postgres, or a package of ours but `vecfleet`.
"""

from vecfleet.tenancy.async_client import DelphiPineconeClient
from vecfleet.tenancy.audit import TenantAuditLogger
from vecfleet.tenancy.client import PineconeDelphiClient, PineconeServerlessManager, get_delphi_client
from vecfleet.tenancy.erasing import Erased
from vecfleet.tenancy.guard import TenantGuard
from vecfleet.tenancy.metrics import QueryMetrics
from vecfleet.tenancy.places import TenantIsolationError
from vecfleet.tenancy.providers import CachedRoutes, FileRoutes, HttpRoutes, RedisRoutes
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
