"""deploy/kubernetes, as far as it can be held to its word without a cluster: by the schemas of Kubernetes, by its
structure, and by the cluster's own tools where they are installed."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate
import pytest
import yaml

from tests.deploy.keda import OF_PROMETHEUS, SCALED_OBJECT
from vecfleet import __version__
from vecfleet.settings import Settings

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
RESOURCES: list[dict[str, Any]] = [
    document for file in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((FOLDER / file).read_text())
]
CONFIG = dict(literal.split("=", 1) for literal in KUSTOMIZATION["configMapGenerator"][0]["literals"])
SECRETS: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "secret.example.yaml").read_text()))
SECRET_KEYS = {secret["metadata"]["name"]: set(secret["stringData"]) for secret in SECRETS}
# What a cluster of version 1.27 or later serves without further ado, and what KEDA adds.
VERSIONS = {
    "Namespace": "v1",
    "Service": "v1",
    "PersistentVolumeClaim": "v1",
    "Job": "batch/v1",
    "Deployment": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "ScaledObject": "keda.sh/v1alpha1",
}
PODS = {one["metadata"]["name"]: one["spec"]["template"] for one in RESOURCES if one["kind"] in ("Job", "Deployment")}
TELEMETRY = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "SENTRY_DSN"}
VECTORS = {
    *("PINECONE_API_KEY", "PGVECTOR_URL", "PGVECTOR_OTHER_URL"),
    *("OPENAI_API_KEY", "COHERE_API_KEY", "VOYAGE_API_KEY"),
}
USED_BY = {
    "schema": {"DATABASE_URL"},
    "migrate": {"DATABASE_URL", "OWNER_DATABASE_URL"},
    "dispatcher": {
        *("DATABASE_URL", "REDIS_URL", "BROKER_URL"),
        *("TEXTS_DATABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "EMBEDDING_CACHE_KEY"),
        *("AUDIT_KEY", *VECTORS, *TELEMETRY),
    },
    "worker": {
        *("DATABASE_URL", "REDIS_URL", "BROKER_URL"),
        *("TEXTS_DATABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "EMBEDDING_CACHE_KEY"),
        *(*VECTORS, *TELEMETRY),
    },
    "web": {
        "DATABASE_URL",
        "REDIS_URL",
        "BROKER_URL",
        "OPERATOR_TOKEN",
        *("WEBHOOK_URL", *VECTORS, *TELEMETRY),
    },
    "flower": {"REDIS_URL", "BROKER_URL", "FLOWER_PASSWORD"},
}
DEPLOYMENTS = {one["metadata"]["name"]: one for one in RESOURCES if one["kind"] == "Deployment"}


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, pod in PODS.items():
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            yield f"{name}/{container['name']}", container


def kind(wanted: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in RESOURCES if one["kind"] == wanted}


def test_every_file_is_used_and_every_resource_is_one_that_a_cluster_knows() -> None:
    files = {path.name for path in FOLDER.iterdir()}
    assert files == {*KUSTOMIZATION["resources"], "kustomization.yaml", "secret.example.yaml"}
    assert {(one["kind"], one["apiVersion"]) for one in RESOURCES} == set(VERSIONS.items())
    names = [(one["kind"], one["metadata"]["name"]) for one in RESOURCES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("version", ["1.27", "1.31", "1.35"])
def test_clusters_of_every_age_take_each_resource_as_it_is(version: str) -> None:
    """Strictly: a field that the schema does not know is refused. KEDA's own resources have none there."""
    ours = [one for one in [*RESOURCES, *SECRETS] if not one["apiVersion"].startswith("keda.sh/")]
    assert len(ours) >= 15
    for one in ours:
        kubernetes_validate.validate(one, version, strict=True)


def test_it_has_every_process_of_the_fleet() -> None:
    assert set(PODS) == {"migrate", "dispatcher", "worker", "web", "flower"}


def test_whatever_selects_pods_finds_those_of_one_process() -> None:
    for name, deployment in DEPLOYMENTS.items():
        assert deployment["spec"]["selector"]["matchLabels"] == PODS[name]["metadata"]["labels"]
        assert PODS[name]["metadata"]["labels"]["app.kubernetes.io/component"] == name
    selectors = {
        **{f"service {name}": (name, one["spec"]["selector"]) for name, one in kind("Service").items()},
        **{
            f"budget {name}": (name, one["spec"]["selector"]["matchLabels"])
            for name, one in kind("PodDisruptionBudget").items()
        },
        **{
            f"policy {name}": (name, one["spec"]["podSelector"]["matchLabels"])
            for name, one in kind("NetworkPolicy").items()
            if name != "fleet"
        },
    }
    for what, (name, selector) in selectors.items():
        assert selector == PODS[name]["metadata"]["labels"], what


@pytest.mark.parametrize(("what", "container"), list(containers()))
def test_a_container_gets_settings_that_exist_and_runs_without_rights(what: str, container: dict[str, Any]) -> None:
    assert container["image"] == KUSTOMIZATION["images"][0]["name"]
    assert container["envFrom"] == [{"configMapRef": {"name": "vecfleet"}}]
    taken = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"]}
    assert all(reference["name"] == "vecfleet" and reference["key"] == name for name, reference in taken.items())
    always = {name for name, reference in taken.items() if not reference.get("optional")}
    assert always <= SECRET_KEYS["vecfleet"]
    assert set(taken) == USED_BY[container["name"]]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/files"}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_keeps_to_the_restricted_profile_and_gets_no_addresses_for_settings(name: str) -> None:
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    # A service called flower would set FLOWER_PORT to an address in every pod
    assert spec["enableServiceLinks"] is False
    mounted = {mount["name"] for one in spec["containers"] for mount in one["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_every_variable_is_one_that_the_settings_know_and_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {variable for spellings in Settings.variables().values() for variable in spellings}
    assert set(CONFIG) | SECRET_KEYS["vecfleet"] <= known
    assert not set(CONFIG) & SECRET_KEYS["vecfleet"]
    for variable, value in CONFIG.items():
        monkeypatch.setenv(variable, value)
    for variable, value in SECRETS[0]["stringData"].items():
        monkeypatch.setenv(variable, value)
    settings = Settings.load()
    assert settings.database_url and settings.redis_url and settings.log_format == "json"
    # And no key is in what is applied
    assert {one["kind"] for one in SECRETS} == {"Secret"} and "Secret" not in {one["kind"] for one in RESOURCES}


def test_each_process_says_how_to_tell_that_it_works_and_none_ends_for_an_outage_elsewhere() -> None:
    probes = {name: deployment["spec"]["template"]["spec"]["containers"][0] for name, deployment in DEPLOYMENTS.items()}
    assert all("readinessProbe" in container for container in probes.values())
    # Those that ask Postgres or Redis would, as liveness, end the whole fleet when one of these is away
    alive = {name: container["livenessProbe"] for name, container in probes.items() if "livenessProbe" in container}
    assert set(alive) == {"web", "flower"}
    for name, probe in alive.items():
        assert probe["httpGet"]["port"] in {port["name"] for port in probes[name]["ports"]}


def test_nothing_starts_before_the_schema_is_there() -> None:
    for name in ("dispatcher", "worker", "web"):
        [wait] = PODS[name]["spec"]["initContainers"]
        assert wait["command"] == ["python", "-m", "orchestrator", "jobs", "--json"]


def test_a_worker_has_the_time_that_it_needs_to_hand_back_what_it_has() -> None:
    needed = float(CONFIG["WORKER_GRACE_SECONDS"]) + float(CONFIG["REQUEST_DEADLINE_SECONDS"])
    assert PODS["worker"]["spec"]["terminationGracePeriodSeconds"] > needed


def test_workers_follow_a_figure_of_ours() -> None:
    [scaled] = kind("ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS
    assert "replicas" not in DEPLOYMENTS["worker"]["spec"]  # two who set it would fight over it
    [trigger] = scaled["spec"]["triggers"]
    # Whoever scrapes; test_monitoring holds that the fleet tells it
    assert trigger["metadata"]["query"] == "max(vecfleet_queue_depth)"
    assert trigger["metadata"]["threshold"] == CONFIG["WORKER_THREADS"]
    # Without Prometheus nobody is taken away
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert scaled["spec"]["fallback"]["replicas"] >= scaled["spec"]["minReplicaCount"]


def test_keda_takes_its_resource_as_it_is() -> None:
    [scaled] = kind("ScaledObject").values()
    jsonschema.validate(scaled, SCALED_OBJECT)
    for trigger in scaled["spec"]["triggers"]:
        assert trigger["type"] == "prometheus" and set(trigger["metadata"]) <= OF_PROMETHEUS
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**scaled, "spec": {**scaled["spec"], "maxReplicas": 8}}, SCALED_OBJECT)


def test_only_the_page_and_flower_can_be_reached() -> None:
    fleet = kind("NetworkPolicy")["fleet"]["spec"]
    assert fleet["ingress"] == [] and set(fleet["policyTypes"]) == {"Ingress", "Egress"}
    # And the fleet reaches names, the services of its secrets, and nothing else
    assert {port["port"] for rule in fleet["egress"] for port in rule["ports"]} == {
        *(53, 443, 4318, 5432, 6379, 5671, 5672),
    }
    for name, service in kind("Service").items():
        [rule] = kind("NetworkPolicy")[name]["spec"]["ingress"]
        assert [port["port"] for port in rule["ports"]] == [port["port"] for port in service["spec"]["ports"]]
        assert rule["from"]
    open_ports = {port["containerPort"] for _, one in containers() for port in one.get("ports", [])}
    assert open_ports == {8080, 5555}


def test_a_drained_node_stops_neither_the_fleet_nor_itself() -> None:
    budgets = {name: one["spec"] for name, one in kind("PodDisruptionBudget").items()}
    assert budgets["dispatcher"]["minAvailable"] < DEPLOYMENTS["dispatcher"]["spec"]["replicas"]
    assert "maxUnavailable" in budgets["worker"]


def test_the_image_is_of_this_version() -> None:
    assert KUSTOMIZATION["images"][0]["newTag"] == __version__


@pytest.mark.parametrize(
    "command", [["kustomize", "build"], ["kubectl", "kustomize"], ["kubeconform", "-strict", "-ignore-missing-schemas"]]
)
def test_the_clusters_own_tools_accept_it_where_they_are_installed(command: list[str]) -> None:
    """Without them the other tests hold the structure."""
    if shutil.which(command[0]) is None:
        return
    done = subprocess.run([*command, str(FOLDER)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
