"""The fields of KEDA's objects that we may use, as its documentation lists them, as a JSON schema.

Written from keda.sh/docs/2.15 (kedacore/keda-docs): reference/scaledobject-spec, scalers/redis-lists and
concepts/authentication. What we do not use, and what is deprecated, is left out: add it here from there first.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
WHOLE: Schema = {"type": "integer", "minimum": 0}
# Metadata are text, also where they mean a number or yes and no.
NUMBER_AS_TEXT: Schema = {"type": "string", "pattern": "^[0-9]+$"}
YES_OR_NO_AS_TEXT: Schema = {"enum": ["true", "false"]}


def _object(required: list[str], **fields: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": fields}


REDIS_LIST_TRIGGER = _object(
    ["type", "metadata"],
    type={"const": "redis"},
    name=TEXT,
    metricType={"enum": ["AverageValue", "Value"]},
    metadata=_object(
        ["address", "listName", "listLength"],
        address={"type": "string", "pattern": r"^[a-z0-9.-]+:[0-9]+$"},
        usernameFromEnv=TEXT,
        passwordFromEnv=TEXT,
        listName=TEXT,
        listLength=NUMBER_AS_TEXT,
        activationListLength=NUMBER_AS_TEXT,
        enableTLS=YES_OR_NO_AS_TEXT,
        unsafeSsl=YES_OR_NO_AS_TEXT,
        databaseIndex=NUMBER_AS_TEXT,
    ),
    authenticationRef=_object(
        ["name"], name=TEXT, kind={"enum": ["TriggerAuthentication", "ClusterTriggerAuthentication"]}
    ),
)

SPECIFICATIONS: dict[str, Schema] = {
    "ScaledObject": _object(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=_object(["name"], apiVersion=TEXT, kind=TEXT, name=TEXT, envSourceContainerName=TEXT),
        pollingInterval=WHOLE,
        cooldownPeriod=WHOLE,
        initialCooldownPeriod=WHOLE,
        idleReplicaCount={"const": 0},
        minReplicaCount=WHOLE,
        maxReplicaCount=WHOLE,
        fallback=_object(["failureThreshold", "replicas"], failureThreshold=WHOLE, replicas=WHOLE),
        advanced=_object(
            [],
            restoreToOriginalReplicaCount={"type": "boolean"},
            # `behavior` is Kubernetes' own, and is tested as such.
            horizontalPodAutoscalerConfig=_object([], name=TEXT, behavior={"type": "object"}),
        ),
        triggers={"type": "array", "minItems": 1, "items": REDIS_LIST_TRIGGER},
    ),
    "TriggerAuthentication": _object(
        ["secretTargetRef"],
        secretTargetRef={
            "type": "array",
            "items": _object(
                ["parameter", "name", "key"],
                parameter={"enum": ["username", "password", "tls", "ca", "cert", "key", "keyPassword"]},
                name=TEXT,
                key=TEXT,
            ),
        },
    ),
}
