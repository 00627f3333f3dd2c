"""The NetworkPolicies of a placement's pods."""

from typing import Any

from interlock.api.agent import Agent
from interlock.deployment.children.egress_rules import (
    SCRAPERS,
    Peer,
    Rule,
    everywhere_but_metadata,
    guard_egress,
    tcp,
)
from interlock.deployment.cloud_identity import metadata_rules
from interlock.deployment.egress_exceptions import agent_exceptions, rules_of, server_exceptions
from interlock.deployment.names import (
    AGENT_POD,
    GUARD_POD,
    Manifest,
    agent_labels,
    agent_workload,
    build_child,
    build_placement_child,
    closed_policy,
    guard_workload,
    name_of,
    revision_label,
    selector,
)
from interlock.deployment.placement import Placement
from interlock_contract.names import (
    AGENT_LABEL,
    APP_COMPONENT_LABEL,
    GUARD_LABEL,
    ISOLATION_LABEL,
    REVISION_LABEL,
    STAGE_LABEL,
)
from interlock_contract.pod import MCP_PORT, OBSERVE_PORT, TASK_PORT


def build_network_policies(placement: Placement) -> tuple[Manifest, ...]:
    """Return every NetworkPolicy of a placement's own. The policy that closes separate pods is the agent's."""
    if not placement.is_separate:
        return (build_shared_policy(placement),)
    return build_agent_policy(placement), build_guard_policy(placement)


def build_shared_policy(placement: Placement) -> Manifest:
    """Return the policy of a shared pod: ingress only to the guard, egress anywhere except metadata services.

    Agent and guard share the pod's network (`isolation: Shared`), so this policy is no egress boundary between the
    agent and the servers that the guard must reach.
    """
    return _policy(
        placement,
        name_of(placement),
        selector(placement),
        ingress=_from_elsewhere(placement),
        egress=[{"to": everywhere_but_metadata()}],
    )


def build_closed_policy(agent: Agent) -> Manifest:
    """Return the policy that closes every separate pod of the agent, in and out.

    Policies add up, so a placement's own policy opens its exceptions. Without that policy the pod is closed, not open.
    """
    labels = {AGENT_LABEL: agent.metadata.name, APP_COMPONENT_LABEL: AGENT_POD, ISOLATION_LABEL: "Separate"}
    return build_child(
        agent,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        closed_policy(agent),
        agent_labels(agent, "network"),
        spec={"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"]},
    )


def build_agent_policy(placement: Placement) -> Manifest:
    """Return the policy of a separate agent pod: egress to its guard, and to what the policy's rows of egress open.

    Of a killed agent no row is open: a process may live on for some time, and its pod for longer.
    The rule for the guard names pods and no addresses, so it holds for IPv4 and IPv6.
    """
    return _policy(
        placement,
        agent_workload(placement),
        selector(placement, AGENT_POD),
        ingress=[{"from": [_pods(guard_peer(placement))], "ports": [tcp(port)]} for port in _task_ports(placement)],
        egress=[
            {"to": [_pods(guard_peer(placement))], "ports": [tcp(MCP_PORT)]},
            *(() if placement.is_killed else rules_of(agent_exceptions(placement))),
        ],
    )


def build_guard_policy(placement: Placement) -> Manifest:
    """Return the policy of a separate guard pod: ingress for agent, tasks, probes; egress to agent and servers."""
    agents = _pods(selector(placement, AGENT_POD))
    to_agent = [{"to": [agents], "ports": [tcp(port)]} for port in _task_ports(placement)]
    return _policy(
        placement,
        guard_workload(placement),
        selector(placement, GUARD_POD),
        # The egress check of the agent's pod must find 7411 closed by the agent's own policy, so this one lets it in.
        ingress=[{"from": [agents], "ports": [tcp(MCP_PORT)]}, *_from_elsewhere(placement, agents)],
        egress=[
            *to_agent,
            *_guards_egress(placement),
            *guard_egress(placement),
            *(() if placement.is_killed else (*rules_of(server_exceptions(placement)), *metadata_rules(placement))),
        ],
    )


def _guards_egress(placement: Placement) -> list[Rule]:
    """Return the egress to the guards of other placements of the same class, to which this one passes tasks on.

    Stdio servers share the pod's network, and the guard of another pod does not know that such a caller is no other
    guard. So no pod of the placement itself is open. The rule names placements that may come, not those that are there:
    network plugins update the rules of a NetworkPolicy one after the other, and refuse connections meanwhile.
    """
    if placement.agent.spec.tasks is None:
        return []
    stage, class_of = placement.stage, placement.policy.spec.class_of
    alike = [
        one.name for one in placement.agent.spec.stages if class_of(one.environment) == class_of(stage.environment)
    ]
    others = sorted({*alike, *(peer.stage for peer in placement.peers)} - {stage.name})
    own_stage = [
        {"key": STAGE_LABEL, "operator": "In", "values": [stage.name]},
        {"key": REVISION_LABEL, "operator": "NotIn", "values": [revision_label(placement.revision)]},
    ]
    other_stages = [{"key": STAGE_LABEL, "operator": "In", "values": others}]
    guards = [
        {"podSelector": {"matchLabels": {GUARD_LABEL: placement.agent.metadata.name}, "matchExpressions": expressions}}
        for expressions in (own_stage, other_stages)
        if expressions[0]["values"]
    ]
    return [{"to": guards, "ports": [tcp(TASK_PORT)]}]


def guard_peer(placement: Placement) -> dict[str, str]:
    """Return the labels that select the guards of this placement."""
    return {**selector(placement, GUARD_POD), GUARD_LABEL: placement.agent.metadata.name}


def _policy(placement: Placement, name: str, pods: dict[str, str], **rules: list[dict[str, Any]]) -> Manifest:
    return build_placement_child(
        placement,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        name,
        "network",
        spec={"podSelector": {"matchLabels": pods}, "policyTypes": ["Ingress", "Egress"], **rules},
    )


def _from_elsewhere(placement: Placement, *observers: Peer) -> list[dict[str, Any]]:
    """Return the ingress of a guard apart from its agent: metrics for namespaces that may scrape, tasks from its own.

    Kubelets need no rule: a node reaches its own pods. Policies add up, so a user's own policy can let in callers from
    elsewhere.

    Args:
        placement: The placement.
        observers: Other peers that may read metrics.
    """
    observe = {"from": [SCRAPERS, *observers], "ports": [tcp(OBSERVE_PORT)]}
    tasks = {"from": [{"podSelector": {}}], "ports": [tcp(TASK_PORT)]}
    return [observe, tasks] if _task_ports(placement) else [observe]


def _task_ports(placement: Placement) -> list[int]:
    """Return the port at which the agent takes tasks from its guard, none where it takes no tasks."""
    taken = placement.agent.spec.tasks
    return [] if taken is None else [taken.port]


def _pods(labels: dict[str, str]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}
