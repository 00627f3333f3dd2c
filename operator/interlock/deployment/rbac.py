"""What a guard may do at the API server: watch its own Agent and bundle, say in its Lease what it has proven."""

from interlock.api.meta import GROUP
from interlock.deployment.child import Manifest, build_child
from interlock.deployment.labels import placement_labels
from interlock.deployment.names import name_of
from interlock.deployment.placement import Placement
from interlock.deployment.service_account import service_account_name

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
                "resources": ["agents"],
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
