"""The dashboard and the alert rules: what they ask for exists, and they alert where the thresholds say."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.core.states import JobState
from orchestrator.services import acts
from tests.stories.conftest import open_world
from tests.stories.serving import served
from tests.stories.world import SMALL, OpenWorld
from vecfleet.tenancy import query_metrics

__all__ = ["open_world"]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "vecfleet.json"
# Labels that the seeds' size would make 12,000 series of, or a million.
UNBOUNDED = {"namespace", "batch", "source", "target", "creator", "twin", "record"}
NAME = re.compile(r"\bvecfleet_\w+")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules()}


def asked_for() -> set[str]:
    """Every metric that a rule, a panel or the autoscaler names."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    asked += [rule["expr"] for rule in alerts().values()]
    scaled = yaml.safe_load((DEPLOY / "kubernetes" / "autoscaling.yaml").read_text())
    asked += [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
    return {name for expression in asked for name in NAME.findall(expression)}


@pytest.mark.parametrize(
    ("alert", "side"),
    [
        ("VecfleetMigrationSuccess", f"< {query_metrics.MIGRATION_SUCCESS:g} "),
        ("VecfleetCountMatch", f"< {query_metrics.COUNT_MATCH:g}"),
        ("VecfleetQueryP95Warning", f"> {query_metrics.P95_WARN_MS / 1000:g}"),
        ("VecfleetQueryP95", f"> {query_metrics.P95_PAGE_MS / 1000:g}"),
        ("VecfleetQueryP99", f"> {query_metrics.P99_MS / 1000:g}"),
        ("VecfleetQueryErrors", f"> {query_metrics.ERROR_RATE:g}"),
        ("VecfleetErasureSlow", f'le="{query_metrics.ERASURE_S:.1f}"'),
    ],
)
def test_an_alert_comes_at_the_threshold_that_the_code_has(alert: str, side: str) -> None:
    expression = alerts()[alert]["expr"] + " "
    assert side in expression


def test_each_alert_has_a_name_of_its_own_so_that_it_can_be_silenced_alone() -> None:
    names = [rule["alert"] for rule in rules()]
    assert sorted(set(names)) == sorted(names)


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    for name, rule in alerts().items():
        assert set(rule["annotations"]) == {"summary", "action"}, name
        assert rule["labels"]["severity"] in ("warn", "page"), name
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, name


def test_the_dashboard_is_one_and_its_panels_do_not_overlap() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert board["uid"] == "vecfleet"
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        fields = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not fields & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= fields
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_prometheus_accepts_the_rules() -> None:
    """Its own `promtool` says so where there is one; the other tests hold the file's shape everywhere."""
    program = shutil.which("promtool")
    if program is None:
        assert yaml.safe_load((RULES.parent / "prometheus.yml").read_text())["rule_files"] == [RULES.name]
        return
    for kind, file in (("rules", RULES), ("config", RULES.parent / "prometheus.yml")):
        checked = subprocess.run([program, "check", kind, str(file)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture
def told(open_world: OpenWorld) -> Iterator[dict[str, Any]]:
    """Yield what /metrics tells once a job of a real fleet is cleaned up, by name of the metric."""
    world = open_world()
    world.fill(alma=20, bruno=10)
    with served(world) as address:
        world.start(workers=1)
        job_id = world.apply(world.plan(SMALL, cut_over="none"))
        world.reaches(job_id, JobState.VERIFIED)
        acts.clean_up(world.fleet.database, job_id, "a person", by_ids=False)
        world.reaches(job_id, JobState.CLEANED)
        # What workers count comes within a second
        text = world.until("the calls are counted", lambda: counted(httpx.get(f"{address}/metrics").text))
    yield {family.name: family for family in text_string_to_metric_families(text)}


@pytest.mark.story
def test_what_they_ask_for_is_told_of_a_real_run(told: dict[str, Any]) -> None:
    # Every metric that is named is one, whether or not it has a value yet
    names = {
        name
        for family in told.values()
        for suffix in ("", "_total", "_bucket", "_count", "_sum")
        for name in (family.name + suffix,)
    }
    assert asked_for() - names == set()
    # And the run is told as it was
    records = {sample.labels["outcome"]: sample.value for sample in told["vecfleet_job_records"].samples}
    assert (records["listed"], records["written"], records["deleted"]) == (30, 30, 30)
    steps = {sample.labels["step"] for sample in told["vecfleet_job_requests"].samples}
    assert {"list", "copy", "verify", "survey"} <= steps
    assert one(told, "vecfleet_job_table_up") == 1 and one(told, "vecfleet_dispatcher_leads") == 1
    assert one(told, "vecfleet_job_unproven_seconds") == 0
    done = [
        sample.value
        for sample in told["vecfleet_job_batch_seconds"].samples
        if sample.name.endswith("_count") and sample.labels["step"] == "copy"
    ]
    assert done == [2]
    calls = {(s.labels["operation"], s.labels["answer"]): s.value for s in told["vecfleet_calls"].samples}
    assert min(calls["list", "ok"], calls["fetch", "ok"], calls["upsert", "ok"]) >= 2
    # No label can become many
    labels = {label for family in told.values() for sample in family.samples for label in sample.labels}
    assert not labels & UNBOUNDED
    # Nor is one of those that Prometheus sets itself, and would rename
    assert not labels & {"job", "instance"}


def counted(text: str) -> str | None:
    """The metrics, once the last deletions are among the calls."""
    return text if 'vecfleet_calls_total{answer="ok",operation="delete"}' in text else None


def one(told: dict[str, Any], name: str) -> float:
    [sample] = told[name].samples
    return float(sample.value)
