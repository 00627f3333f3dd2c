from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from interlock.api.agent import Agent, File, Stage, Tasks
from interlock.api.binding import MCPBinding
from interlock.api.container_env import EnvVar
from interlock.api.pod_policy import PodMaximums
from interlock.api.policy import AgentPolicy, ContainerDefaults
from interlock.api.shared_types import EnvironmentClass, ResourceAmounts, Resources, ScopeDimension
from interlock.api.status import AgentReason, AgentStatus, Condition, ConditionType, StageStatus
from interlock.api.volumes import EmptyDirVolume

AGENT: dict[str, Any] = {
    "apiVersion": "interlock.dev/v1alpha1",
    "kind": "Agent",
    "metadata": {"name": "triage", "namespace": "agents", "uid": "u", "generation": 2, "annotations": {"a": "b"}},
    "spec": {
        "owner": {"name": "Ada Example", "email": "ada@example.com"},
        "purpose": "Sort tickets",
        "policyRef": {"name": "support"},
        "rollout": {
            "stages": [
                {
                    "name": "one-region",
                    "environment": "production",
                    "scope": [{"dimension": "region", "values": ["eu-west"]}],
                    "minDuration": "48h",
                    "tests": [],
                },
            ],
        },
        "bindings": [{"source": "crm", "permissions": {"read": ["contacts"], "write": [], "delete": []}}],
        "tasks": {"port": 8080, "maxConcurrentTasks": 4},
        "files": [{"path": "prompts/system.md", "content": "Be kind."}],
        "template": {
            "image": "agent:1",
            "command": ["agent"],
            "args": [],
            "env": [{"name": "LOG_LEVEL", "value": "debug"}],
            "resources": {"limits": {"cpu": "1"}},
        },
        "replicas": 2,
    },
}
POLICY: dict[str, Any] = {
    "apiVersion": "interlock.dev/v1alpha1",
    "kind": "AgentPolicy",
    "metadata": {"name": "support"},
    "spec": {"dataAccess": [{"agents": ["triage"], "source": "crm", "read": ["*"], "write": [], "delete": []}]},
}
BINDING: dict[str, Any] = {
    "apiVersion": "interlock.dev/v1alpha1",
    "kind": "MCPBinding",
    "metadata": {"name": "crm-sandbox"},
    "spec": {
        "source": "crm",
        "environments": ["development", "staging"],
        "server": {
            "stdio": {
                "image": "crm:1",
                "command": ["crm"],
                "args": ["--stdio"],
                "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            },
        },
        "tools": [
            {
                "name": "get_contact",
                "operation": "read",
                "resource": "contacts",
                "scope": [{"dimension": "region", "pointer": "/region"}],
                "arguments": [{"pointer": "/id", "pattern": "[a-z]{2}-[0-9]+"}],
            },
        ],
        "resources": [
            {
                "uri": "crm://contacts/*",
                "operation": "read",
                "resource": "contacts",
                "scope": [{"dimension": "region", "values": ["eu-west"]}],
            },
        ],
        "prompts": [{"name": "summary", "operation": "read", "resource": "contacts", "scope": [], "arguments": []}],
        "serverRequests": ["Sampling"],
        "limits": {"requestBytes": 1024, "resultBytes": 2048, "inFlight": 8},
        "permissions": {"read": ["contacts"], "write": [], "delete": []},
    },
}


@pytest.mark.parametrize(("model", "manifest"), [(Agent, AGENT), (AgentPolicy, POLICY), (MCPBinding, BINDING)])
def test_what_is_read_is_written_back(model: type[Agent], manifest: dict[str, Any]) -> None:
    written = model.model_validate(manifest).to_kubernetes()
    assert contains(written, manifest)
    assert model.model_validate(written) == model.model_validate(manifest)


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    return bool(whole == part)


def test_a_policy_without_minimums_has_the_defaults() -> None:
    minimums = AgentPolicy.model_validate(POLICY).spec.rollout
    assert (minimums.min_staging, minimums.min_limited_scope, minimums.require_limited_scope) == ("168h", "48h", True)


def test_an_unknown_field_of_a_spec_is_refused_and_of_metadata_ignored() -> None:
    with pytest.raises(ValidationError):
        Agent.model_validate({**AGENT, "spec": {**AGENT["spec"], "budget": 1}})
    assert Agent.model_validate({**AGENT, "metadata": {"name": "triage", "managedFields": []}})


def test_a_status_of_another_version_is_read_for_what_is_known() -> None:
    status = AgentStatus.model_validate({"observedGeneration": 1, "conditions": [], "later": True})
    assert status == AgentStatus(observed_generation=1)


def test_objects_are_frozen() -> None:
    agent = Agent.model_validate(AGENT)
    with pytest.raises(ValidationError):
        agent.spec.replicas = 3  # type: ignore[misc]


@pytest.mark.parametrize("path", ["/a", "../a", "a/../b", "a//b", ".", "..", "", "a\n"])
def test_a_file_outside_its_folder_cannot_even_be_read(path: str) -> None:
    with pytest.raises(ValidationError, match="is not a path of a file"):
        File(path=path)


@pytest.mark.parametrize("name", ["INTERLOCK_SCOPE", "A=B", "", "A\n", "\u00c4"])
def test_a_variable_that_is_ours_or_none_cannot_even_be_read(name: str) -> None:
    with pytest.raises(ValidationError, match=r"is set by Interlock|is not an environment variable"):
        EnvVar(name=name)


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "", "a\n", "a" * 64])
def test_a_name_that_does_not_fit_cannot_even_be_read(name: str) -> None:
    with pytest.raises(ValidationError):
        Stage(name=name, environment=EnvironmentClass.STAGING)


def test_a_whole_number_is_a_quantity() -> None:
    assert ResourceAmounts.model_validate({"cpu": 2, "memory": "1Gi"}) == ResourceAmounts(cpu="2", memory="1Gi")
    with pytest.raises(ValidationError):
        ResourceAmounts.model_validate({"cpu": True})


@pytest.mark.parametrize("amount", [0, "0", "0Mi", "0.0", "-1", "0e3", "+0m"])
def test_a_limit_of_nothing_is_none_to_kubernetes_and_is_refused(amount: object) -> None:
    refused = "not a quantity above 0"
    for kind in ("cpu", "memory"):
        with pytest.raises(ValidationError, match=refused):
            Resources.model_validate({"limits": {kind: amount}})
        with pytest.raises(ValidationError, match=refused):
            ContainerDefaults.model_validate({"default": {kind: amount}})
    for kind in ("cpu", "memory", "emptyDir"):
        with pytest.raises(ValidationError, match=refused):
            PodMaximums.model_validate({kind: amount})
    with pytest.raises(ValidationError, match=refused):
        EmptyDirVolume.model_validate({"sizeLimit": amount})
    with pytest.raises(ValidationError, match=refused):
        ContainerDefaults.model_validate({"tmpSizeLimit": amount})


def test_a_limit_of_something_and_a_request_of_nothing_are_allowed() -> None:
    stated = {"requests": {"cpu": "0", "memory": "0"}, "limits": {"cpu": "1m", "memory": "0.5Gi"}}
    assert Resources.model_validate(stated).to_kubernetes() == stated


def test_times_are_utc_and_keep_their_fractions_except_in_conditions() -> None:
    moment = datetime(2026, 1, 1, 1, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
    stage = StageStatus(name="s", environment=EnvironmentClass.STAGING, revision="r", entered_at=moment)
    assert stage.to_kubernetes()["enteredAt"] == "2026-01-01T00:00:00.123456Z"
    condition = Condition(
        type=ConditionType.READY,
        status="True",
        last_transition_time=moment.astimezone(UTC),
        reason=AgentReason.PODS_READY,
        message="",
    )
    assert condition.to_kubernetes()["lastTransitionTime"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("scope", "summary"),
    [
        ((), "all"),
        ((("region", ("eu", "us")),), "region=eu,us"),
        ((("region", ("eu",)), ("product", ("x",))), "region=eu product=x"),
    ],
)
def test_a_scope_is_summed_up_for_people(scope: tuple[tuple[str, tuple[str, ...]], ...], summary: str) -> None:
    limits = tuple(ScopeDimension(dimension=dimension, values=values) for dimension, values in scope)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    stage = StageStatus(name="s", environment=EnvironmentClass.STAGING, scope=limits, revision="r", entered_at=moment)
    assert stage.to_kubernetes()["scopeSummary"] == summary


def test_environments_have_an_order() -> None:
    assert [environment.rank for environment in EnvironmentClass] == [0, 1, 2]


@pytest.mark.parametrize("port", [7410, 7411, 7412, 7419])
def test_an_agent_does_not_listen_where_the_guard_does(port: int) -> None:
    with pytest.raises(ValidationError, match="7410 to 7419 are reserved for Interlock"):
        Tasks(port=port)


def test_an_agent_that_takes_tasks_takes_8_at_once_unless_it_says_otherwise() -> None:
    assert Tasks(port=7420).max_concurrent_tasks == 8
