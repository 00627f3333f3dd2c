"""The AgentPolicy by which the pod of a verification runs. A binding has no policy of its own."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from interlock.api.binding import MCPBinding
from interlock.api.pod_policy import PodTemplatePolicy
from interlock.api.policy import AgentPolicy
from interlock.governance.pod_features import digest_refusals, id_refusals, server_refusals
from interlock.reconcile.snapshot import Unreadable, readable

_UNREAD = (
    "AgentPolicy {policy}, which may say how the server's pod runs, cannot be read: {problem}; fix it, or delete it"
)


class PodRules(NamedTuple):
    """What AgentPolicies say about the pod of a verification.

    Attributes:
        rules: What the policy says by which it runs.
        refusal: Why no policy lets the server run; empty where one does, or there is none.
    """

    rules: PodTemplatePolicy
    refusal: str = ""


def find_pod_rules(
    policies: Iterable[AgentPolicy | Unreadable],
    binding: MCPBinding,
    named: Collection[str] = (),
    reserved_ids: frozenset[int] = frozenset(),
) -> PodRules:
    """Return what holds for the pod of a verification: the first policy that uses the source and allows its server.

    If none uses the source, all policies count. A binding with a source of its own would escape all of them otherwise.
    One that cannot be read may be the one that uses it, so without another one that does no server runs.

    Args:
        policies: The AgentPolicies of its namespace, by name.
        binding: The MCPBinding.
        named: The policies of the Agents that use the source. In mode Audit, they need no row for it.
        reserved_ids: The users and groups of Interlock's containers in the namespace.
    """
    stdio, refusal = binding.spec.server.stdio, ""
    taken = [] if stdio is None else id_refusals("spec.server.stdio", stdio.security_context, reserved_ids)
    if taken:
        return PodRules(PodTemplatePolicy(), "; ".join(taken))
    policies = tuple(policies)
    known = [one for one in policies if not isinstance(one, Unreadable) and one.metadata.deletion_timestamp is None]
    using = [one for one in known if _uses_source(one, binding.spec.source, named)]
    unread = next((one for one in policies if isinstance(one, Unreadable) and _may_use(one, binding, named)), None)
    if not using and unread is not None:
        return PodRules(PodTemplatePolicy(), _UNREAD.format(policy=unread.name, problem=unread.message))
    for policy in using or known:
        name, rules = policy.metadata.name, policy.spec.pod_template
        refused = [] if stdio is None else server_refusals("spec.server.stdio", stdio, name, rules)
        refused += [] if stdio is None else digest_refusals({"spec.server.stdio.image": stdio.image}, name, rules)
        if not refused:
            return PodRules(rules)
        refusal = refusal or "; ".join(refused)
    return PodRules(PodTemplatePolicy(), refusal)


def _may_use(policy: Unreadable, binding: MCPBinding, named: Collection[str]) -> bool:
    rest = readable(policy, AgentPolicy)
    return rest is None or _uses_source(rest, binding.spec.source, named)


def _uses_source(policy: AgentPolicy, source: str, named: Collection[str]) -> bool:
    if any(row.source == source for row in policy.spec.data_access):
        return True
    return policy.metadata.name in named and any(one.mode == "Audit" for one in policy.spec.environments)
