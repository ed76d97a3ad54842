"""The fields that KEDA 2 takes in a ScaledObject, after its published resource definition. It refuses any other."""

from typing import Any


def _strictly(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


TEXT, NUMBER, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
_POLICY = _strictly(("type", "value", "periodSeconds"), type=TEXT, value=NUMBER, periodSeconds=NUMBER)
_RULES = _strictly(policies=_list(_POLICY), selectPolicy=TEXT, stabilizationWindowSeconds=NUMBER)
_AUTOSCALER = _strictly(behavior=_strictly(scaleDown=_RULES, scaleUp=_RULES), name=TEXT)
_TRIGGER = _strictly(
    ("type", "metadata"),
    type=TEXT,
    metadata=TEXTS,  # every value as text
    name=TEXT,
    metricType={"enum": ["AverageValue", "Value", "Utilization"]},
    useCachedMetrics=FLAG,
    authenticationRef=_strictly(("name",), name=TEXT, kind=TEXT),
)
SCALED_OBJECT = _strictly(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "keda.sh/v1alpha1"},
    kind={"const": "ScaledObject"},
    metadata=_strictly(("name",), name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=_strictly(
        ("scaleTargetRef", "triggers"),
        scaleTargetRef=_strictly(("name",), name=TEXT, kind=TEXT, apiVersion=TEXT, envSourceContainerName=TEXT),
        minReplicaCount=NUMBER,
        maxReplicaCount=NUMBER,
        idleReplicaCount=NUMBER,
        pollingInterval=NUMBER,
        cooldownPeriod=NUMBER,
        fallback=_strictly(("failureThreshold", "replicas"), failureThreshold=NUMBER, replicas=NUMBER),
        advanced=_strictly(horizontalPodAutoscalerConfig=_AUTOSCALER, restoreToOriginalReplicaCount=FLAG),
        triggers=_list(_TRIGGER),
    ),
)
# What its scaler `prometheus` reads of a trigger's metadata.
OF_PROMETHEUS = {"serverAddress", "query", "threshold", "activationThreshold", "namespace", "ignoreNullValues"}
