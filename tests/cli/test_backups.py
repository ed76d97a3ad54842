"""The vector database's own backups: taken before a job on request, listed, restored into a new index."""

import json
from pathlib import Path

from terminal import Brain, Vecfleet


def test_a_job_may_begin_with_a_backup_of_the_whole_index_which_restores_under_another_name(
    vecfleet: Vecfleet, brain: Brain
) -> None:
    # Given a plan, applied with a backup first
    assert vecfleet("plan", "creators", "brain", "--creator", "ana", "--out", "plan.yaml").code == 0
    applied = vecfleet("apply", "plan.yaml", "--backup")
    assert applied.code == 0, applied.err
    assert "what was written in the last 15 minutes" in applied.out
    # Then the way back names it
    listed = json.loads(vecfleet("backup", "list", "brain", "--json").out)["backups"]
    (taken,) = listed
    assert (taken["index"], taken["status"], taken["records"]) == ("brain", "Ready", 4)
    assert f"vecfleet backup restore {taken['id']} NAME" in applied.out
    assert vecfleet("backup", "list").out.endswith(f"next: vecfleet backup restore {taken['id']} brain-restored\n")
    # And it makes an index that holds what was there
    restored = vecfleet("backup", "restore", taken["id"], "brain-again")
    assert restored.code == 0, restored.err
    audit = vecfleet("audit", "brain-again")
    assert "first" in audit.out and "second" in audit.out


def test_a_backup_is_not_taken_for_a_plan_that_does_not_fit(vecfleet: Vecfleet, brain: Brain) -> None:
    vecfleet("plan", "creators", "brain", "--creator", "ana", "--out", "plan.yaml")
    brain.write("second", "b-3")
    assert vecfleet("apply", "plan.yaml", "--backup").code == 3
    assert vecfleet("backup", "list", "--json").json == {"backups": [], "next_steps": ["vecfleet audit"]}
    listed = vecfleet("backup", "list", "brain").out
    assert listed == "there is no backup of brain\nnext: vecfleet backup create brain\n"


def test_a_backup_that_is_not_there_is_looked_for_among_the_backups(vecfleet: Vecfleet, brain: Brain) -> None:
    answer = vecfleet("backup", "restore", "nope", "brain-again")
    assert answer.code != 0
    assert "vecfleet backup list" in answer.err and "audit" not in answer.err


def test_an_account_without_backups_is_told_what_else_there_is(vecfleet: Vecfleet, brain: Brain) -> None:
    brain.fault(operation="*", status=403, message="Backups are not available in your plan")
    answer = vecfleet("backup", "create", "brain")
    assert answer.code != 0
    assert "no backup was taken" in answer.err
    assert "vecfleet plan export" in answer.err
    assert not Path("plans").exists()
