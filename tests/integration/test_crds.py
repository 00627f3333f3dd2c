"""The CRDs on a real API server: accepted, shown, and refusing with the sentences that Python says too."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.refusals import (
    duration_refusal,
    environment_refusal,
    owner_refusal,
    policy_ref_refusal,
    purpose_refusal,
    stage_order_refusals,
    task_scope_refusals,
)
from tests.integration import budget_values, cloud_values, egress_values, template_values, verification_values
from tests.integration.api_values import (
    BAD_HEADERS,
    BAD_SERVERS,
    BOTH_ANSWER,
    BOTH_SERVERS,
    GOOD,
    PERSONS,
    REFUSED,
    ROLES,
    SERVER_MISSING,
    agent,
    binding,
    header,
    stage,
    staged,
    without_absent,
)
from tests.integration.api_values import server as an_http_server
from tests.integration.kubectl import AGENT, BINDING, POLICY, Api, Kubectl, edited
from tests.integration.verification_values import BAD_VERIFICATIONS, probe
from tests.requirements import requirement

pytestmark = pytest.mark.api

KILL_COLUMNS = ("KILL-REQUESTED", "KILL-RELEASED", "KILL-REASON", "KILL-BY")


@pytest.fixture(scope="module")
def namespace(server: Api) -> Iterator[str]:
    with server.namespace() as name:
        assert server.create(POLICY, name).ok
        yield name


def python_refusals(manifest: dict[str, Any]) -> list[str]:
    """Everything that the reconciler would repeat."""
    spec = Agent.model_validate(manifest).spec
    durations = [duration_refusal(step.min_duration) for step in spec.stages if step.min_duration is not None]
    single = [
        owner_refusal(spec.owner),
        purpose_refusal(spec.purpose),
        policy_ref_refusal(spec.policy_ref),
        environment_refusal(spec),
        *durations,
    ]
    found = [message for message in single if message is not None]
    return [*found, *stage_order_refusals(spec.stages), *task_scope_refusals(spec)]


def label(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest["spec"].get("rollout") or manifest["spec"].get("owner"))[:80]


@pytest.mark.parametrize("manifest", BOTH_ANSWER, ids=label)
@requirement("governance.same-message")
def test_the_api_server_refuses_what_python_refuses_with_the_same_message(
    server: Api,
    namespace: str,
    manifest: dict[str, Any],
) -> None:
    expected = python_refusals(manifest)
    # Minimums of a policy are admission's business; CRD rules are checked before it.
    answer = server.try_create(manifest, namespace)
    if expected:
        assert not answer.ok
        assert [message for message in expected if message not in answer.text] == [], answer.text
    else:
        assert answer.ok or "ValidatingAdmissionPolicy" in answer.text, answer.text


LOCAL_PARTS = st.lists(
    st.sampled_from(["team", "Teams", "no", "reply", "ada", "support", "ops", "x", "1", ".", "_", "-", "+", "'", "%"]),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100)
@given(LOCAL_PARTS.map("".join))
def test_python_and_the_api_server_agree_on_generated_addresses(
    server: Api,
    namespace: str,
    local_part: str,
) -> None:
    manifest = agent(spec__owner__email=f"{local_part}@example.com")
    answer, expected = server.try_create(manifest, namespace), python_refusals(manifest)
    assert answer.ok is (expected == [])
    assert [message for message in expected if message not in answer.text] == []


@pytest.mark.parametrize("email", PERSONS)
def test_a_person_is_accepted_as_owner(email: str) -> None:
    assert python_refusals(agent(spec__owner__email=email)) == []


@pytest.mark.parametrize("email", ROLES)
def test_a_role_address_is_named_as_one(email: str) -> None:
    (message,) = python_refusals(agent(spec__owner__email=email))
    assert message == (
        f'spec.owner.email "{email}" is a role address: an agent is owned by a person, '
        "write that person's own address, such as ada@example.com"
    )


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        *REFUSED,
        *budget_values.REFUSED,
        *template_values.REFUSED,
        *verification_values.REFUSED,
        *cloud_values.REFUSED,
        *cloud_values.REFUSED_BY_ADMISSION,
        *egress_values.REFUSED,
        *egress_values.REFUSED_BY_ADMISSION,
    ],
    ids=lambda case: str(case)[:60] if case else "",
)
@requirement("crd.accepted", "budget.b7", "egress.refused")
def test_a_bad_value_is_refused_with_its_message(
    server: Api,
    namespace: str,
    manifest: dict[str, Any],
    message: str,
) -> None:
    answer = server.try_create(without_absent(manifest), namespace)
    assert not answer.ok
    assert message in answer.text


@pytest.mark.parametrize(
    "manifest",
    [
        *GOOD,
        *budget_values.GOOD,
        *template_values.GOOD,
        *verification_values.GOOD,
        *egress_values.GOOD,
        *cloud_values.GOOD,
    ],
    ids=lambda manifest: json.dumps(manifest["spec"])[:60],
)
@requirement("crd.accepted")
def test_a_good_value_is_admitted(server: Api, namespace: str, manifest: dict[str, Any]) -> None:
    answer = server.try_create(without_absent(manifest), namespace)
    assert answer.ok or "has no dataAccess row" in answer.text, answer.text


def test_the_largest_rollout_that_the_bounds_allow_fits_the_cost_limit(server: Api, namespace: str) -> None:
    values = [f"{i:02}-{'v' * 60}" for i in range(32)]
    scope = [{"dimension": f"d{i}", "values": values} for i in range(8)]
    stages = [stage(f"s{i}", "production", scope=scope, minDuration="99999h") for i in range(16)]
    places = [{"dimension": f"d{i}", "header": "X-Region"} for i in range(8)]
    manifest = edited(staged(*stages), spec__tasks={"port": 80, "scope": places})
    answer = server.try_create(manifest, namespace)
    assert answer.ok or "ValidatingAdmissionPolicy" in answer.text, answer.text


UNSAFE_TEXT = [
    agent(spec__files=[{"path": "../x"}]),
    agent(spec__template__env=[{"name": "INTERLOCK_SCOPE"}]),
    agent(spec__template__env=[{"name": "A=B"}]),
    agent(spec__bindings=[{"source": "../crm"}]),
    staged(stage("A", "staging")),
]


@pytest.mark.parametrize("manifest", UNSAFE_TEXT, ids=lambda manifest: json.dumps(manifest["spec"])[-60:])
def test_python_refuses_to_read_names_and_paths_that_the_api_server_refuses(
    server: Api,
    namespace: str,
    manifest: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError) as refusal:
        Agent.model_validate(manifest)
    error = refusal.value.errors()[0]
    assert error["msg"].removeprefix("Value error, ") in server.try_create(manifest, namespace).text


UNSAFE_SERVERS = [
    *((binding(spec__server=server), SERVER_MISSING) for server in ({}, BOTH_SERVERS)),
    *((an_http_server(**edits), message) for edits, message in BAD_SERVERS),
    *((header(**edits), message) for edits, message in BAD_HEADERS),
]


@pytest.mark.parametrize(("manifest", "message"), UNSAFE_SERVERS, ids=lambda case: str(case)[-60:])
@requirement("http.same-message")
def test_python_refuses_servers_with_the_message_of_the_api_server(manifest: dict[str, Any], message: str) -> None:
    # What the API server says to the very same values is in REFUSED.
    with pytest.raises(ValidationError) as refusal:
        MCPBinding.model_validate(manifest)
    assert message in refusal.value.errors()[0]["msg"]


@pytest.mark.parametrize(("manifest", "message"), BAD_VERIFICATIONS, ids=lambda case: str(case)[-60:])
def test_python_refuses_verifications_with_the_message_of_the_api_server(
    manifest: dict[str, Any], message: str
) -> None:
    # What the API server says to the very same values is in REFUSED.
    with pytest.raises(ValidationError) as refusal:
        MCPBinding.model_validate(manifest)
    assert message in refusal.value.errors()[0]["msg"]


@requirement("operator.blast-radius")
@pytest.mark.parametrize("level", ["[", '{"a":'])
def test_no_field_stores_json_of_any_depth(server: Api, namespace: str, level: str) -> None:
    """An object of 9 990 levels in a field of any JSON was stored, and then no list of its kind succeeded."""
    close = "]" if level == "[" else "}"
    deep = json.loads(level * 100 + ("" if level == "[" else "1") + close * 100)
    for manifest in (probe(arguments={"a": deep}), probe(arguments="{}", more=deep), binding(spec__more=deep)):
        answer = server.try_create(edited(manifest, metadata__name="deep"), namespace)
        assert not answer.ok or not re.search(r"\[\[\[|(\"a\": \{){3}", answer.text)


def test_apply_with_server_dry_run_says_every_problem_at_once(kubectl: Kubectl, namespace: str) -> None:
    manifest = agent(spec__owner__email="team@example.com", spec__purpose=None)
    answer = kubectl.run("apply", "--dry-run=server", "-n", namespace, "-f", "-", stdin=json.dumps(manifest))
    assert not answer.ok
    assert [message for message in python_refusals(manifest) if message not in answer.text] == []


def test_a_new_agent_is_unknown_and_its_status_cannot_be_sent_along(kubectl: Kubectl, namespace: str) -> None:
    manifest = agent(metadata__name="newborn", status={"observedGeneration": 1, "stage": {"name": "everywhere"}})
    assert kubectl.create(manifest, namespace).ok
    status = kubectl.must("get", "agent", "newborn", "-n", namespace, "-o", "json").json()["status"]
    assert status["observedGeneration"] == -1
    assert [(c["type"], c["status"], c["reason"]) for c in status["conditions"]] == [
        ("Ready", "Unknown", "WaitingForOperator"),
    ]
    assert "stage" not in status


def test_kubectl_get_shows_the_columns(kubectl: Kubectl, namespace: str) -> None:
    assert kubectl.create(agent(metadata__name="columns"), namespace).ok
    status = {
        "conditions": [
            condition("Ready", "True", "PodsReady"),
            condition("Killed", "False", "NotKilled"),
            condition("Serving", "False", "ServedInPart"),
            condition("PolicyEnforced", "True", "SelfTestPassed"),
            condition("EgressEnforced", "Unknown", "SharedPod"),
        ],
        "readyReplicas": 2,
        "readySummary": "2/3",
        "budget": {
            "environment": "production",
            "summary": "$12.40/$50",
            "spent": "12.40",
            "dailyBudget": "50",
            "monthlySpent": "12.40",
            "monthlyBudget": "",
            "forecast": "38.20",
            "resetsAt": "2026-01-02T00:00:00Z",
            "observedAt": "2026-01-01T00:00:00Z",
        },
        "stage": {
            "name": "one-region",
            "environment": "production",
            "scope": [{"dimension": "region", "values": ["eu-west"]}],
            "scopeSummary": "region=eu-west",
            "revision": "0a1b2c",
            "revisionName": "1-0a1b2c",
            "enteredAt": "2026-01-01T00:00:00.123456Z",
            "nextName": "everywhere",
            "nextAt": "2026-01-08T00:00:00Z",
        },
    }
    patch = json.dumps({"status": status})
    kubectl.must("patch", "agt", "columns", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    header, line = kubectl.must("get", "agt", "columns", "-n", namespace).text.splitlines()
    assert header.split() == ["NAME", "STAGE", "SCOPE", "READY", "STATUS", "REASON", "KILLED", "SPENT", "AGE"]
    shown = ["columns", "one-region", "region=eu-west", "2/3", "True", "PodsReady", "False", "$12.40/$50"]
    assert line.split()[:8] == shown
    header, line = kubectl.must("get", "agt", "columns", "-n", namespace, "-o", "wide").text.splitlines()
    stage = ["OWNER", "ENVIRONMENT", "POLICY", "REVISION", "NEXT", "NEXT-AT", "SERVING", "ENFORCED", "EGRESS"]
    assert header.split()[9:] == [*stage, "EXHAUSTED", "FORECAST", *KILL_COLUMNS]
    following = ["everywhere", "2026-01-08T00:00:00Z", "False", "True", "Unknown"]
    assert line.split()[9:18] == ["ada@example.com", "production", "support", "1-0a1b2c", *following]
    assert "38.20" in line.split()


def condition(name: str, status: str, reason: str) -> dict[str, str]:
    return {
        "type": name,
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def test_all_kinds_answer_to_the_category_and_their_short_names(kubectl: Kubectl, namespace: str) -> None:
    kubectl.must("create", "-n", namespace, "-f", "-", stdin=json.dumps(binding(metadata__name="cat")))
    names = kubectl.must("get", "interlock", "-n", namespace, "-o", "name").text.split()
    assert {"agentpolicy.interlock.dev/support", "mcpbinding.interlock.dev/cat"} <= set(names)
    for short_name in ("agt", "agtpol", "mcpb"):
        kubectl.must("get", short_name, "-n", namespace)


@pytest.mark.parametrize(
    ("kind", "selector"),
    [
        ("agents", "spec.environment=development"),
        ("agents", "spec.policyRef.name=support"),
        ("agentpolicies", "spec.rollout.requireLimitedScope=true"),
        ("mcpbindings", "spec.source=crm"),
    ],
)
def test_objects_are_found_by_field(kubectl: Kubectl, namespace: str, kind: str, selector: str) -> None:
    name = f"found-{next(_numbers)}"
    manifest = {"agents": AGENT, "agentpolicies": POLICY, "mcpbindings": BINDING}[kind]
    assert kubectl.create(edited(manifest, metadata__name=name), namespace).ok
    found = kubectl.must("get", kind, "-n", namespace, "--field-selector", selector, "-o", "name").text
    assert f"/{name}\n" in found
    field = selector.partition("=")[0]
    others = kubectl.must("get", kind, "-n", namespace, "--field-selector", f"{field}=other", "-o", "name").text
    assert name not in others


_numbers = itertools.count()


def test_server_side_apply_by_two_managers_does_not_widen_a_scope_in_silence(kubectl: Kubectl, namespace: str) -> None:
    def apply(manager: str, *values: str) -> bool:
        manifest = staged(stage("a", "development", *values)) | {"metadata": {"name": "merged"}}
        text = json.dumps(manifest)
        return kubectl.run(
            "apply", "--server-side", f"--field-manager={manager}", "-n", namespace, "-f", "-", stdin=text
        ).ok

    assert apply("one", "eu-west")
    assert not apply("two", "us-east")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("agents.interlock.dev", "One AI agent: owner, purpose, policy, tools, rollout"),
        ("agents.interlock.dev.spec.owner.email", "Addresses of roles and teams"),
        (
            "agents.interlock.dev.spec.rollout.stages.minDuration",
            "How long the stage must be Ready before the next stage starts",
        ),
        ("agentpolicies.interlock.dev.spec.rollout.minStaging", "Least sum of minDuration of all staging stages"),
        ("mcpbindings.interlock.dev.spec.tools.scope.pointer", "RFC 6901"),
    ],
)
def test_kubectl_explain_shows_the_docstrings(kubectl: Kubectl, field: str, words: str) -> None:
    assert words in " ".join(kubectl.must("explain", field).text.split())
