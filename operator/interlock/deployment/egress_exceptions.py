"""What a policy's rows of egress open for a placement: for its agent's pods, and for its servers in the guard's pod.

Rows open nothing that leads around a guard: pods of Interlock are left out of every selector, and nodes, pods,
Services, the API server and metadata services out of every cidr. While these are not known, no cidr is opened.
"""

import functools
import heapq
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from interlock.api.egress import EgressPeer, EgressPort, EgressRow, PeerSelector
from interlock.deployment.node_ranges import MOST_KEPT
from interlock.deployment.peer_index import PeerKey, key_of_peer
from interlock.deployment.placement import Placement
from interlock_contract.addresses import AddressBlock, AddressRange, open_block, parse_cidr
from interlock_contract.names import APP_MANAGED_BY_LABEL, APP_PART_OF_LABEL, MANAGED_BY, PART_OF
from interlock_contract.pod import EGRESS_CHECK_DNS, EGRESS_CHECK_DNS_UNTRIED

MAX_EXCEPTED: Final = 256
"""Most ranges that are cut out of one cidr. Network plugins keep each of them on each node."""
MAX_POLICY_BYTES: Final = 512 * 1024
"""Most bytes of JSON that rows open in one NetworkPolicy. The API server stores no object with more than 1.5 MiB, and a
guard's policy has other rules, too."""
CROWDED: Final = 200
"""Ranges that are cut out of one cidr from which on the status warns that further nodes will close it."""
DNS_PORTS: Final = (53, 5353)
"""Ports of the cluster's DNS. The pods of OpenShift listen at 5353."""
NODE_LOCAL_DNS: Final = "169.254.20.10/32"
DNS_NAMESPACES: Final = ("kube-system", "openshift-dns")
"""Where the pods of the cluster's DNS run: the latter on OpenShift."""
_NOT_OURS: Final = [
    {"key": APP_MANAGED_BY_LABEL, "operator": "NotIn", "values": [MANAGED_BY]},
    {"key": APP_PART_OF_LABEL, "operator": "NotIn", "values": [PART_OF]},
]
"""Leaves the pods of agents, guards, notifiers, operator, kill controller and collector out of a selector."""

Peer = dict[str, Any]
Rule = dict[str, Any]


@dataclass(frozen=True)
class EgressException:
    """What one row opens.

    Attributes:
        row: The row.
        opened: Those of its peers that are open.
        peers: The same as a NetworkPolicy names them.
        withheld: The peers that are not open, each with the reason.
    """

    row: EgressRow
    opened: tuple[EgressPeer, ...]
    peers: tuple[Peer, ...]
    withheld: tuple[str, ...] = ()

    @property
    def crowded(self) -> tuple[str, ...]:
        """The cidrs that will be closed as a whole once few more ranges must be left out of them."""
        blocks = (peer["ipBlock"] for peer in self.peers if "ipBlock" in peer)
        return tuple(block["cidr"] for block in blocks if len(block.get("except", ())) >= CROWDED)

    @property
    def is_open(self) -> bool:
        """True if anything is open."""
        return bool(self.peers)

    @property
    def text(self) -> str:
        """What is open, such as `orders-db (10.20.0.0/24, TCP 5432)`."""
        named = [_name_peer(peer) for peer in self.opened]
        shown = named if len(named) <= _MOST_SHOWN else [*named[:_MOST_SHOWN], f"{len(named) - _MOST_SHOWN} more"]
        ports = [f"{one.protocol} {_name_ports(one)}" for one in self.row.ports]
        listed = ports if len(ports) <= _MOST_SHOWN else [*ports[:_MOST_SHOWN], f"{len(ports) - _MOST_SHOWN} more"]
        return f"{self.row.name} ({', '.join((*shown, *listed))})"


_MOST_SHOWN: Final = 3
_MOST_TRIED: Final = 8
_IPV6: Final = 6


def agent_exceptions(placement: Placement) -> tuple[EgressException, ...]:
    """Return what the rows open for the agent's own pods."""
    return _exceptions(agent_rows(placement), placement)


def server_exceptions(placement: Placement) -> tuple[EgressException, ...]:
    """Return what the rows open for stdio servers, which share the guard's pod."""
    return _exceptions(server_rows(placement), placement)


def agent_rows(placement: Placement) -> tuple[EgressRow, ...]:
    """Return the rows for the agent's own pods. In a shared pod rows have no effect."""
    if not placement.is_separate:
        return ()
    return tuple(row for row in egress_rows(placement) if not row.servers)


def server_rows(placement: Placement) -> tuple[EgressRow, ...]:
    """Return the rows for stdio servers. In a shared pod rows have no effect."""
    if not placement.is_separate:
        return ()
    stdio = {bound.source for bound in placement.sources if bound.binding.spec.server.stdio is not None}
    return tuple(row for row in egress_rows(placement) if not stdio.isdisjoint(row.servers))


def egress_rows(placement: Placement) -> tuple[EgressRow, ...]:
    """Return the rows that apply to a placement, whatever its isolation."""
    environment = placement.stage.environment
    return tuple(
        row
        for row in placement.policy.spec.egress
        if row.applies_to(placement.agent.metadata) and (not row.environments or environment in row.environments)
    )


def opens_dns(exceptions: Iterable[EgressException]) -> bool:
    """Return True if the cluster's DNS is open."""
    return any(one.row.dns is not None for one in exceptions)


def rules_of(exceptions: Iterable[EgressException]) -> list[Rule]:
    """Return the egress rules of a NetworkPolicy, each once."""
    known = tuple(exceptions)
    found = [{"to": list(one.peers), "ports": [_port(port) for port in one.row.ports]} for one in known if one.is_open]
    rules = [*found, *([cluster_dns_rule()] if opens_dns(known) else [])]
    return list({json.dumps(rule): rule for rule in rules}.values())


def cluster_dns_rule() -> Rule:
    """Return the egress to the cluster's DNS: pods in the namespaces where it runs, and the cache on the node.

    The labels of its pods differ between clusters. A pod of anyone else that listens at these ports is no DNS.
    """
    ports = [{"port": port, "protocol": protocol} for port in DNS_PORTS for protocol in ("UDP", "TCP")]
    namespaces = [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(DNS_NAMESPACES)}]
    pods = {"namespaceSelector": {"matchExpressions": namespaces}, "podSelector": {"matchExpressions": _NOT_OURS}}
    return {"ports": ports, "to": [pods, {"ipBlock": {"cidr": NODE_LOCAL_DNS}}]}


def words_for_check(placement: Placement) -> str:
    """Return what the egress check may find open, see `EGRESS_CHECK_OPEN_VARIABLE`: single addresses, and DNS."""
    exceptions = agent_exceptions(placement)
    rows = [one.row for one in exceptions]
    tried: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        single = {str(port.port) for port in row.ports if port.protocol == "TCP" and port.last == port.port}
        for address in (_single_address(peer.cidr) for peer in row.to if single and peer.cidr is not None):
            if address:
                tried[address] |= single
    # Of one address at most as many ports are tried as of all together.
    words = [f"{address}:{port}" for address, some in tried.items() for port in heapq.nsmallest(_MOST_TRIED, some)]
    ports = [port for row in rows for port in row.ports]
    found = sorted(words)[:_MOST_TRIED]
    if opens_dns(exceptions):
        found.append(EGRESS_CHECK_DNS)
    elif any(port.port <= known <= port.last for port in ports for known in DNS_PORTS):
        found.append(EGRESS_CHECK_DNS_UNTRIED)
    return " ".join(found)


@functools.lru_cache(maxsize=8192)
def _single_address(cidr: str) -> str:
    """Return the address of a range that has one, as it stands before a port; empty for other ranges."""
    base = parse_cidr(cidr)
    if base is None or base.prefixlen != base.max_prefixlen:
        return ""
    return f"[{base.network_address}]" if base.version == _IPV6 else str(base.network_address)


def _exceptions(rows: Iterable[EgressRow], placement: Placement) -> tuple[EgressException, ...]:
    """Return what rows open, as far as one NetworkPolicy has room: a larger one would be refused as a whole."""
    found: list[EgressException] = []
    # Many rows may name one peer, and much may be left out of a range.
    blocks: dict[PeerKey, tuple[Peer | str, int]] = {}
    api_server = tuple(ip_network(endpoint.address) for endpoint in placement.api_server.endpoints)
    room = MAX_POLICY_BYTES
    for row in rows:
        room -= len(json.dumps([_port(port) for port in row.ports]))
        opened: list[tuple[EgressPeer, Peer]] = []
        withheld: list[str] = []
        for peer in row.to:
            key = key_of_peer(peer)
            if key not in blocks:
                found_peer = _open_peer(peer, placement, api_server)
                blocks[key] = found_peer, len(json.dumps(found_peer))
            block, size = blocks[key]
            if not isinstance(block, str) and size > room:
                block = f"the NetworkPolicy would have more than {MAX_POLICY_BYTES // 1024} KiB: name narrower ranges"
            if isinstance(block, str):
                withheld.append(f"{_name_peer(peer)}: {block}")
                continue
            room -= size
            opened.append((peer, block))
        peers = tuple(peer for peer, _ in opened)
        found.append(EgressException(row, peers, tuple(block for _, block in opened), tuple(withheld)))
    return tuple(found)


def _open_peer(peer: EgressPeer, placement: Placement, api_server: tuple[AddressRange, ...]) -> Peer | str:
    """Return a peer as a NetworkPolicy names it, or why it is not opened."""
    if peer.cidr is None:
        namespaces = peer.namespace_selector
        return {
            **({} if namespaces is None else {"namespaceSelector": {"matchLabels": dict(namespaces.match_labels)}}),
            "podSelector": {**_labels(peer.pod_selector), "matchExpressions": _NOT_OURS},
        }
    base = parse_cidr(peer.cidr)
    if base is None or placement.nodes is None:
        return "the operator cannot list Nodes or ServiceCIDRs, which must be left out"
    nodes = placement.nodes.near(base)
    if len(nodes) > MAX_EXCEPTED:
        return _too_many(len(nodes))
    block = _block_of(base, (*nodes, *api_server))
    if block is None:
        return "it has only addresses of nodes, pods, Services or the API server, or of INTERLOCK_CLOSED_RANGES"
    if len(block.excepted) > MAX_EXCEPTED:
        return _too_many(len(block.excepted))
    return {"ipBlock": {"cidr": block.cidr, **({"except": list(block.excepted)} if block.excepted else {})}}


@functools.lru_cache(maxsize=MOST_KEPT)
def _block_of(base: AddressRange, closed: tuple[AddressRange, ...]) -> AddressBlock | None:
    """Return what is open of a range, see `open_block`. The agents of a policy have the same ranges."""
    return open_block(base, closed)


def _too_many(count: int) -> str:
    return f"{count} ranges would have to be left out of it, and {MAX_EXCEPTED} can be: name a narrower one"


def _labels(selector: PeerSelector | None) -> dict[str, Any]:
    return {} if selector is None else {"matchLabels": dict(selector.match_labels)}


def _port(port: EgressPort) -> dict[str, Any]:
    end = {} if port.end_port is None else {"endPort": port.end_port}
    return {"port": port.port, **end, "protocol": port.protocol}


def _name_peer(peer: EgressPeer) -> str:
    if peer.cidr is not None:
        return peer.cidr
    pods = "all pods" if peer.pod_selector is None else f"pods {_name_labels(peer.pod_selector)}"
    if peer.namespace_selector is None:
        return pods
    return f"{pods} in namespaces {_name_labels(peer.namespace_selector)}"


def _name_labels(selector: PeerSelector) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(selector.match_labels.items()))


def _name_ports(port: EgressPort) -> str:
    return str(port.port) if port.last == port.port else f"{port.port}-{port.last}"
