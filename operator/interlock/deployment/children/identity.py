"""The guard's identity: ServiceAccount, Role, RoleBinding, and the Lease that it reports to."""

from interlock.api.agent import Agent
from interlock.deployment.names import Manifest, agent_labels, build_child, name_of, placement_labels, service_account
from interlock.deployment.placement import Placement
from interlock_contract.names import AGENTS, GROUP

_RBAC = "rbac.authorization.k8s.io"
_READ = ["get", "list", "watch"]


def build_service_account(agent: Agent) -> Manifest:
    """Return the ServiceAccount of the agent's guards; no token of it is mounted by default."""
    labels = agent_labels(agent, "guard")
    return build_child(
        agent, "v1", "ServiceAccount", service_account(agent), labels, automountServiceAccountToken=False
    )


def build_guard_role(placement: Placement) -> Manifest:
    """Return the guard's Role: it watches its own Agent and bundle and patches its own Lease, each by name."""
    agent, name = placement.agent, name_of(placement)
    return build_child(
        agent,
        f"{_RBAC}/v1",
        "Role",
        name,
        placement_labels(placement, "guard"),
        rules=[
            {"apiGroups": [GROUP], "resources": [AGENTS], "resourceNames": [agent.metadata.name], "verbs": _READ},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": _READ},
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": [name],
                "verbs": ["patch"],
            },
        ],
    )


def build_guard_role_binding(placement: Placement) -> Manifest:
    """Return the RoleBinding that gives the Role to the agent's ServiceAccount."""
    agent, name = placement.agent, name_of(placement)
    return build_child(
        agent,
        f"{_RBAC}/v1",
        "RoleBinding",
        name,
        placement_labels(placement, "guard"),
        roleRef={"apiGroup": _RBAC, "kind": "Role", "name": name},
        subjects=[
            {"kind": "ServiceAccount", "name": service_account(agent), "namespace": agent.metadata.namespace},
        ],
    )


def build_lease(placement: Placement) -> Manifest:
    """Return the empty Lease, in which each guard writes an annotation of its own."""
    labels = placement_labels(placement, "guard")
    return build_child(placement.agent, "coordination.k8s.io/v1", "Lease", name_of(placement), labels)
