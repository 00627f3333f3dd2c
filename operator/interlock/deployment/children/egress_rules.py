"""The egress rules of the pods that run programs of Interlock: guards, verifiers and notifiers."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from interlock.api.binding import HttpServer, Server
from interlock.api.policy import AgentPolicy, EgressProxy, ModelUpstream
from interlock.deployment.children.upstreams import proxy_for, upstreams_of
from interlock.deployment.egress_exceptions import DNS_PORTS, NODE_LOCAL_DNS, cluster_dns_rule
from interlock.deployment.placement import ApiEndpoint, ApiServerAddress, Placement
from interlock_contract.addresses import OPEN_BLOCKS, AddressBlock, Network, allowed_blocks
from interlock_contract.names import SCRAPE_ALLOWED, SCRAPE_LABEL
from interlock_contract.pod import OBSERVE_PORT

Rule = dict[str, Any]
Peer = dict[str, Any]

_PODS: Peer = {"namespaceSelector": {}}
"""All pods, where the network plugin does not match pods by an ipBlock."""
SCRAPERS: Peer = {"namespaceSelector": {"matchLabels": {SCRAPE_LABEL: SCRAPE_ALLOWED}}}
"""Pods of namespaces that may read metrics."""
_NAMESPACE = "kubernetes.io/metadata.name"
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
    """Return the egress of a guard's pod and of its stdio servers, which share its network.

    The guard of a killed agent settles what was spent, and reports. It reaches no server, and its servers nothing but
    the cluster's DNS, if the collector has a name: no other pod that listens at the ports of a DNS.
    """
    rules = [_audit_egress(placement.audit_url)] if placement.audit_url else []
    if placement.is_killed:
        is_named = placement.audit_url and _literal(urlsplit(placement.audit_url).hostname or "") is None
        return [*api_server_egress(placement.api_server), *rules, *([cluster_dns_rule()] if is_named else [])]
    proxy = placement.policy.spec.egress_proxy
    for bound in placement.sources:
        rules += _server_egress(bound.binding.spec.server, proxy)
    for upstream in upstreams_of(placement):
        rules += _http_egress(upstream, proxy)
    if placement.agent.spec.tasks is not None:
        rules.append(dns_egress())  # the guard finds its agent's pods by name
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
    return [{"from": [SCRAPERS], "ports": [tcp(OBSERVE_PORT)]}]


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
            "to": [address_block(endpoint.address) for endpoint in server.endpoints if endpoint.port == port],
        }
        for port in ports
    ]


def _with_api_server(api_server: ApiServerAddress, rules: list[Rule]) -> list[Rule]:
    """Return the rules, each once, with egress to the API server and, if there are any rules, to the cluster's DNS."""
    found = [*api_server_egress(api_server), *rules, *([dns_egress()] if rules else [])]
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
        return address_block(str(ip_address(host)))
    except ValueError:
        return None


def _namespace_in(host: str) -> tuple[str, str]:
    """Return the second label of a name, the namespace of a Service, and what follows."""
    _, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    return namespace, domain


def _namespace_peer(namespace: str) -> Peer:
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE: namespace}}}


def dns_egress() -> Rule:
    """Return the egress to the cluster's DNS: pods with any labels, and the cache on the node."""
    ports = [{"port": port, "protocol": protocol} for port in DNS_PORTS for protocol in ("UDP", "TCP")]
    return {"ports": ports, "to": [_PODS, {"ipBlock": {"cidr": NODE_LOCAL_DNS}}]}


def _allowed(network: Network) -> list[Peer]:
    """Return the addresses that a guard may dial; `Private` has pods, too."""
    return [*_blocks(allowed_blocks(network)), *([_PODS] if network == "Private" else [])]


def _blocks(blocks: Iterable[AddressBlock]) -> list[Peer]:
    return [
        {"ipBlock": {"cidr": block.cidr, **({"except": list(block.excepted)} if block.excepted else {})}}
        for block in blocks
    ]


def address_block(address: str) -> Peer:
    """Return one address as a peer."""
    return {"ipBlock": {"cidr": f"{address}/{ip_address(address).max_prefixlen}"}}


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (_HTTPS if parts.scheme == "https" else _HTTP)


def tcp(port: int) -> dict[str, Any]:
    """Return a TCP port as a rule of a NetworkPolicy names it."""
    return {"port": port, "protocol": "TCP"}
