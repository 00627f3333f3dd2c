"""A change of an agent that serves production, against a real API server: the last good revision serves meanwhile."""

import json
from typing import Any

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.sandbox import Sandbox, condition_of
from tests.support.operator_process import OperatorProcess

REGION = [{"dimension": "region", "values": ["eu-west"]}]


@pytest.mark.nightly  # test_operator_weeks has such a change, with weeks for seconds
def test_a_change_of_a_served_agent_passes_the_stages_next_to_the_good_revision(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    serve(sandbox)
    good = only_deployment(sandbox, "everywhere")
    with sandbox.api.watching("agents", sandbox.namespace) as versions:
        change(sandbox, "registry.example.com/agent:2.0", soak="4s")
        region = eventually(lambda: placements(sandbox, "one-region"), "the new revision serves one region")
        assert {one["serves"] for one in region} == {"region=eu-west", "all but region=eu-west"}
        eventually(
            lambda: bundle_of(sandbox, "everywhere").get("excluded") == [REGION], "guards know what others serve"
        )
        kept = only_deployment(sandbox, "everywhere")
        assert (kept["metadata"]["uid"], kept["metadata"]["generation"]) == (
            good["metadata"]["uid"],
            good["metadata"]["generation"],
        ), "pods of the good revision were restarted"
        eventually(
            lambda: image_of(sandbox, "everywhere") == {"registry.example.com/agent:2.0"}, "only the new one runs"
        )
        sandbox.wait_ready("triage")
    assert all(
        condition_of(one["object"], "Serving").get("status") == "True"
        for one in versions
        if one["object"]["metadata"]["generation"] > 1
    ), "production was not served all the way"
    assert names_of(sandbox) == ["triage-1", "triage-2"]
    eventually(lambda: sandbox.condition("triage", "Progressing")["reason"] == "RolloutComplete", "it is good")


def test_a_refused_spec_leaves_the_good_revision_running(operator: OperatorProcess, sandbox: Sandbox) -> None:
    serve(sandbox)
    good = only_deployment(sandbox, "everywhere")
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"spec": {"bindings": [{"source": "mail"}]}})
    eventually(lambda: sandbox.condition("triage", "Ready")["reason"] == "DataAccessMissing", "the spec is refused")
    assert only_deployment(sandbox, "everywhere")["metadata"]["uid"] == good["metadata"]["uid"]
    assert sandbox.condition("triage", "Serving")["status"] == "True"


@pytest.mark.nightly  # test_operator_weeks restarts the operator in each stage
def test_an_operator_that_restarts_in_mid_rollout_restarts_no_pod_and_gives_no_number_twice(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    serve(sandbox)
    change(sandbox, "registry.example.com/agent:2.0", soak="600s")
    sandbox.wait_ready("triage")
    before = deployments(sandbox)
    operator.stop()
    operator.start()
    change(sandbox, "registry.example.com/agent:3.0", soak="600s")
    eventually(
        lambda: image_of(sandbox, "staging") == {"registry.example.com/agent:3.0"}, "the third replaces the second"
    )
    rollout = sandbox.agent("triage")["status"]["rollout"]
    assert (rollout["newest"]["number"], rollout["good"]["number"]) == (3, 1)
    [good] = [one for one in before if stage_of(one) == "everywhere"]
    assert only_deployment(sandbox, "everywhere")["metadata"]["generation"] == good["metadata"]["generation"]


def serve(sandbox: Sandbox) -> None:
    """Let the first revision pass all stages."""
    sandbox.apply_policy_and_bindings("triage", production=True)
    sandbox.create("triage", rollout=objects.stages("1s"))
    sandbox.wait_stage("triage", "everywhere")
    eventually(lambda: sandbox.condition("triage", "Progressing")["reason"] == "RolloutComplete", "it is good")
    sandbox.wait_deployed("triage", "everywhere")


def change(sandbox: Sandbox, image: str, *, soak: str) -> None:
    spec: dict[str, Any] = {"template": {"image": image}, "rollout": objects.stages(soak)}
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"spec": spec})


def deployments(sandbox: Sandbox) -> list[Json]:
    return sandbox.children("triage").get("Deployment", [])


def stage_of(child: Json) -> str:
    return str(child["metadata"]["labels"]["interlock.dev/stage"])


def only_deployment(sandbox: Sandbox, stage: str) -> Json:
    [found] = [one for one in deployments(sandbox) if stage_of(one) == stage]
    return found


def image_of(sandbox: Sandbox, stage: str) -> set[str]:
    """Return the agent's images in a stage; empty while another stage has pods of the same revision."""
    containers = (
        container
        for one in deployments(sandbox)
        if stage_of(one) == stage
        for container in one["spec"]["template"]["spec"]["containers"]
    )
    return {str(one["image"]) for one in containers if one["name"] == "agent"}


def placements(sandbox: Sandbox, stage: str) -> list[Json] | None:
    """Return the placements of the status once that of the stage serves."""
    found: list[Json] = sandbox.agent("triage")["status"].get("placements", [])
    serving = [one for one in found if one["stage"] == stage and one["serves"] != "nothing yet"]
    return [one for one in found if one["environment"] == "production"] if serving and len(found) == 2 else None


def bundle_of(sandbox: Sandbox, stage: str) -> Json:
    texts = [
        one["data"]["bundle.json"]
        for one in sandbox.children("triage")["ConfigMap"]
        if "bundle.json" in one.get("data", {}) and stage_of(one) == stage
    ]
    loaded: Json = json.loads(texts[0])
    return loaded


def names_of(sandbox: Sandbox) -> list[str]:
    found = sandbox.api.request("GET", f"/apis/apps/v1/namespaces/{sandbox.namespace}/controllerrevisions")["items"]
    return sorted(one["metadata"]["name"].rpartition("-")[0] for one in found)
