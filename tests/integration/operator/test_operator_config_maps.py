"""ConfigMaps of agents against a real API server: an edit passes the stages, and a rollback has the earlier content."""

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import Json, Refused, eventually
from tests.integration.operator.sandbox import REFUSED_SECONDS, ROLLOUT_SECONDS, Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

COPY_OF = "interlock.dev/copy-of"
ENV: list[Json] = [{"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}}]
ROLLBACK = "interlock.dev/rollback"


@requirement("revision.config-maps", "config-maps.copies")
def test_an_edited_config_map_soaks_and_a_rollback_brings_its_content_back(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    write(sandbox, level="info", other="1")
    sandbox.create("triage", rollout=objects.stages("1s"), template=template())
    sandbox.wait_good("triage", 1)
    first = sandbox.agent("triage")["status"]["rollout"]["good"]
    [good] = copies(sandbox)
    assert (good["immutable"], good["data"]) == (True, {"level": "info"}), "only the key that is referred to"

    soak(sandbox, "600s")
    write(sandbox, other="2", level="debug")
    eventually(lambda: levels(sandbox) == {"staging": "debug", "everywhere": "info"}, "the edit soaks", ROLLOUT_SECONDS)
    for copy in copies(sandbox):
        with pytest.raises(Refused, match="immutable"):
            sandbox.api.patch("configmaps", sandbox.namespace, copy["metadata"]["name"], {"data": {"level": "x"}})
        name = copy["metadata"]["name"]  # a copy is written before its Deployment
        eventually(lambda name=name: name in used_by(sandbox), "a pod refers to each copy")
    assert "settings" not in used_by(sandbox)

    sandbox.api.delete("configmaps", sandbox.namespace, "settings")
    sandbox.api.delete("configmaps", sandbox.namespace, good["metadata"]["name"])
    eventually(
        lambda: levels(sandbox) == {"staging": "debug", "everywhere": "info"}, "the copy is back", REFUSED_SECONDS
    )
    eventually(lambda: sandbox.condition("triage", "Deployed")["reason"] == "ConfigMapMissing", "it says what is gone")
    write(sandbox, level="debug")
    soak(sandbox, "1s")
    sandbox.wait_good("triage", 2)
    eventually(lambda: levels(sandbox) == {"everywhere": "debug"}, "the copy of the first revision is gone")

    name = f"{first['number']}-{first['digest'][:10]}"
    change = {"metadata": {"annotations": {ROLLBACK: name, f"{ROLLBACK}-by": "kwok-admin"}}}
    sandbox.api.patch("agents", sandbox.namespace, "triage", change)
    eventually(lambda: levels(sandbox).get("everywhere") == "info", "the earlier content is back", ROLLOUT_SECONDS)


@requirement("config-maps.missing", "config-maps.refused")
def test_a_missing_config_map_is_waited_for_and_one_of_interlock_is_refused(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage", "spy")
    sandbox.create("triage", template=template())
    message = sandbox.wait_stalled("triage", "ConfigMapMissing")
    assert "ConfigMap settings, to which spec.template.env[LEVEL] refers, does not exist" in message
    write(sandbox, level="info")
    sandbox.wait_ready("triage")

    [bundle] = [one["metadata"]["name"] for one in sandbox.children("triage")["ConfigMap"] if is_bundle(one)]
    volume = {"name": "loot", "configMap": {"name": bundle}}
    sandbox.create("spy", template={**template(), "env": [], "volumes": [volume]})
    assert "belongs to Interlock" in sandbox.wait_stalled("spy", "ConfigMapRefused")
    assert not sandbox.children("spy").get("Deployment")


def write(sandbox: Sandbox, **data: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}
    sandbox.api.apply(manifest, sandbox.namespace)


def template() -> Json:
    found: Json = objects.agent("any")["spec"]["template"]
    return {**found, "env": ENV}


def soak(sandbox: Sandbox, span: str) -> None:
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"spec": {"rollout": objects.stages(span)}})


def copies(sandbox: Sandbox) -> list[Json]:
    found = sandbox.children("triage").get("ConfigMap", [])
    return [one for one in found if one["metadata"]["annotations"].get(COPY_OF) == "settings"]


def levels(sandbox: Sandbox) -> dict[str, str]:
    """Return the value of each placement's copy by its stage."""
    return {one["metadata"]["labels"]["interlock.dev/stage"]: one["data"]["level"] for one in copies(sandbox)}


def used_by(sandbox: Sandbox) -> set[str]:
    """Return the ConfigMaps that variables of the agent's pods refer to."""
    pods = (one["spec"]["template"]["spec"] for one in sandbox.children("triage")["Deployment"])
    variables = (variable for pod in pods for one in pod["containers"] for variable in one["env"])
    references = (one.get("valueFrom", {}).get("configMapKeyRef") for one in variables)
    return {str(one["name"]) for one in references if one is not None}


def is_bundle(child: Json) -> bool:
    return str(child["metadata"]["labels"]["app.kubernetes.io/component"]) == "bundle"
