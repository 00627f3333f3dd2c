"""The AgentPolicies by which the pod of a verification runs. A binding has no policy of its own."""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from interlock.api.binding import MCPBinding
from interlock.api.pod_policy import PodTemplatePolicy
from interlock.api.policy import AgentPolicy, EgressProxy
from interlock.governance.pod_features import digest_refusals, id_refusals, server_refusals
from interlock.reconcile.snapshot import Unreadable, readable
from interlock_contract.egress_proxy import is_proxied

_UNREAD = (
    "AgentPolicy {policy}, which may say how the server's pod runs, cannot be read: {problem}; fix it, or delete it"
)
_UNREAD_PROXY = (
    "AgentPolicy {policy}, which may have the egress proxy through which the server is reached, cannot be read: "
    "{problem}; fix it, or delete it"
)
_PROXY: Final = "AgentPolicy.spec.egressProxy"


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


def find_proxy(policies: Iterable[AgentPolicy | Unreadable], source: str) -> EgressProxy | None:
    """Return the egress proxy through which a binding is verified.

    Its server is verified as the first policy with a proxy and a row for its source has guards reach it.

    Args:
        policies: The AgentPolicies of its namespace, by name.
        source: Its source.
    """
    for policy in filter(None, map(_with_known_proxy, policies)):
        is_there = policy.metadata.deletion_timestamp is None
        if is_there and policy.spec.egress_proxy and any(row.source == source for row in policy.spec.data_access):
            return policy.spec.egress_proxy
    return None


def proxy_refusal(policies: Iterable[AgentPolicy | Unreadable], binding: MCPBinding, proxy: EgressProxy | None) -> str:
    """Return why no one knows through which proxy a server must be reached; empty where that is known.

    Without this, a policy that cannot be read would have its servers reached past its proxy.

    Args:
        policies: The AgentPolicies of the binding's namespace, by name.
        binding: The MCPBinding.
        proxy: The proxy that was found.
    """
    http = binding.spec.server.http
    if proxy is not None or http is None or not is_proxied(http.url, http.network, ()):
        return ""
    for policy in policies:
        if isinstance(policy, Unreadable) and _with_known_proxy(policy) is None and _may_use(policy, binding, ()):
            return _UNREAD_PROXY.format(policy=policy.name, problem=policy.message)
    return ""


def _with_known_proxy(policy: AgentPolicy | Unreadable) -> AgentPolicy | None:
    """Return what can be read of a policy; None if its egress proxy is not among it."""
    if isinstance(policy, Unreadable) and any(path.startswith(_PROXY) for path in policy.left_out):
        return None
    return readable(policy, AgentPolicy)


def _may_use(policy: Unreadable, binding: MCPBinding, named: Collection[str]) -> bool:
    rest = readable(policy, AgentPolicy)
    return rest is None or _uses_source(rest, binding.spec.source, named)


def _uses_source(policy: AgentPolicy, source: str, named: Collection[str]) -> bool:
    if any(row.source == source for row in policy.spec.data_access):
        return True
    return policy.metadata.name in named and any(one.mode == "Audit" for one in policy.spec.environments)
