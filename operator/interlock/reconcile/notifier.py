"""The pure part of a policy's notifier: the plan of its objects, and the condition that says whether it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from interlock.api.policy import AgentPolicy, AgentPolicyStatus, PolicyCondition, PolicyReason
from interlock.api.shared_types import Resources
from interlock.deployment.children.notifier import build_notifier, build_record
from interlock.deployment.names import ChildKey, key_of, notifier_name, policy_label, record_name
from interlock.deployment.ownership import AppliedObjects
from interlock.deployment.placement import ApiServerAddress
from interlock.deployment.plan import WORKLOAD, LiveChild, WritePlan, plan_children
from interlock.deployment.pod_users import DEFAULT_USERS, PodUsers
from interlock.reconcile.conditions import Finding
from interlock.reconcile.managed_objects import read_applied
from interlock_contract.names import POLICY_LABEL
from interlock_contract.webhooks import MAX_PROBLEM, PROBLEM_SUFFIX


@dataclass(frozen=True)
class NotifierSnapshot:
    """Everything in the cluster that the notifier of one AgentPolicy depends on.

    Attributes:
        policy: The AgentPolicy.
        status: Its status; None before the first.
        children: The objects of its notifier.
        guard_image: The image of the guards.
        api_server: The addresses of the API server.
        guard_resources: What the installation states for Interlock's own containers.
        pull_secrets: Names of the Secrets with which kubelets pull images, as the installation states them.
        users: The users and groups of the pods of its namespace.
    """

    policy: AgentPolicy
    status: AgentPolicyStatus | None
    children: Mapping[ChildKey, LiveChild]
    guard_image: str
    api_server: ApiServerAddress
    guard_resources: Resources | None = None
    pull_secrets: tuple[str, ...] = ()
    users: PodUsers = DEFAULT_USERS

    @property
    def applied(self) -> AppliedObjects:
        """The objects as our last writes left them, from the status."""
        return read_applied(self.status.managed_objects if self.status else ())


def plan_notifier(snapshot: NotifierSnapshot) -> tuple[WritePlan, frozenset[ChildKey]]:
    """Return the pending writes, and the keys of the objects that no other program writes.

    The content of the record belongs to the notifier: it is created where it is missing, and deleted with the notifier.
    """
    policy, record = snapshot.policy, ChildKey("ConfigMap", record_name(snapshot.policy.metadata.name))
    desired = build_notifier(
        policy,
        snapshot.guard_image,
        snapshot.api_server,
        guard_resources=snapshot.guard_resources,
        pull_secrets=snapshot.pull_secrets,
        users=snapshot.users,
    )
    if not desired:
        return plan_children((), snapshot.children, snapshot.applied), frozenset()
    rest = {key: child for key, child in snapshot.children.items() if key != record}
    plan = plan_children(desired, rest, snapshot.applied)
    if record not in snapshot.children:
        plan = replace(
            plan,
            prepare=(*plan.prepare, build_record(policy)),
            missing=plan.missing | {record},
            others_content=frozenset({record}),
        )
    return plan, frozenset(key_of(manifest) for manifest in desired)


def find_notifying(snapshot: NotifierSnapshot) -> tuple[Finding, ...]:
    """Return whether the notifier runs; nothing for a policy without webhooks."""
    targets = [target.name for target in snapshot.policy.spec.notify]
    if not targets:
        return ()
    metadata = snapshot.policy.metadata
    problems = _read_problems(snapshot)
    if problems:
        shown = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        message = (
            f"alerts wait in their ledgers, since webhooks take none: {shown}; correct the Secret or the receiver, and "
            "the notifier posts them within minutes"
        )
        return (Finding(PolicyCondition.NOTIFYING, "False", PolicyReason.WEBHOOK_FAILING, message),)
    name = notifier_name(metadata.name)
    live = snapshot.children.get(ChildKey(WORKLOAD, name))
    ready = (live.manifest.get("status") or {}).get("readyReplicas", 0) if live is not None else 0
    if ready:
        message = f"alerts are posted to {', '.join(targets)}"
        return (Finding(PolicyCondition.NOTIFYING, "True", PolicyReason.NOTIFIER_READY, message),)
    message = (
        f"Deployment {name} has no ready pod, so alerts wait in their ledgers; "
        f"run: kubectl -n {metadata.namespace} describe pods -l {POLICY_LABEL}={policy_label(metadata.name)}"
    )
    return (Finding(PolicyCondition.NOTIFYING, "False", PolicyReason.NOTIFIER_NOT_READY, message),)


def _read_problems(snapshot: NotifierSnapshot) -> dict[str, str]:
    """Return the webhooks that take no alerts, with the reason that the notifier has recorded."""
    policy = snapshot.policy
    record = snapshot.children.get(ChildKey("ConfigMap", record_name(policy.metadata.name)))
    data = (record.manifest.get("data") or {}) if record is not None else {}
    texts = {target.name: data.get(f"{target.name}{PROBLEM_SUFFIX}") for target in policy.spec.notify}
    return {
        name: "".join(one if one.isprintable() else " " for one in text[:MAX_PROBLEM])
        for name, text in texts.items()
        if text
    }
