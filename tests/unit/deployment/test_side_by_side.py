"""Placements of one agent side by side: one set of objects, and what changes when another one serves."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.api.shared_types import ScopeDimension
from interlock.deployment.children.config import compile_bundle
from interlock.deployment.children.egress_rules import tcp
from interlock.deployment.names import (
    ChildKey,
    Manifest,
    agent_workload,
    guard_account,
    guard_workload,
    key_of,
    name_of,
    pod_labels,
    public_service,
    stage_service,
    task_service,
)
from interlock.deployment.peers import id_of, named, with_peers
from interlock.deployment.placement import Placement
from interlock.deployment.plan import LiveChild, desired_children, plan_children
from interlock_contract.bundle import dump_bundle, parse_bundle
from interlock_contract.names import ENDPOINT_LABEL
from interlock_contract.pod import TASK_PORT
from tests.requirements import requirement
from tests.support.builders import a_binding, a_placement, a_separate_placement, a_stage, an_agent

EU = (ScopeDimension(dimension="region", values=("eu-west",)),)
ALL: tuple[ScopeDimension, ...] = ()


def four(*, is_separate: bool = True, has_tasks: bool = True) -> tuple[Placement, ...]:
    """Return the newest placement, limited to a region, the one that serves the rest, and two on their way out."""
    stages = (
        a_stage("staging", "staging"),
        a_stage("one-region", "production", scope={"region": ["eu-west"]}),
        a_stage("everywhere", "production"),
    )
    agent = an_agent().with_stages(*stages)
    agent = agent.taking_tasks() if has_tasks else agent
    build = a_separate_placement if is_separate else a_placement
    newest, good, staging = (
        replace(build(agent, stage=stage), revision=str(digit) * 64, agent_key=f"key{stage}")
        for stage, digit in ((1, 3), (2, 1), (0, 3))
    )
    older = replace(newest, revision="2" * 64, is_draining=True, is_serving=False, agent_key="key")
    return with_peers(named((newest, replace(good, excluded=(EU,)), staging, older), {}, {}))


def by_kind(children: tuple[Manifest, ...], kind: str) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in children if one["kind"] == kind}


def selected(service: Manifest, *placements: Placement) -> list[int]:
    """Return the indices of the placements whose guards' pods a Service selects."""
    wanted = service["spec"]["selector"].items()
    return [
        index
        for index, one in enumerate(placements)
        if wanted <= pod_labels(one, "guard" if one.is_separate else "agent").items()
    ]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Return True if a label selector of Kubernetes selects these labels."""
    listed = {"In": True, "NotIn": False}
    return selector["matchLabels"].items() <= labels.items() and all(
        (labels.get(one["key"]) in one["values"]) == listed[one["operator"]] for one in selector["matchExpressions"]
    )


@requirement("deployment.names-apart")
@pytest.mark.parametrize("is_separate", [False, True], ids=["shared", "separate"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_no_object_is_there_twice(count: int, *, is_separate: bool) -> None:
    placements = with_peers(four(is_separate=is_separate)[:count])
    keys = list(map(key_of, desired_children(*placements)))

    assert len(set(keys)) == len(keys)
    assert {ChildKey("ServiceAccount", guard_account(one)) for one in placements} <= set(keys)
    assert [key for key in keys if key.name == "triage-closed"] == [ChildKey("NetworkPolicy", "triage-closed")] * (
        1 if is_separate else 0
    )


def test_the_public_service_selects_one_placement_and_a_stages_service_the_one_that_takes_work_there() -> None:
    newest, good, staging, older = placements = four()
    # The one on its way out comes first, and is not chosen.
    services = by_kind(desired_children(older, newest, good, staging, public=good), "Service")

    assert selected(services[public_service(good.agent)], *placements) == [1]
    for stage, index in (("one-region", 0), ("everywhere", 1), ("staging", 2)):
        assert selected(services[stage_service(good.agent, stage)], *placements) == [index]


@pytest.mark.parametrize("is_separate", [False, True], ids=["shared", "separate"])
def test_each_placement_that_shares_tasks_has_a_service_of_its_own(*, is_separate: bool) -> None:
    newest, good, staging, older = placements = four(is_separate=is_separate)
    services = by_kind(desired_children(*placements), "Service")

    for index, one in enumerate(placements):
        assert (task_service(one) in services) == (one is not staging), "which alone has its class"
        if one is not staging:
            assert selected(services[task_service(one)], *placements) == [index]
    assert [peer.url for peer in newest.peers] == [f"http://{task_service(one)}.agents.svc:80" for one in (good, older)]
    assert staging.peers == ()


@pytest.mark.parametrize("is_separate", [False, True], ids=["shared", "separate"])
def test_services_for_tasks_lead_to_no_pod_that_a_scale_down_has_chosen_and_nothing_else_knows(
    *, is_separate: bool
) -> None:
    placements = four(is_separate=is_separate)
    children = desired_children(*placements, public=placements[0])
    component = "guard" if is_separate else "agent"
    chosen = [pod_labels(one, component) for one in placements]
    assert [labels.pop(ENDPOINT_LABEL) for labels in chosen] == ["true"] * len(placements)

    fronts = {
        name: one
        for name, one in by_kind(children, "Service").items()
        if any(port["name"] == "tasks" for port in one["spec"]["ports"])
    }
    assert {name.split("-")[0] for name in fronts} == {"guard", "tasks"}
    for service in fronts.values():
        assert selected(service, *placements)
        assert not any(service["spec"]["selector"].items() <= labels.items() for labels in chosen)
    for kind in ("Deployment", "NetworkPolicy"):
        for one in by_kind(children, kind).values():
            selectors = json.dumps({**one["spec"], "template": {}})
            assert ENDPOINT_LABEL not in selectors, "a pod stays in its ReplicaSet, and its network stays closed"


@pytest.mark.parametrize("has_tasks", [True, False])
def test_a_guards_pod_reaches_the_guards_that_it_passes_tasks_on_to_and_no_other_ones(*, has_tasks: bool) -> None:
    """Its stdio servers share its network, and another pod of its own placement would take them for a caller."""
    placements = four(has_tasks=has_tasks)
    policies = by_kind(desired_children(*placements), "NetworkPolicy")

    for one in placements:
        assert str(TASK_PORT) not in json.dumps(policies[agent_workload(one)]["spec"]["egress"])
        egress = policies[guard_workload(one)]["spec"]["egress"]
        opened = [rule["to"] for rule in egress if rule.get("ports") == [tcp(TASK_PORT)]]
        peers = [peer["podSelector"] for to in opened for peer in to]
        reached = [id_of(other) for other in placements for peer in peers if selects(peer, pod_labels(other, "guard"))]
        assert sorted(reached) == sorted((peer.stage, peer.revision) for peer in one.peers)


def test_no_network_policy_changes_while_placements_come_and_go() -> None:
    """A plugin may refuse connections while it updates a policy, so tasks of those that serve would fail."""
    newest, good, staging, older = four()
    with_all = by_kind(desired_children(*with_peers((newest, good, staging, older))), "NetworkPolicy")
    for placements in ((good,), (good, staging), (newest, good), (good, older)):
        found = by_kind(desired_children(*with_peers(placements)), "NetworkPolicy")
        assert found.items() <= with_all.items()


def test_without_tasks_nothing_is_passed_on() -> None:
    placements = four(has_tasks=False)

    assert all(one.peers == () for one in placements)
    assert not any(name.startswith("tasks-") for name in by_kind(desired_children(*placements), "Service"))


def test_the_bundles_of_all_are_valid_and_say_who_serves_what() -> None:
    newest, good, _, older = placements = four()
    bundles = [json.loads(dump_bundle(parse_bundle(dump_bundle(compile_bundle(one))))) for one in placements]
    region = [{"dimension": "region", "values": ["eu-west"]}]

    assert bundles[0].get("excluded", []) == []
    assert bundles[1]["excluded"] == [region]
    assert (bundles[3]["excluded"], bundles[3]["draining"]) == ([[]], True), "it serves nothing new"
    assert [(peer["stage"], peer["revision"]) for peer in bundles[1]["peers"]] == [id_of(newest), id_of(older)]
    assert [peer.get("excluded", []) for peer in bundles[0]["peers"]] == [[region], [[]]]
    assert [peer.get("draining", False) for peer in bundles[0]["peers"]] == [False, True]
    assert good.excluded_now == (EU,)


def test_a_scope_that_two_newer_placements_serve_is_excluded_once() -> None:
    assert replace(four()[1], excluded=(EU, EU)).excluded_now == (EU,)


@pytest.mark.parametrize("is_separate", [False, True], ids=["shared", "separate"])
def test_a_change_of_who_serves_what_changes_bundle_scope_and_selectors_alone(*, is_separate: bool) -> None:
    newest, good, *_ = four(is_separate=is_separate)
    before = desired_children(*with_peers((replace(newest, is_serving=False), replace(good, excluded=()))), public=good)
    after = desired_children(
        *with_peers((newest, replace(good, excluded=(EU,), is_draining=True, draining_pods=("p",)))), public=newest
    )

    assert list(map(key_of, before)) == list(map(key_of, after))
    changed = {key_of(one) for one, other in zip(before, after, strict=True) if one != other}
    names = {name_of(one) for one in (newest, good)}
    assert changed == {
        *(ChildKey("ConfigMap", name) for name in names),
        *(ChildKey("ConfigMap", f"{name}-files") for name in names),
        ChildKey("Service", "guard-triage"),
    }
    texts = [json.dumps(list(by_kind(children, "Deployment").values())) for children in (before, after)]
    assert texts[0] == texts[1], "byte for byte, so no pod restarts"


def test_the_agent_reads_todays_scope_from_a_file_that_its_pod_mounts() -> None:
    newest, good, *_ = four()
    files = by_kind(desired_children(newest, good), "ConfigMap")
    scope, of_good = (json.loads(files[f"{name_of(one)}-files"]["data"]["scope.json"]) for one in (newest, good))
    (pod,) = (
        one["spec"]["template"]["spec"]
        for one in by_kind(desired_children(newest), "Deployment").values()
        if one["metadata"]["labels"]["app.kubernetes.io/component"] == "agent"
    )
    (config,) = (volume["projected"]["sources"] for volume in pod["volumes"] if volume["name"] == "config")

    assert scope == {"scope": [{"dimension": "region", "values": ["eu-west"]}], "excluded": []}
    assert of_good == {"scope": [], "excluded": [scope["scope"]]}
    assert {"key": "scope.json", "path": "scope.json"} in config[1]["configMap"]["items"]


@requirement("deployment.names-apart")
def test_placements_that_begin_together_share_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    newest, good, *_ = four()

    def colliding(_agent: object, _stage: str, _revision: str, collisions: int) -> str:
        return f"triage-{collisions:010x}"

    monkeypatch.setattr("interlock.deployment.names.placement_name", colliding)
    found = named((newest, good), {}, {})
    assert [one.collisions for one in found] == [0, 1]
    recorded = named((newest, good), {id_of(good): 0}, {})
    assert [one.collisions for one in recorded] == [1, 0], "the one that runs keeps its name"


@requirement("deployment.names-apart")
@settings(max_examples=200, deadline=None)
@given(
    *[st.from_regex(r"[a-z0-9](-?[a-z0-9]){0,25}", fullmatch=True) for _ in range(2)],
    *[st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True) for _ in range(2)],
)
def test_stages_and_agents_share_no_service(one: str, other: str, stage: str, next_stage: str) -> None:
    names = {}
    for agent in (one, other, f"{one}-{stage}"[:52].rstrip("-").replace("--", "-"), "a--b"):
        built = an_agent(agent).build()
        for owner, name in (
            *(((agent, each), stage_service(built, each)) for each in (stage, next_stage)),
            ((agent, ""), public_service(built)),
        ):
            assert len(name) <= 63
            assert names.setdefault(name, owner) == owner


def test_stage_services_that_plain_dashes_would_merge_are_apart() -> None:
    merged = {stage_service(an_agent("a").build(), "b-c"), stage_service(an_agent("a-b").build(), "c")}
    assert merged == {"guard-a--b-c", "guard-a-b--c"}
    assert public_service(an_agent("a-b-c").build()) not in merged


# The order of a switch-over


def test_what_gains_work_is_written_before_what_loses_it() -> None:
    newest, good, *_ = four()
    before = desired_children(*with_peers((replace(newest, is_serving=False), replace(good, excluded=()))))
    live = {key_of(one): LiveChild(one) for one in before}

    plan = plan_children(desired_children(*with_peers((newest, good))), live, {})

    assert [one["metadata"]["name"] for one in plan.shrink] == [name_of(good)]
    assert ChildKey("ConfigMap", name_of(newest)) in set(map(key_of, plan.prepare))
    assert set(map(key_of, plan.prepare)).isdisjoint(map(key_of, plan.shrink))


@pytest.mark.parametrize(
    "change",
    [{"is_draining": True}, {"is_serving": False}, {"excluded": (EU, ALL)}],
    ids=str,
)
def test_a_bundle_that_takes_less_work_comes_later(change: dict[str, Any]) -> None:
    _, good, *_ = four()
    live = {key_of(one): LiveChild(one) for one in desired_children(good)}

    for desired, late in ((replace(good, **change), 1), (good, 0)):
        assert len(plan_children(desired_children(desired), live, {}).shrink) == late


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_live_bundle_that_cannot_be_read_is_replaced_first(text: str) -> None:
    _, good, *_ = four()
    live = {key_of(one): LiveChild(one) for one in desired_children(good)}
    key = ChildKey("ConfigMap", name_of(good))
    live[key] = LiveChild({**live[key].manifest, "data": {"bundle.json": text}})

    plan = plan_children(desired_children(good), live, {})

    assert key in set(map(key_of, plan.prepare))


def test_where_tasks_and_calls_name_their_values_is_in_the_bundle() -> None:
    scope = [{"dimension": "region", "header": "X-Region"}, {"dimension": "line", "pointer": "/line"}]
    tool = {"name": "get", "operation": "read", "resource": "contacts"}
    crm = a_binding().with_tools({**tool, "scope": [{"dimension": "region", "pointer": "/region", "inject": True}]})
    placement = replace(a_placement(an_agent().taking_tasks(scope=scope), bindings=(crm,)), drain_seconds=7)

    bundle = json.loads(dump_bundle(compile_bundle(placement)))

    assert bundle["tasks"]["scope"] == scope
    assert bundle["tasks"]["drainSeconds"] == 7
    assert bundle["sources"][0]["tools"][0]["scope"][0]["inject"] is True
