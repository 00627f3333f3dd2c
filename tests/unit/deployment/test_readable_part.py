"""What is read of an object that cannot be read as a whole, because what runs needs nothing else of it."""

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from interlock.action.unread_rows import UNREAD_TYPE
from interlock.deployment.children.scheduling import SCHEDULING_MEMBERS, build_pull_secrets, build_scheduling
from interlock.deployment.field_classes import FIELDS
from interlock.deployment.field_groups import FieldClass
from interlock.deployment.names import AGENT_POD
from interlock.deployment.readable_part import ReadablePart, kept_pod_members, read_part
from tests.support.builders import a_binding, a_placement, a_policy, an_agent

SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
AFFINITY = {
    "podAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "matchLabelKeys": ["a"]}}
        ]
    }
}
MAP = {"configMapRef": {"name": "settings"}}
NO_KEY = {"name": "v", "configMap": {"name": "settings", "items": [{"key": "..", "path": "a"}]}}
BUILT = {"Agent": an_agent(), "AgentPolicy": a_policy(), "MCPBinding": a_binding()}


def changed(kind: str, place: str, value: Any) -> dict[str, Any]:
    """Return a good object with another value at a place, such as `spec.template.affinity`."""
    raw = copy.deepcopy(BUILT[kind].raw)
    found: Any = raw
    *parents, name = place.split(".")
    for parent in parents:
        found = found.setdefault(parent, {})
    found[name] = value
    return raw


def part_of(kind: str, raw: dict[str, Any]) -> ReadablePart | None:
    with pytest.raises(ValidationError) as refused:
        type(BUILT[kind].build()).model_validate(raw)
    return read_part(kind, raw, refused.value)


LEFT_OUT: list[tuple[str, str, Any, str]] = [
    ("Agent", "spec.template.topologySpreadConstraints", [SPREAD, SPREAD | {"minDomains": 0}], "[]"),
    ("Agent", "spec.template.affinity", AFFINITY, ""),
    ("Agent", "spec.template.tolerations", [{"key": "a b", "operator": "Exists"}], "[]"),
    ("Agent", "spec.template.envFrom", [MAP | {"prefix": "a=b"}], "[]"),
    ("Agent", "spec.template.volumes", [NO_KEY], "[]"),
    ("Agent", "spec.template.resources", {"limits": {"memory": "0"}}, ""),
    ("Agent", "spec.template.livenessProbe", {"exec": {"command": ["a"]}, "periodSeconds": 0}, ""),
    ("Agent", "spec.files", [{"path": "../a"}], "[]"),
    ("AgentPolicy", "spec.resources", {"default": {"memory": 0}}, ""),
    ("AgentPolicy", "spec.podTemplate.default.tolerations", [{"key": "a b", "operator": "Exists"}], "[]"),
    ("AgentPolicy", "spec.podTemplate.guardResources", {"limits": {"cpu": 0}}, ""),
    ("MCPBinding", "spec.server.stdio.envFrom", [MAP | {"prefix": "a=b"}], "[]"),
    ("MCPBinding", "spec.server.stdio.tolerations", [{"key": "a b", "operator": "Exists"}], "[]"),
    ("MCPBinding", "spec.server.stdio.resources", {"limits": {"memory": 0}}, ""),
    ("MCPBinding", "spec.verify", {"probes": [{"name": "a", "tool": "b", "arguments": "{,}"}]}, ""),
]


@pytest.mark.parametrize(("kind", "place", "value", "end"), LEFT_OUT, ids=[f"{one[0]}.{one[1]}" for one in LEFT_OUT])
def test_a_field_that_what_runs_does_without_is_left_out(kind: str, place: str, value: Any, end: str) -> None:
    part = part_of(kind, changed(kind, place, value))
    assert part is not None
    assert part.left_out == {f"{kind}.{place}{end}"}
    without = changed(kind, place, None)
    *parents, name = place.split(".")
    found: Any = without
    for parent in parents:
        found = found[parent]
    del found[name]
    assert part.found == type(part.found).model_validate(without), "all else is as it is today"


NEEDED: list[tuple[str, str, Any]] = [
    ("Agent", "spec.owner", {"name": 1}),
    ("Agent", "spec.replicas", "many"),
    ("Agent", "spec.budget", [{"environment": "development", "dailyBudget": "much"}]),
    ("Agent", "spec.policyRef", {"name": ""}),
    ("Agent", "spec.environment", "The Moon"),
    ("Agent", "spec.template.image", 1),
    ("Agent", "spec.template.unknown", 1),
    ("Agent", "spec", "none"),
    ("Agent", "metadata.labels", {"a": 1}),
    ("AgentPolicy", "spec.dataAccess", "everything"),
    ("AgentPolicy", "spec.budget", {"timeZone": "Mars/Base"}),
    ("AgentPolicy", "spec.podTemplate.allow", ["Everything"]),
    ("AgentPolicy", "spec.podTemplate.max", {"cpu": 0}),
    ("MCPBinding", "spec.source", ""),
    ("MCPBinding", "spec.environments", ["The Moon"]),
    ("MCPBinding", "spec.tools", [{"name": "a" * 129, "operation": "look", "resource": "b"}]),
    ("MCPBinding", "spec.tools", [{"operation": "read", "resource": "b"}]),
    ("MCPBinding", "spec.tools", ["a"]),
    ("MCPBinding", "spec.tools", "all"),
    ("MCPBinding", "spec.resources", [{"uri": "../a", "resource": "b"}]),
    ("MCPBinding", "spec.server.stdio.network", "All"),
]


@pytest.mark.parametrize(("kind", "place", "value"), NEEDED, ids=[f"{one[0]}.{one[1]}" for one in NEEDED])
def test_of_an_object_in_which_a_field_cannot_be_read_that_what_runs_obeys_nothing_is_read(
    kind: str, place: str, value: Any
) -> None:
    assert part_of(kind, changed(kind, place, value)) is None


DENIED: list[tuple[str, str, dict[str, Any]]] = [
    ("tools", "name", {"operation": "look", "resource": "b"}),
    ("tools", "name", {"operation": "read", "resource": "b", "arguments": [{"pointer": "/a", "maximum": -1}]}),
    ("tools", "name", {"operation": "read", "resource": "b", "unknown": [1, 2]}),
    ("resources", "uri", {"resource": "b", "scope": [{"dimension": 1}]}),
    ("prompts", "name", {"resource": "b", "scope": "none", "arguments": "none"}),
]


@pytest.mark.parametrize(("member", "key", "row"), DENIED, ids=[f"{one[0]}-{list(one[2])[-1]}" for one in DENIED])
def test_what_a_row_of_a_map_is_about_is_denied_if_the_rest_of_it_cannot_be_read(
    member: str, key: str, row: dict[str, Any]
) -> None:
    """Without the row, a glob after it would decide."""
    before, after = ({key: f"crm://{glob}", "operation": "read", "resource": "contacts"} for glob in ("a*", "*"))
    raw = changed("MCPBinding", f"spec.{member}", [before, {key: "crm://abc", **row}, after])
    raw["spec"]["permissions"] = {"delete": [UNREAD_TYPE]}
    part = part_of("MCPBinding", raw)
    assert part is not None
    assert (part.denied, part.left_out) == ((f"{member}[crm://abc]",), frozenset())
    denied = {key: "crm://abc", "operation": "delete", "resource": f"{UNREAD_TYPE}-x"}
    raw["spec"][member] = [before, denied, after]
    assert part.found == type(part.found).model_validate(raw)


def test_an_object_in_which_two_fields_cannot_be_read_is_read_only_if_both_can_be_left_out() -> None:
    raw = changed("Agent", "spec.template.affinity", AFFINITY)
    raw["spec"]["template"]["volumes"] = [NO_KEY]
    part = part_of("Agent", raw)
    assert part is not None
    assert part.left_out == {"Agent.spec.template.affinity", "Agent.spec.template.volumes[]"}
    raw["spec"]["replicas"] = "many"
    assert part_of("Agent", raw) is None


def test_a_broken_rule_on_a_whole_part_leaves_out_what_revisions_have_of_it() -> None:
    """Without its volumes, the mounts of a template name none."""
    raw = changed("Agent", "spec.template.volumes", [NO_KEY])
    raw["spec"]["template"] |= {"volumeMounts": [{"name": "v", "mountPath": "/data"}], "nodeSelector": {"a": "b"}}
    part = part_of("Agent", raw)
    assert part is not None
    assert {"Agent.spec.template.volumes[]", "Agent.spec.template.volumeMounts[]"} <= part.left_out
    kept = part.found.to_kubernetes()["spec"]["template"]
    assert (kept["image"], kept["nodeSelector"]) == (raw["spec"]["template"]["image"], {"a": "b"})


def scheduling_of_everything() -> dict[str, Any]:
    agent = an_agent().with_template(
        imagePullSecrets=[{"name": "a"}],
        nodeSelector={"a": "b"},
        tolerations=[{"operator": "Exists"}],
        affinity={"podAntiAffinity": {}},
        topologySpreadConstraints=[SPREAD],
        priorityClassName="a",
    )
    placement = a_placement(agent)
    defaults = placement.policy.spec.pod_template.default
    return build_scheduling(placement, AGENT_POD) | build_pull_secrets((), defaults, placement.agent.spec.template)


def test_each_field_by_which_pods_are_placed_immediately_is_a_member_of_pods_that_can_be_kept() -> None:
    parents = ("Agent.spec.template.", "MCPBinding.spec.server.stdio.", "AgentPolicy.spec.podTemplate.default.")
    immediate = {path for path, rule in FIELDS.items() if rule.field_class == FieldClass.IMMEDIATE}
    outermost = {
        f"{parent}{path.removeprefix(parent).partition('.')[0]}"
        for path in immediate
        for parent in parents
        if path.startswith(parent)
    }
    assert kept_pod_members(outermost) == frozenset(scheduling_of_everything()) == frozenset(SCHEDULING_MEMBERS)
    assert kept_pod_members(["Agent.spec.template.volumes[]", "MCPBinding.spec.verify"]) == frozenset()
