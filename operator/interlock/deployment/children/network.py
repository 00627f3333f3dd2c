"""The NetworkPolicies of a placement's pods, and the rules of the pods that verify a server and that post alerts."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from interlock.api.agent import Agent
from interlock.api.binding import HttpServer, Server
from interlock.api.policy import AgentPolicy, EgressProxy, ModelUpstream
from interlock.deployment.children.upstreams import proxy_for, upstreams_of
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
from interlock.deployment.placement import ApiEndpoint, ApiServerAddress, Placement
from interlock_contract.addresses import OPEN_BLOCKS, AddressBlock, Network, allowed_blocks
from interlock_contract.names import (
    AGENT_LABEL,
    APP_COMPONENT_LABEL,
    GUARD_LABEL,
    ISOLATION_LABEL,
    REVISION_LABEL,
    SCRAPE_ALLOWED,
    SCRAPE_LABEL,
    STAGE_LABEL,
)
from interlock_contract.pod import MCP_PORT, OBSERVE_PORT, TASK_PORT

Rule = dict[str, Any]
Peer = dict[str, Any]

_PODS: Peer = {"namespaceSelector": {}}
"""All pods, where the network plugin does not match pods by an ipBlock."""
_SCRAPERS: Peer = {"namespaceSelector": {"matchLabels": {SCRAPE_LABEL: SCRAPE_ALLOWED}}}
"""Pods of namespaces that may read metrics."""
_NAMESPACE = "kubernetes.io/metadata.name"
_DNS_PORTS = (53, 5353)  # 5353 is where OpenShift's pods listen
_NODE_LOCAL_DNS = "169.254.20.10/32"
_HTTPS, _HTTP = 443, 80


def endpoints_of(service: dict[str, Any], slices: Iterable[dict[str, Any]]) -> tuple[ApiEndpoint, ...]:
    """Return the addresses and ports of the API server.

    Args:
        service: The Service `kubernetes` of the namespace `default`.
        slices: Its EndpointSlices, which the API server itself keeps up to date.
    """
    spec = service["spec"]
    addresses = spec.get("clusterIPs") or [spec["clusterIP"]]
    found = {ApiEndpoint(address, port["port"]) for address in addresses for port in spec["ports"]}
    for one in slices:
        ports = [port["port"] for port in one.get("ports") or () if port.get("port")]
        behind = (address for endpoint in one.get("endpoints") or () for address in endpoint["addresses"])
        found |= {ApiEndpoint(address, port) for address in behind for port in ports}
    return tuple(sorted(found))


def everywhere_but_metadata() -> list[Peer]:
    """Return all pods and addresses except the metadata services of clouds."""
    return [*_blocks(OPEN_BLOCKS), _PODS]


def guard_egress(placement: Placement) -> list[Rule]:
    """Return the egress of a guard's pod and of its stdio servers, which share its network."""
    rules = [_audit_egress(placement.audit_url)] if placement.audit_url else []
    proxy = placement.policy.spec.egress_proxy
    for bound in placement.sources:
        rules += _server_egress(bound.binding.spec.server, proxy)
    for upstream in upstreams_of(placement):
        rules += _http_egress(upstream, proxy)
    if placement.agent.spec.tasks is not None:
        rules.append(_dns_egress())  # the guard finds its agent's pods by name
    return _with_api_server(placement.api_server, rules)


def verification_egress(server: Server, api_server: ApiServerAddress, proxy: EgressProxy | None = None) -> list[Rule]:
    """Return the egress of the pod that verifies a server: the same as a guard's for that server alone."""
    return _with_api_server(api_server, _server_egress(server, proxy))


def notifier_egress(policy: AgentPolicy, api_server: ApiServerAddress) -> list[Rule]:
    """Return the egress of the notifier: to the API server, the DNS, and to webhooks or the egress proxy.

    The URLs are secrets that the operator does not read. So ports are open that a webhook's network may have, and the
    notifier itself checks every address that it dials.
    """
    proxy = policy.spec.egress_proxy
    rules: list[Rule] = []
    networks = {target.webhook.network for target in policy.spec.notify}
    if "Public" in networks and proxy is not None:
        rules.append(_proxy_egress(proxy.url))
    if "Private" in networks:
        rules += network_egress("Private")
    elif proxy is None or proxy.no_proxy:
        rules += network_egress("Public")
    return _with_api_server(api_server, rules)


def notifier_ingress() -> list[Rule]:
    """Return the ingress of the notifier: metrics for namespaces that may scrape."""
    return [{"from": [_SCRAPERS], "ports": [tcp(OBSERVE_PORT)]}]


def network_egress(network: Network | Literal["None"]) -> list[Rule]:
    """Return the egress rules for a `network` of a binding; `None` has no rules and so no egress."""
    return [] if network == "None" else [{"to": _allowed(network)}]


def api_server_egress(server: ApiServerAddress) -> list[Rule]:
    """Return one rule for each port of the API server."""
    ports = sorted({endpoint.port for endpoint in server.endpoints})
    if server.is_anywhere:
        return [{"ports": [tcp(port)], "to": everywhere_but_metadata()} for port in ports]
    return [
        {
            "ports": [tcp(port)],
            "to": [_block(endpoint.address) for endpoint in server.endpoints if endpoint.port == port],
        }
        for port in ports
    ]


def _with_api_server(api_server: ApiServerAddress, rules: list[Rule]) -> list[Rule]:
    """Return the rules, each once, with egress to the API server and, if there are any rules, to the cluster's DNS."""
    found = [*api_server_egress(api_server), *rules, *([_dns_egress()] if rules else [])]
    return [rule for index, rule in enumerate(found) if rule not in found[:index]]


def _server_egress(server: Server, proxy: EgressProxy | None) -> list[Rule]:
    if server.http is not None:
        return _http_egress(server.http, proxy)
    return network_egress(server.stdio.network) if server.stdio is not None else []


def _http_egress(http: HttpServer | ModelUpstream, proxy: EgressProxy | None) -> list[Rule]:
    """Return the egress to an MCP server over HTTP or a model provider: to it, or to the egress proxy alone.

    A private server may be a Service whose pods listen at any port. The guard itself checks every address it dials.
    """
    used = proxy_for(http, proxy)
    if used is not None:
        return [_proxy_egress(used.url)]
    if http.network == "Private":
        return network_egress("Private")
    return [{"ports": [tcp(_port(http.url))], "to": _allowed("Public")}]


def _proxy_egress(url: str) -> Rule:
    """Return the egress to the egress proxy: to its address, its namespace, or what a guard may dial at its port.

    A Service in the cluster may have pods that listen at another port.
    """
    host, ports = urlsplit(url).hostname or "", [tcp(_port(url))]
    address = _literal(host)
    if address is not None:
        return {"ports": ports, "to": [address]}
    namespace, domain = _namespace_in(host)
    if namespace and (domain == "svc" or domain.startswith("svc.")):
        return {"to": [_namespace_peer(namespace)]}
    return {"ports": ports, "to": _allowed("Private")}


def _audit_egress(url: str) -> Rule:
    """Return the egress to the collector: to its address, to the namespace in its DNS name, or to any address."""
    host, ports = urlsplit(url).hostname or "", [tcp(_port(url))]
    address = _literal(host)
    if address is not None:
        return {"ports": ports, "to": [address]}
    namespace, domain = _namespace_in(host)
    if namespace and (domain in ("", "svc") or domain.startswith("svc.")):
        return {"ports": ports, "to": [_namespace_peer(namespace)]}
    return {"ports": ports, "to": everywhere_but_metadata()}


def _literal(host: str) -> Peer | None:
    """Return the block of a host that is an address, None for a name."""
    try:
        return _block(str(ip_address(host)))
    except ValueError:
        return None


def _namespace_in(host: str) -> tuple[str, str]:
    """Return the second label of a name, the namespace of a Service, and what follows."""
    _, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    return namespace, domain


def _namespace_peer(namespace: str) -> Peer:
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE: namespace}}}


def _dns_egress() -> Rule:
    """Return the egress to the cluster's DNS: pods with any labels, and the cache on the node."""
    ports = [{"port": port, "protocol": protocol} for port in _DNS_PORTS for protocol in ("UDP", "TCP")]
    return {"ports": ports, "to": [_PODS, {"ipBlock": {"cidr": _NODE_LOCAL_DNS}}]}


def _allowed(network: Network) -> list[Peer]:
    """Return the addresses that a guard may dial; `Private` has pods, too."""
    return [*_blocks(allowed_blocks(network)), *([_PODS] if network == "Private" else [])]


def _blocks(blocks: Iterable[AddressBlock]) -> list[Peer]:
    return [
        {"ipBlock": {"cidr": block.cidr, **({"except": list(block.excepted)} if block.excepted else {})}}
        for block in blocks
    ]


def _block(address: str) -> Peer:
    return {"ipBlock": {"cidr": f"{address}/{ip_address(address).max_prefixlen}"}}


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (_HTTPS if parts.scheme == "https" else _HTTP)


def tcp(port: int) -> dict[str, Any]:
    """Return a TCP port as a rule of a NetworkPolicy names it."""
    return {"port": port, "protocol": "TCP"}


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
    """Return the policy of a separate agent pod: egress to its guard alone, without DNS.

    The rules name pods and no addresses, so they hold for IPv4 and IPv6.
    """
    return _policy(
        placement,
        agent_workload(placement),
        selector(placement, AGENT_POD),
        ingress=[{"from": [_pods(guard_peer(placement))], "ports": [tcp(port)]} for port in _task_ports(placement)],
        egress=[{"to": [_pods(guard_peer(placement))], "ports": [tcp(MCP_PORT)]}],
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
        egress=[*to_agent, *_guards_egress(placement), *guard_egress(placement)],
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
    observe = {"from": [_SCRAPERS, *observers], "ports": [tcp(OBSERVE_PORT)]}
    tasks = {"from": [{"podSelector": {}}], "ports": [tcp(TASK_PORT)]}
    return [observe, tasks] if _task_ports(placement) else [observe]


def _task_ports(placement: Placement) -> list[int]:
    """Return the port at which the agent takes tasks from its guard, none where it takes no tasks."""
    taken = placement.agent.spec.tasks
    return [] if taken is None else [taken.port]


def _pods(labels: dict[str, str]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}
