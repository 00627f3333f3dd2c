"""Identities: ServiceAccount, Role and RoleBinding of guards and of other programs, and the Lease of a guard."""

from typing import Any

from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.deployment.cloud_identity import account_annotations
from interlock.deployment.names import (
    AGENT_POD,
    GUARD_POD,
    Manifest,
    agent_account,
    build_child,
    build_placement_child,
    guard_account,
    name_of,
)
from interlock.deployment.placement import Placement
from interlock_contract.names import AGENTS, BUDGET_LEDGERS, GROUP, ON_LOOP_ALLOW, ON_LOOP_LABEL

_RBAC = "rbac.authorization.k8s.io"
_READ = ["get", "list", "watch"]
_UPDATE = ["get", "update"]


def build_account(
    owner: AgentPolicy | MCPBinding, name: str, labels: dict[str, str], rules: list[dict[str, Any]]
) -> tuple[Manifest, ...]:
    """Return a ServiceAccount of which no token is mounted by default, with a Role of these rules.

    Args:
        owner: The object that the three objects belong to.
        name: The name of ServiceAccount, Role and RoleBinding.
        labels: Their labels.
        rules: Rules of the Role.
    """
    subject = {"kind": "ServiceAccount", "name": name, "namespace": owner.metadata.namespace}
    role = {"apiGroup": _RBAC, "kind": "Role", "name": name}
    return (
        build_child(owner, "v1", "ServiceAccount", name, labels, automountServiceAccountToken=False),
        build_child(owner, f"{_RBAC}/v1", "Role", name, labels, rules=rules),
        build_child(owner, f"{_RBAC}/v1", "RoleBinding", name, labels, roleRef=role, subjects=[subject]),
    )


def build_service_accounts(placement: Placement) -> tuple[Manifest, ...]:
    """Return the ServiceAccount of the guards and, if the agent's pods are separate, one without rights for these."""
    guards = _service_account(placement, guard_account(placement), GUARD_POD)
    guards["metadata"]["annotations"] |= account_annotations(placement)
    if not placement.is_separate:
        return (guards,)
    return guards, _service_account(placement, agent_account(placement), AGENT_POD)


def _service_account(placement: Placement, name: str, component: str) -> Manifest:
    """Return a ServiceAccount of which no token is mounted by default."""
    return build_placement_child(placement, "v1", "ServiceAccount", name, component, automountServiceAccountToken=False)


def build_guard_role(placement: Placement) -> Manifest:
    """Return the guard's Role: its own Agent, bundle, Lease and ledgers, each by name.

    The guard watches Agent, bundle and ledgers, patches the Lease, and writes the status of ledgers. It creates none.
    """
    agent, name = placement.agent, name_of(placement)
    ledgers = [identity.name for identity in placement.budget.ledgers] if placement.budget is not None else []
    spending = [
        {"apiGroups": [GROUP], "resources": [BUDGET_LEDGERS], "resourceNames": ledgers, "verbs": _READ},
        {"apiGroups": [GROUP], "resources": [f"{BUDGET_LEDGERS}/status"], "resourceNames": ledgers, "verbs": _UPDATE},
    ]
    return build_placement_child(
        placement,
        f"{_RBAC}/v1",
        "Role",
        name,
        "guard",
        rules=[
            {"apiGroups": [GROUP], "resources": [AGENTS], "resourceNames": [agent.metadata.name], "verbs": _READ},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": _READ},
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": [name],
                "verbs": ["patch"],
            },
            *(spending if ledgers else ()),
        ],
    )


def build_guard_role_binding(placement: Placement) -> Manifest:
    """Return the RoleBinding that gives the Role to the ServiceAccount of the guards."""
    agent, name = placement.agent, name_of(placement)
    return build_placement_child(
        placement,
        f"{_RBAC}/v1",
        "RoleBinding",
        name,
        "guard",
        roleRef={"apiGroup": _RBAC, "kind": "Role", "name": name},
        subjects=[
            {"kind": "ServiceAccount", "name": guard_account(placement), "namespace": agent.metadata.namespace},
        ],
    )


def build_lease(placement: Placement) -> Manifest:
    """Return the empty Lease, in which each guard writes annotations of its own.

    Its label says whether the kill controller obeys the loops that guards report there.
    """
    lease = build_placement_child(placement, "coordination.k8s.io/v1", "Lease", name_of(placement), "guard")
    loops = placement.policy.spec.loops
    lease["metadata"]["labels"][ON_LOOP_LABEL] = ON_LOOP_ALLOW if loops is None else loops.action
    return lease
