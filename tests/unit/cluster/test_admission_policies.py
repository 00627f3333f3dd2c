"""The admission policies as the operator compares them: what counts as a difference, and when it is reported."""

import copy
import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from interlock.cluster.admission_policies import DIGESTS_FILE, KINDS, AdmissionPolicies, digest_policy
from interlock.cluster.event_poster import EventPoster
from interlock.reconcile.agent_events import EventNote
from interlock_kube.client import ApiError
from tests.requirements import requirement
from tests.support.builders import NOW
from tests.support.fake_client import FakeClient
from tools import admission

PATHS = {kind.kind: kind.everywhere() for kind in KINDS}
MANIFESTS = {(one["kind"], one["metadata"]["name"]): one for one in admission.policies()}
POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
NAME = "managed-objects.interlock.dev"


def path_of(kind: str, name: str) -> str:
    return f"{PATHS[kind]}/{name}"


class Scene:
    def __init__(self) -> None:
        self.client: Any = FakeClient()
        self.notes: list[EventNote] = []
        for (kind, name), manifest in MANIFESTS.items():
            self.client.put(path_of(kind, name), manifest)
        self.policies = AdmissionPolicies(self.client, lambda _, note: self.notes.append(note), "interlock-system")

    async def read(self) -> float:
        self.client.forget_requests()
        await self.policies.read()
        value = REGISTRY.get_sample_value("interlock_admission_policies_changed")
        assert value is not None
        return value

    def change(self, kind: str, name: str, **changes: Any) -> None:
        changed = copy.deepcopy(self.client.objects[path_of(kind, name)])
        changed["spec"] |= changes
        self.client.put(path_of(kind, name), changed)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@requirement("protection.watched")
def test_the_digests_are_those_of_the_manifests(capsys: pytest.CaptureFixture[str]) -> None:
    assert admission.main(["--check"]) == 0, capsys.readouterr().err


def test_each_policy_has_its_digest_and_a_binding() -> None:
    digests = json.loads(DIGESTS_FILE.read_text(encoding="utf-8"))
    assert {(kind, name) for kind, names in digests.items() for name in names} == set(MANIFESTS)
    bound = {one["spec"]["policyName"] for (kind, _), one in MANIFESTS.items() if kind.endswith("Binding")}
    assert bound == {name for kind, name in MANIFESTS if kind.endswith("Policy")}


async def test_all_policies_as_in_the_manifests_are_no_difference_and_are_read_once(scene: Scene) -> None:
    assert await scene.read() == 0
    assert len(scene.client.requests) == len(KINDS) + len(MANIFESTS)
    assert await scene.read() == 0
    assert len(scene.client.requests) == len(KINDS), "lists of metadata alone"
    assert scene.notes == []


@requirement("protection.watched")
@pytest.mark.parametrize(("kind", "name"), MANIFESTS, ids=str)
async def test_each_policy_that_is_deleted_is_reported_once_and_so_is_its_return(
    scene: Scene, kind: str, name: str
) -> None:
    await scene.read()
    gone = scene.client.objects.pop(path_of(kind, name))
    assert await scene.read() == 1
    assert await scene.read() == 1
    scene.client.put(path_of(kind, name), gone)
    assert await scene.read() == 0
    assert [note.reason for note in scene.notes] == ["AdmissionPoliciesChanged", "AdmissionPoliciesRestored"]
    assert f"{kind} {name} is missing" in scene.notes[0].message


RULES = MANIFESTS[POLICY, NAME]["spec"]["matchConstraints"]
WEAKER: dict[str, tuple[str, dict[str, Any]]] = {
    "no refusal": (BINDING, {"validationActions": ["Audit", "Warn"]}),
    "another policy": (BINDING, {"policyName": "other.example.com"}),
    "fewer namespaces": (BINDING, {"matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}),
    "fewer requests": (BINDING, {"matchResources": {"resourceRules": RULES["resourceRules"][:1]}}),
    "an exception": (BINDING, {"matchResources": {"excludeResourceRules": RULES["resourceRules"][:1]}}),
    "parameters": (BINDING, {"paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"}}),
    "always true": (POLICY, {"validations": [{"expression": "true"}]}),
    "no validation": (POLICY, {"validations": []}),
    "failures pass": (POLICY, {"failurePolicy": "Ignore"}),
    "a condition": (POLICY, {"matchConditions": [{"name": "never", "expression": "false"}]}),
    "a variable": (POLICY, {"variables": []}),
    "fewer rules": (POLICY, {"matchConstraints": RULES | {"resourceRules": RULES["resourceRules"][1:]}}),
    "fewer objects": (POLICY, {"matchConstraints": RULES | {"objectSelector": {"matchLabels": {"message": "x"}}}}),
    "exact versions": (POLICY, {"matchConstraints": RULES | {"matchPolicy": "Exact"}}),
    "cluster alone": (
        POLICY,
        {"matchConstraints": RULES | {"resourceRules": [one | {"scope": "Cluster"} for one in RULES["resourceRules"]]}},
    ),
}


@requirement("protection.watched")
@pytest.mark.parametrize(("kind", "changes"), WEAKER.values(), ids=list(WEAKER))
async def test_a_weaker_policy_or_binding_is_reported(scene: Scene, kind: str, changes: dict[str, Any]) -> None:
    scene.change(kind, NAME, **changes)
    assert await scene.read() == 1
    assert f"{kind} {NAME} differs" in scene.notes[0].message


SAME: dict[str, tuple[str, dict[str, Any]]] = {
    "further actions": (BINDING, {"validationActions": ["Deny", "Audit"]}),
    "defaults of a binding": (BINDING, {"matchResources": {"matchPolicy": "Equivalent", "namespaceSelector": {}}}),
    "defaults of a policy": (
        POLICY,
        {
            "failurePolicy": "Fail",
            "matchConstraints": RULES
            | {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {},
                "resourceRules": [one | {"scope": "*"} for one in RULES["resourceRules"]],
            },
        },
    ),
    "texts": (
        POLICY,
        {
            "validations": [
                {"expression": one["expression"], "message": "ask the platform team"}
                for one in MANIFESTS[POLICY, NAME]["spec"]["validations"]
            ],
            "auditAnnotations": [{"key": "a", "valueExpression": "'b'"}],
        },
    ),
}


@pytest.mark.parametrize(("kind", "changes"), SAME.values(), ids=list(SAME))
async def test_what_does_not_decide_is_no_difference(scene: Scene, kind: str, changes: dict[str, Any]) -> None:
    scene.change(kind, NAME, **changes)
    scene.client.put(path_of(kind, "others.example.com"), {"metadata": {"name": "others.example.com"}, "spec": {}})
    assert await scene.read() == 0


async def test_a_version_that_serves_no_mutating_policies_lacks_none(scene: Scene) -> None:
    for kind in ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"):
        scene.client.refuse("GET", PATHS[kind], status=404)
    assert await scene.read() == 0
    scene.client.refuse("GET", PATHS[POLICY], status=404)
    assert await scene.read() == -1, "every supported version serves the others"


@requirement("protection.watched")
async def test_policies_that_cannot_be_read_are_unknown_which_is_logged_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    assert await scene.read() == 0
    for _ in range(2):
        scene.client.break_with(ApiError(403, "forbidden"), "GET", PATHS[BINDING])
        assert await scene.read() == -1
    assert [one.message for one in caplog.records].count("the admission policies cannot be read") == 1
    assert await scene.read() == 0
    assert scene.notes == []


async def test_the_event_is_one_of_the_operators_deployment_and_says_what_to_do() -> None:
    client: Any = FakeClient()
    events = EventPoster(client, "operator-1", lambda: NOW)
    await AdmissionPolicies(client, events.post, "interlock-system").read()
    await events.close()
    (event,) = client.of_kind("Event").values()
    assert event["metadata"]["namespace"] == "interlock-system"
    regarding = {name: event["regarding"][name] for name in ("apiVersion", "kind", "name")}
    assert regarding == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "interlock"}
    assert event["note"].startswith(f"{len(MANIFESTS)} admission policies or bindings are not those of this version")
    assert "apply manifests/admission again: " in event["note"], "even if not all of them have room"


def test_an_object_without_a_spec_has_a_digest() -> None:
    assert digest_policy({"metadata": {"name": "x"}}) == digest_policy({"spec": None})
