"""The Kubernetes manifests are valid, agree with one another and with the project, and run commands that it takes."""

import shlex
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from agrl.config.compose import load_config
from tests.unit.deploy.kuberay import schemas

ROOT = Path(__file__).parents[3]
MANIFESTS = ROOT / "deploy" / "kubernetes"
KUBERNETES = "1.37"
DEVICES = ("cpu", "gpu")


def read(name: str) -> dict:
    return yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())


def cluster_of(manifest: dict) -> dict:
    return manifest["spec"].get("rayClusterSpec", manifest["spec"])


def templates(cluster: dict) -> list[dict]:
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def all_templates() -> list:
    names = [f"{kind}-{device}" for kind in ("raycluster", "rayjob") for device in DEVICES]
    return [pytest.param(t, id=f"{n}-{i}") for n in names for i, t in enumerate(templates(cluster_of(read(n))))]


def check(manifest: dict) -> None:
    for schema in schemas(manifest["kind"]):
        jsonschema.Draft202012Validator(schema).validate(manifest)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["raycluster", "rayjob"])
def test_kuberay_takes_every_field(kind, device):
    manifest = read(f"{kind}-{device}")
    check(manifest)
    cluster_of(manifest)["headGroupSpec"]["rayStartParam"] = {}
    with pytest.raises(jsonschema.ValidationError, match="rayStartParam"):
        check(manifest)


@pytest.mark.parametrize("template", all_templates())
def test_kubernetes_takes_every_pod(template):
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    template["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("template", all_templates())
def test_every_pod_shares_the_storage_and_has_memory_for_shared_memory(template):
    claim = read("shared-storage")
    kubernetes_validate.validate(claim, KUBERNETES, strict=True)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    (container,) = template["spec"]["containers"]
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert mounts["/shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    memory = mounts["/dev/shm"]["emptyDir"]
    assert memory["medium"] == "Memory"
    assert gib(memory["sizeLimit"]) < gib(container["resources"]["limits"]["memory"])  # of which it is a part
    assert container["resources"]["limits"] == container["resources"]["requests"]  # what Ray counts is there
    assert template["spec"]["securityContext"]["runAsNonRoot"]


def gib(quantity: str) -> int:
    assert quantity.endswith("Gi")
    return int(quantity.removesuffix("Gi"))


@pytest.mark.parametrize("device", DEVICES)
def test_a_cluster_asks_for_a_token_is_not_reached_from_outside_and_has_the_pinned_ray(device):
    cluster = cluster_of(read(f"raycluster-{device}"))
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "requirements" / "cpu.txt").read_text().splitlines()
    for template in templates(cluster):
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert template["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])


@pytest.mark.parametrize("device", DEVICES)
def test_a_job_has_the_cluster_of_the_other_file_and_runs_a_command_that_fits_on_it(device):
    job = read(f"rayjob-{device}")
    cluster = cluster_of(job)
    assert cluster == cluster_of(read(f"raycluster-{device}"))
    agrl, train, *overrides = shlex.split(job["spec"]["entrypoint"])
    assert (agrl, train) == ("agrl", "train")
    config = load_config(overrides)
    learner, rollout = config.learner, config.rollout
    asked = learner.ranks * learner.gpus_per_rank + rollout.actors * rollout.gpus_per_actor
    (workers,) = cluster["workerGroupSpecs"]
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert asked == workers["replicas"] * int(limits.get("nvidia.com/gpu", 0))
    assert learner.ranks + rollout.actors + config.reward.actors <= workers["replicas"] * int(limits["cpu"])
