"""The fleet's HTTP API: what the command line looks at and does, for programs.

A token of the role `read` looks. One of the role `operate` steers jobs, too; one of the role `approve` also does what
moves readers, leaves records behind or deletes. Nobody else reaches it, and these tokens sign nobody in at the page.
"""

from collections.abc import Sequence

import anyio
from fastapi import APIRouter, Depends

from orchestrator.bootstrap import Fleet
from orchestrator.web import api_acts, api_looks
from orchestrator.web.api_acts import APPROVE, OPERATE
from orchestrator.web.api_looks import READ
from orchestrator.web.applications import line_of
from orchestrator.web.sampling import Sampler
from vecfleet.fleet.models import PREFIX
from vecfleet.tenancy import TenantAuditLogger
from vecfleet.tenancy.api import RateLimit, bearer
from vecfleet.tenancy.api.problems import documented
from vecfleet.tenancy.api.routes import Turns, guarded
from vecfleet.tenancy.api.users import Failures, admitting
from vecfleet.tenancy.tokens import TokenFile

_THREADS = 16
_ERASURES = 4  # at once, in threads of their own: each takes minutes
_EACH = 4  # of one token at work; its others wait, and nobody else's


def routers(
    parts: Fleet, tokens: TokenFile, audit: TenantAuditLogger, failures: Failures, sampler: Sampler
) -> Sequence[APIRouter]:
    """Build a router for each role, each with a line of its own: who approves never waits behind who looks."""
    limit = RateLimit(parts.settings.api_requests_per_second, max(1, int(2 * parts.settings.api_requests_per_second)))
    working, erasing = anyio.CapacityLimiter(_THREADS), anyio.CapacityLimiter(_ERASURES)

    def router(role: str, *more: str, threads: anyio.CapacityLimiter = working) -> APIRouter:
        admit = admitting(tokens, audit, role, *more, failures=failures)
        line = line_of(tokens, limit, Turns(_EACH))
        return APIRouter(
            prefix=PREFIX,
            tags=["fleet"],
            route_class=guarded(admit, threads, parts.settings.api_body_bytes, line=line, operators=True),
            dependencies=[Depends(bearer(tokens))],
            responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 503),
            generate_unique_id_function=lambda route: route.name,
        )

    looking, operating = router(READ, OPERATE, APPROVE), router(OPERATE, APPROVE)
    approving, forgetting = router(APPROVE), router(APPROVE, threads=erasing)
    api_looks.add(looking, parts, sampler, tokens)
    api_looks.add_spending(operating, parts)
    api_acts.add_operating(operating, parts, tokens)
    api_acts.add_approving(approving, parts, tokens)
    api_acts.add_forgetting(forgetting, parts, tokens)
    return looking, operating, approving, forgetting
