"""What a guard may do at the API server: watch its own Agent and bundle, say in its Lease what it has proven."""

from interlock.api.agent import Agent
from interlock.deployment.names import Manifest, agent_labels, build_child, name_of, placement_labels
from interlock.deployment.placement import Placement
from interlock_contract.names import AGENTS, GROUP, GUARD_ACCOUNT_SUFFIX


def service_account_name(agent: Agent) -> str:
    """Return the ServiceAccount's name: one for all placements of the agent."""
    return f"{agent.metadata.name}{GUARD_ACCOUNT_SUFFIX}"


def build_service_account(agent: Agent) -> Manifest:
    """Return the ServiceAccount under which the agent's pods run."""
    return build_child(
        agent,
        "v1",
        "ServiceAccount",
        service_account_name(agent),
        agent_labels(agent, "guard"),
        automountServiceAccountToken=False,
    )


READ = ["get", "list", "watch"]


def build_guard_role(placement: Placement) -> Manifest:
    """Return the Role: each object by name."""
    return build_child(
        placement.agent,
        "rbac.authorization.k8s.io/v1",
        "Role",
        name_of(placement),
        placement_labels(placement, "guard"),
        rules=[
            {
                "apiGroups": [GROUP],
                "resources": [AGENTS],
                "resourceNames": [placement.agent.metadata.name],
                "verbs": READ,
            },
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name_of(placement)], "verbs": READ},
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": [name_of(placement)],
                "verbs": ["patch"],
            },
        ],
    )


def build_guard_role_binding(placement: Placement) -> Manifest:
    """Return the RoleBinding that gives the Role to the agent's ServiceAccount."""
    return build_child(
        placement.agent,
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        name_of(placement),
        placement_labels(placement, "guard"),
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name_of(placement)},
        subjects=[
            {
                "kind": "ServiceAccount",
                "name": service_account_name(placement.agent),
                "namespace": placement.agent.metadata.namespace,
            }
        ],
    )


def build_lease(placement: Placement) -> Manifest:
    """Return the Lease, empty: each guard adds an annotation of its own and nobody else writes to it."""
    labels = placement_labels(placement, "guard")
    return build_child(placement.agent, "coordination.k8s.io/v1", "Lease", name_of(placement), labels)
