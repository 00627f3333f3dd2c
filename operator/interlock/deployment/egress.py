"""What a guard's pod of its own may reach: the API server, the collector, and what its servers need.

Every rule names addresses of one family or pods; a rule without a destination would be open in both. An `ipBlock` is
compared by most networks after a Service's address was replaced by a pod's, so no rule rests on the addresses of
Services alone.
"""

from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from interlock.api.http_server import HttpServer
from interlock.api.mcpbinding import Server
from interlock.api.models import ModelUpstream
from interlock.deployment.api_server import ApiServer
from interlock.deployment.models import upstreams_of
from interlock.deployment.placement import Placement

Rule = dict[str, Any]
Peer = dict[str, Any]
Network = Literal["None", "Public", "Private"]

METADATA = ["169.254.0.0/16", "100.100.100.200/32", "192.0.0.192/32"]
"""Where clouds hand out credentials: link-local, and the exceptions to that of Alibaba and Oracle."""
METADATA_V6 = ["fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"]
"""The same in IPv6: link-local, AWS and GCP."""
PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", *METADATA]
"""RFC 1918 and 6598, loopback, and metadata services: what `Public` never is."""

_NAMESPACE = "kubernetes.io/metadata.name"
_DNS_PORTS = (53, 5353)  # 5353 is where OpenShift's pods listen
_NODE_LOCAL_DNS = "169.254.20.10/32"
_HTTPS, _HTTP = 443, 80


def everywhere_but_metadata() -> list[Peer]:
    """Return all pods and addresses but those at which clouds hand out credentials."""
    return [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": METADATA}},
        {"ipBlock": {"cidr": "::/0", "except": METADATA_V6}},
        {"namespaceSelector": {}},  # where an ipBlock does not match pods
    ]


def guard_egress(placement: Placement) -> list[Rule]:
    """Return what the pod of a guard may reach, its stdio servers included: they share its network."""
    rules = [_records_egress(placement.records_url)] if placement.records_url else []
    for bound in placement.sources:
        rules += _server_egress(bound.binding.spec.server)
    for upstream in upstreams_of(placement):
        rules += _http_egress(upstream)
    if placement.agent.spec.orchestration is not None:
        rules.append(_dns_egress())  # its agent's pods are found by name
    return _with_api_server(placement.api_server, rules)


def verification_egress(server: Server, api_server: ApiServer) -> list[Rule]:
    """Return what the pod may reach that verifies a server: what a guard may for that server, and no more."""
    return _with_api_server(api_server, _server_egress(server))


def network_egress(network: Network) -> list[Rule]:
    """Return the rules of one word of a binding; `None` gives none, so that nothing is let out."""
    if network == "Public":
        return [{"to": _public()}]
    if network == "Private":
        return [{"to": everywhere_but_metadata()}]
    return []


def api_server_egress(server: ApiServer) -> list[Rule]:
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


def _with_api_server(api_server: ApiServer, rules: list[Rule]) -> list[Rule]:
    """Return the rules, each once, with the way to the API server and, where anything else is reached, to its name."""
    found = [*api_server_egress(api_server), *rules, *([_dns_egress()] if rules else [])]
    return [rule for index, rule in enumerate(found) if rule not in found[:index]]


def _server_egress(server: Server) -> list[Rule]:
    if server.http is not None:
        return _http_egress(server.http)
    return network_egress(server.stdio.network) if server.stdio is not None else []


def _http_egress(http: HttpServer | ModelUpstream) -> list[Rule]:
    """Return where a server over HTTP or a provider of models is.

    Behind a Service a pod may listen at any port, outside of clusters it is one. Which of those addresses are dialled
    is the guard's to decide, one by one.
    """
    if http.network == "Private":
        return network_egress("Private")
    return [{"ports": [tcp(_port(http.url))], "to": _public()}]


def _records_egress(url: str) -> Rule:
    """Return the way to the collector: an address, the pods of the namespace that its name speaks of, or anywhere."""
    host, ports = urlsplit(url).hostname or "", [tcp(_port(url))]
    try:
        return {"ports": ports, "to": [_block(str(ip_address(host)))]}
    except ValueError:
        pass
    _, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    if namespace and (domain in ("", "svc") or domain.startswith("svc.")):
        return {"ports": ports, "to": [{"namespaceSelector": {"matchLabels": {_NAMESPACE: namespace}}}]}
    return {"ports": ports, "to": everywhere_but_metadata()}


def _dns_egress() -> Rule:
    """Return the way to the cluster's DNS: its pods, whatever they are called, and the cache on the node."""
    ports = [{"port": port, "protocol": protocol} for port in _DNS_PORTS for protocol in ("UDP", "TCP")]
    return {"ports": ports, "to": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": _NODE_LOCAL_DNS}}]}


def _public() -> list[Peer]:
    return [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": PRIVATE}},
        {"ipBlock": {"cidr": "2000::/3", "except": ["2001::/23", "2002::/16"]}},
    ]


def _block(address: str) -> Peer:
    return {"ipBlock": {"cidr": f"{address}/{ip_address(address).max_prefixlen}"}}


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (_HTTPS if parts.scheme == "https" else _HTTP)


def tcp(port: int) -> dict[str, Any]:
    """Return a TCP port as a rule of a NetworkPolicy names it."""
    return {"port": port, "protocol": "TCP"}
