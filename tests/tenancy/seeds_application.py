"""An application on the seeds' own modules, before it knows of vecfleet. A test changes its imports only."""

import logging
from typing import Any

from modules.embeddings_delphi import get_delphi_client, reset_delphi_client
from modules.feature_flags import use_delphi_namespaces
from modules.tenant_guard import TenantAuditLogger, TenantGuard, TenantIsolationError, require_creator_access

audit_logger = TenantAuditLogger()
logger = logging.getLogger(__name__)


class Asked:
    """The body of a request."""

    def __init__(self, creator_id: str, twin_id: str | None = None, vector: list[float] | None = None) -> None:
        self.creator_id, self.twin_id, self.vector = creator_id, twin_id, vector


def ingest(creator_id: str, twin_id: str, rows: list[dict[str, Any]]) -> int:
    response = get_delphi_client().upsert_vectors(vectors=rows, creator_id=creator_id, twin_id=twin_id)
    return response.get("upserted_count", 0)


@require_creator_access(creator_id_param="creator_id")
async def search(request: Asked, current_user: dict[str, Any]) -> dict[str, Any]:
    client = get_delphi_client()
    found = client.query_text(request.vector, creator_id=request.creator_id, twin_id=request.twin_id, top_k=5)
    matches = TenantGuard(current_user).filter_results_by_tenant(found.get("matches", []))
    audit_logger.log_vector_query(
        user_id=current_user.get("user_id"),
        creator_id=request.creator_id,
        twin_id=request.twin_id,
        top_k=5,
        result_count=len(matches),
        latency_ms=1.5,
    )
    return {
        "ids": [match.get("id") for match in matches],
        "namespace": client.get_namespace(request.creator_id, request.twin_id),
    }


@require_creator_access()
async def search_all(request: Asked, current_user: dict[str, Any]) -> list[str]:
    client = get_delphi_client()
    twins = client.list_twins_for_creator(request.creator_id)
    found = client.query_across_twins(
        vector=request.vector, creator_id=request.creator_id, twin_ids=twins, top_k=5, include_metadata=True
    )
    return [match["id"] for match in TenantGuard(current_user).filter_results_by_tenant(found)]


@require_creator_access()
async def delete_twin(request: Asked, current_user: dict[str, Any]) -> dict[str, Any]:
    client = get_delphi_client()
    before = client.get_twin_stats(request.creator_id, request.twin_id)
    done = client.delete_twin(request.creator_id, request.twin_id)
    audit_logger.log_data_deletion(
        user_id=current_user.get("user_id"),
        creator_id=request.creator_id,
        twin_id=request.twin_id,
        vector_count=before.get("vector_count", 0),
        gdpr_request=True,
    )
    return {"done": done, "before": before, "after": client.get_twin_stats(request.creator_id, request.twin_id)}


@require_creator_access()
async def delete_creator(request: Asked, current_user: dict[str, Any]) -> dict[str, Any]:
    client = get_delphi_client()
    twins = client.list_creator_twins(request.creator_id)
    namespaces = client.list_namespaces_for_creator(request.creator_id)
    count = client.delete_creator(request.creator_id)
    return {
        "twins": twins,
        "namespaces": namespaces,
        "deleted": count,
        "verified": client.verify_gdpr_deletion(request.creator_id),
    }


def health() -> dict[str, Any]:
    client = get_delphi_client()
    stats = client.index.describe_index_stats()
    return {"index": client.index_name, "total": stats.total_vector_count, "namespaces": len(stats.namespaces)}


def restart() -> bool:
    reset_delphi_client()
    return use_delphi_namespaces()


def may_read(user: dict[str, Any], namespace: str) -> bool:
    try:
        return TenantGuard(user).validate_namespace_access(namespace)
    except TenantIsolationError as refusal:
        logger.info("refused: %s", refusal)
        return False
