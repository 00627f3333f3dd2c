"""An object from before its schema says on a real API server that it cannot be read."""

import copy

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import MERGE_PATCH, Json, Refused, eventually
from tests.integration.operator.sandbox import Sandbox, condition_of
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.api, pytest.mark.timeout(180)]

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/mcpbindings.interlock.dev"
INVALID = 422


def with_any_environment(versions: list[Json]) -> list[Json]:
    """Return the versions of the CRD as an earlier one may have had them: an environment is any text."""
    earlier = copy.deepcopy(versions)
    for version in earlier:
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        del spec["properties"]["environments"]["items"]["x-kubernetes-validations"]
    return earlier


def is_valid(sandbox: Sandbox, binding: Json) -> bool:
    """Return whether the API server would create a binding."""
    path = f"/apis/interlock.dev/v1alpha1/namespaces/{sandbox.namespace}/mcpbindings?dryRun=All"
    try:
        sandbox.api.request("POST", path, binding)
    except Refused as refusal:
        if refusal.status != INVALID:
            raise
        return False
    return True


@requirement("operator.unreadable")
def test_a_binding_from_before_its_schema_is_stalled(operator: OperatorProcess, sandbox: Sandbox) -> None:
    versions = sandbox.api.request("GET", CRD)["spec"]["versions"]
    old = objects.binding()
    old["spec"]["environments"] = ["The Moon"]
    sandbox.api.request("PATCH", CRD, {"spec": {"versions": with_any_environment(versions)}}, MERGE_PATCH)
    try:
        eventually(lambda: is_valid(sandbox, old), "the earlier schema is in force", 30)
        sandbox.api.create(old, sandbox.namespace)
    finally:
        sandbox.api.request("PATCH", CRD, {"spec": {"versions": versions}}, MERGE_PATCH)

    other = copy.deepcopy(old)
    other["metadata"]["name"] = "other"
    eventually(lambda: not is_valid(sandbox, other), "the present schema is in force", 30)
    spec = {"permissions": {"read": []}}
    path = f"/apis/interlock.dev/v1alpha1/namespaces/{sandbox.namespace}/mcpbindings/crm-sandbox"
    sandbox.api.request("PATCH", path, {"spec": spec}, MERGE_PATCH)

    def stalled() -> Json | None:
        found = condition_of(sandbox.binding("crm-sandbox"), "Stalled")
        return found if found.get("observedGeneration") == 2 else None

    found = eventually(stalled, lambda: f"it is Stalled, and not {sandbox.binding('crm-sandbox')}", 30)
    assert (found["status"], found["reason"]) == ("True", "SpecInvalid")
    assert "spec.environments" in found["message"]
    assert sandbox.binding("crm-sandbox")["status"]["observedGeneration"] == 2


@requirement("operator.unreadable")
def test_a_typo_that_the_api_server_lets_pass_ends_no_pod_and_a_kill_ends_them_all(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    before = {pod["metadata"]["uid"] for pod in sandbox.pods("triage")}
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    template = {"topologySpreadConstraints": [spread, spread], "image": "registry.example.com/agent:2.0"}
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"spec": {"template": template}})
    message = sandbox.wait_stalled("triage", "SpecInvalid")
    assert message.startswith("this Agent cannot be read: spec.template.topologySpreadConstraints: ")
    assert sandbox.condition("triage", "Serving")["status"] == "True"
    assert {pod["metadata"]["uid"] for pod in sandbox.pods("triage")} == before

    annotations = {objects.KILL_SWITCH: "a test"}
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"annotations": annotations}})
    eventually(lambda: not sandbox.pods("triage"), "no pod is left", 30)
    eventually(lambda: sandbox.replicas("triage") == 0, "no replica is wanted", 30)
