"""The fields of KubeRay's resources that deploy/ uses, as JSON schemas that refuse every other field.

Written from the custom resource definitions of KubeRay 1.7.0, ray-operator/config/crd/bases of ray-project/kuberay.
What is Kubernetes' own, pod templates and metadata, is checked as such. Where KUBERAY_CRDS names a copy of that folder,
the manifests are checked against the definitions themselves, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

TEXT, COUNT, YES_OR_NO = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
KUBERNETES = {"type": "object"}  # checked elsewhere


def fields(required: str = "", **known: Any) -> dict[str, Any]:
    return {"type": "object", "properties": known, "required": required.split(), "additionalProperties": False}


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    version, kinds = {"const": "ray.io/v1"}, {"const": kind}
    return fields("apiVersion kind metadata spec", apiVersion=version, kind=kinds, metadata=KUBERNETES, spec=spec)


START_PARAMETERS = {"type": "object", "additionalProperties": TEXT}  # numbers, too, are text here
HEAD = fields(
    "template",
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    rayStartParams=START_PARAMETERS,
    template=KUBERNETES,
)
WORKERS = fields(
    "groupName minReplicas maxReplicas template",
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=START_PARAMETERS,
    template=KUBERNETES,
)
CLUSTER = fields(
    "headGroupSpec",
    rayVersion=TEXT,
    authOptions=fields(mode={"enum": ["disabled", "token"]}, secretName=TEXT),
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
JOB = fields(
    entrypoint=TEXT,
    backoffLimit=COUNT,
    submitterConfig=fields(backoffLimit=COUNT),
    shutdownAfterJobFinishes=YES_OR_NO,
    ttlSecondsAfterFinished=COUNT,
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    rayClusterSpec=CLUSTER,
)


def schemas(kind: str) -> list[dict[str, Any]]:
    """What a resource of ``kind`` must pass: ours, and KubeRay's own where it is here."""
    found = [resource(kind, {"RayCluster": CLUSTER, "RayJob": JOB}[kind])]
    if folder := os.environ.get("KUBERAY_CRDS"):
        definition = yaml.safe_load((Path(folder) / f"ray.io_{kind.lower()}s.yaml").read_text())
        version = next(v for v in definition["spec"]["versions"] if v["name"] == "v1")
        found.append(_closed(version["schema"]["openAPIV3Schema"]))
    return found


def _closed(schema: Any) -> Any:
    """Kubernetes drops unknown fields without a word: here they are refused."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(part) for key, part in schema.items()}
    if found.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    if isinstance(found.get("properties"), dict) and "type" in found:
        found.setdefault("additionalProperties", False)
    return found
