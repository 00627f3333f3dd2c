"""The NetworkPolicies of a placement's pods."""

from typing import Any

from interlock.api.agent import Agent
from interlock.api.meta import AGENT_LABEL, APP_COMPONENT_LABEL, GUARD_LABEL, ISOLATION_LABEL
from interlock.deployment.child import Manifest, build_child
from interlock.deployment.egress import everywhere_but_metadata, guard_egress, tcp
from interlock.deployment.guard_sidecar import MCP_PORT, OBSERVE_PORT, TASK_PORT
from interlock.deployment.labels import AGENT_POD, GUARD_POD, agent_labels, placement_labels, selector
from interlock.deployment.names import agent_workload, guard_workload, name_of
from interlock.deployment.placement import Placement


def build_network_policies(placement: Placement) -> tuple[Manifest, ...]:
    """Return every policy that a placement wants."""
    if not placement.is_separate:
        return (build_shared_policy(placement),)
    return (
        build_closed_policy(placement.agent),
        build_agent_policy(placement),
        build_guard_policy(placement),
    )


def build_shared_policy(placement: Placement) -> Manifest:
    """Return the policy of a shared pod: nobody reaches it but at the guard, and it reaches no metadata services.

    Agent and guard share the pod's network here (`isolation: Shared`), so this is no egress boundary between
    the agent and what the MCP servers, beside it or over HTTP, must reach. What the guard itself dials is decided by
    the guard, address by address (`interlock_guard.servers.dialer`).
    """
    return _policy(
        placement,
        name_of(placement),
        selector(placement),
        ingress=_from_elsewhere(placement),
        egress=[{"to": everywhere_but_metadata()}],
    )


def build_closed_policy(agent: Agent) -> Manifest:
    """Return the policy that closes every pod of the agent's own, in and out, whatever becomes of the others.

    Policies add up, so what a placement's own policy opens stays open; without it all is closed and not all open.
    """
    labels = {AGENT_LABEL: agent.metadata.name, APP_COMPONENT_LABEL: AGENT_POD, ISOLATION_LABEL: "Separate"}
    return build_child(
        agent,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        f"{agent.metadata.name}-closed",
        agent_labels(agent, "network"),
        spec={"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"]},
    )


def build_agent_policy(placement: Placement) -> Manifest:
    """Return the policy of an agent's pod of its own: its guard and nothing else, in either family; no DNS either.

    Only pods are named, never addresses: so it holds in every family that the pod has an address of.
    """
    return _policy(
        placement,
        agent_workload(placement),
        selector(placement, AGENT_POD),
        ingress=[{"from": [_pods(guard_peer(placement))], "ports": [tcp(port)]} for port in _task_ports(placement)],
        egress=[{"to": [_pods(guard_peer(placement))], "ports": [tcp(MCP_PORT)]}],
    )


def build_guard_policy(placement: Placement) -> Manifest:
    """Return the policy of a guard's pod of its own.

    In come its agent, tasks and whoever probes; out go tasks to its agent, and `guard_egress`.
    """
    agents = _pods(selector(placement, AGENT_POD))
    to_agent = [{"to": [agents], "ports": [tcp(port)]} for port in _task_ports(placement)]
    return _policy(
        placement,
        guard_workload(placement),
        selector(placement, GUARD_POD),
        ingress=[{"from": [agents], "ports": [tcp(MCP_PORT)]}, *_from_elsewhere(placement)],
        egress=[*to_agent, *guard_egress(placement)],
    )


def guard_peer(placement: Placement) -> dict[str, str]:
    """Return the labels that select the guards of this placement."""
    return {**selector(placement, GUARD_POD), GUARD_LABEL: placement.agent.metadata.name}


def _policy(placement: Placement, name: str, pods: dict[str, str], **rules: list[dict[str, Any]]) -> Manifest:
    return build_child(
        placement.agent,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        name,
        placement_labels(placement, "network"),
        spec={"podSelector": {"matchLabels": pods}, "policyTypes": ["Ingress", "Egress"], **rules},
    )


def _from_elsewhere(placement: Placement) -> list[dict[str, Any]]:
    """Return who reaches a guard beside its agent: metrics and probes are for everybody, tasks for the namespace.

    Policies add up, so callers from elsewhere are let in by a policy of the user's own.
    """
    observe = {"ports": [tcp(OBSERVE_PORT)]}
    tasks = {"from": [{"podSelector": {}}], "ports": [tcp(TASK_PORT)]}
    return [observe, tasks] if _task_ports(placement) else [observe]


def _task_ports(placement: Placement) -> list[int]:
    """Return the agent's own port, at which its guard brings it tasks; nothing where it takes none."""
    taken = placement.agent.spec.orchestration
    return [] if taken is None else [taken.port]


def _pods(labels: dict[str, str]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}
