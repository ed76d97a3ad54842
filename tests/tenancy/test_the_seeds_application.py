"""An application of the seeds runs on vecfleet with other imports and nothing else."""

import asyncio
import difflib
import importlib.util
import json
import logging
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi import HTTPException

from tests.tenancy.conftest import SMALL, MakeIndex
from vecfleet.seeds.dynamic_embeddings.database import connection, migration, schema
from vecfleet.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
APPLICATION = Path(__file__).with_name("seeds_application.py")
MINE, NEIGHBOUR = "sainath.no.1", "sainath.no.10"
USER = {"user_id": "user_123", "creator_ids": [MINE], "role": "user"}
ASKED = [1.0] * SMALL


@pytest.fixture
def application(
    tmp_path: Path, make_index: MakeIndex, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The application after the command that the documents print."""
    make_index("digital-twin-brain", SMALL)
    changed = tmp_path / "seeds_application.py"
    changed.write_text(APPLICATION.read_text())
    subprocess.run(printed_command().replace("backend/", f"{tmp_path}/"), shell=True, check=True)
    spec = importlib.util.spec_from_file_location("seeds_application", changed)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.changed = changed  # type: ignore[attr-defined]
    yield module
    module.restart()


def printed_command() -> str:
    """The command in the documents that changes an application's imports."""
    [command] = re.findall(r"^    (grep -rlE .*)$", (REPOSITORY / "docs/tenants.md").read_text(), re.MULTILINE)
    return str(command)


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"id": id, "values": ASKED, "metadata": {"text": id}} for id in ids]


def test_its_diff_is_imports_only(application: Any) -> None:
    before, after = APPLICATION.read_text().splitlines(), application.changed.read_text().splitlines()
    lines = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]

    assert len(lines) == 6, "three imports were, three are"
    assert all(line[2:].startswith("from ") for line in lines)


def test_it_writes_searches_counts_and_erases(application: Any) -> None:
    # Given vectors of two twins, and of a neighbour whose name begins alike
    assert application.ingest(MINE, "coach", rows("a", "b")) == 2
    application.ingest(MINE, "writer", rows("c"))
    application.ingest(NEIGHBOUR, "coach", rows("n"))

    # When its endpoints are called
    found = asyncio.run(application.search(request=application.Asked(MINE, "coach", ASKED), current_user=USER))
    everywhere = asyncio.run(application.search_all(application.Asked(MINE, None, ASKED), current_user=USER))
    twin = asyncio.run(application.delete_twin(request=application.Asked(MINE, "coach"), current_user=USER))
    creator = asyncio.run(application.delete_creator(request=application.Asked(MINE), current_user=USER))

    # Then each answers in the shape that it had
    assert found == {"ids": ["a", "b"], "namespace": f"creator_{MINE}_twin_coach"}
    assert sorted(everywhere) == ["a", "b", "c"]
    named = {"namespace": f"creator_{MINE}_twin_coach"}
    assert twin == {
        "done": True,
        "before": named | {"vector_count": 2, "exists": True},
        "after": named | {"vector_count": 0, "exists": False},
    }
    writer = {"twin_id": "writer", "namespace": f"creator_{MINE}_twin_writer", "vector_count": 1}
    assert creator == {"twins": [writer], "namespaces": [writer["namespace"]], "deleted": 1, "verified": True}
    # And the neighbour is where it was
    assert application.health() == {"index": "digital-twin-brain", "total": 1, "namespaces": 1}


def test_its_guard_refuses_in_its_own_way(application: Any, caplog: pytest.LogCaptureFixture) -> None:
    theirs = application.Asked(NEIGHBOUR, "coach", ASKED)

    for user, status in ((USER, 403), (None, 401)):
        with pytest.raises(HTTPException) as refusal:
            asyncio.run(application.search(request=theirs, current_user=user))
        assert refusal.value.status_code == status
    with pytest.raises(HTTPException) as refusal:
        asyncio.run(application.search(request=application.Asked(""), current_user=USER))

    assert refusal.value.status_code == 400
    assert application.may_read(USER, f"creator_{MINE}_twin_coach")
    assert not application.may_read(USER, f"creator_{NEIGHBOUR}_twin_coach")
    assert application.may_read({"id": "root", "role": "superadmin"}, f"creator_{NEIGHBOUR}_twin_coach")
    # Users as its tokens have them: a tenant stands for a creator, also beside an empty list
    assert application.may_read({"user_id": "u", "creator_ids": [], "tenant_id": 7}, "creator_tenant_7")
    guard = application.TenantGuard({"id": "u", "creator_ids": ["b", "a"]})
    assert guard.get_allowed_namespaces() == ["creator_b_*", "creator_a_*"]


def test_its_audit_lines_are_json_in_the_log_that_it_watches(
    application: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="tenant_audit"):
        application.ingest(MINE, "coach", rows("a"))
        asyncio.run(application.search(request=application.Asked(MINE, "coach", ASKED), current_user=USER))
        application.may_read(USER, f"creator_{NEIGHBOUR}")

    lines = [
        (entry.levelname, json.loads(entry.getMessage())) for entry in caplog.records if entry.name == "tenant_audit"
    ]
    (level, query), (alarm, violation) = lines
    assert (level, query["event"], query["user_id"], query["result_count"]) == ("INFO", "vector_query", "user_123", 1)
    assert (alarm, violation["event"], violation["severity"]) == ("WARNING", "isolation_violation", "HIGH")
    assert query["timestamp"] and "vectors" not in query


def test_the_paths_of_the_other_seeds_lead_to_what_they_describe() -> None:
    from vecfleet import pgvector, tenancy
    from vecfleet.seeds import dynamic_embeddings
    from vecfleet.seeds.modules import embeddings_delphi, embeddings_v2, feature_flags, pinecone_monitoring

    assert embeddings_delphi.DelphiPineconeClient is tenancy.DelphiPineconeClient
    assert embeddings_v2.PineconeServerlessManager is tenancy.PineconeServerlessManager
    assert feature_flags.use_serverless is tenancy.use_serverless
    assert pinecone_monitoring.QueryMetrics is tenancy.QueryMetrics
    assert dynamic_embeddings.EmbeddingPipeline is pgvector.EmbeddingPipeline
    assert connection.DatabaseConnection is pgvector.DatabaseConnection
    assert schema.EmbeddingSchema is pgvector.EmbeddingSchema
    assert migration.NamespaceMigration is pgvector.NamespaceMigration
