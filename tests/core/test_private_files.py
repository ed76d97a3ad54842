"""Files that tell of tenants are written for their owner alone, whatever the umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_table import plan_of, planned

from migrations.plan import read_plan, write_plan
from orchestrator.services.erase import write_certificate
from vecfleet.private import write_private
from vecfleet.stores.parquet.files import create_folder, draft_in, publish


@pytest.fixture(autouse=True)
def lax() -> Iterator[None]:
    """An account that lets everybody read and write what it makes."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


def test_plans_certificates_and_exports_are_their_owners(tmp_path: Path) -> None:
    write_plan(plan_of(planned("s", "t", 3)), tmp_path / "plans" / "plan.yaml")
    write_certificate(
        tmp_path / "certificates", {"erasure": 1, "where": [], "residual": [], "our_tables": {}, "subject": "digest"}
    )
    assert create_folder(tmp_path / "exports", "_index.json", {})
    with draft_in(tmp_path / "exports") as draft:
        draft.write_bytes(b"records")
        publish(draft, tmp_path / "exports" / "part.parquet")
    assert modes(tmp_path) == {0o600}
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 5


def test_a_file_that_everybody_could_read_is_replaced_by_one_that_its_owner_does(tmp_path: Path) -> None:
    place = tmp_path / "plan.yaml"
    place.write_text("older")
    plan = write_plan(plan_of(planned("s", "t", 3)), place)
    assert read_plan(place) == plan
    assert modes(tmp_path) == {0o600}
    write_private(place, "newer")
    assert place.read_text() == "newer" and modes(tmp_path) == {0o600}
