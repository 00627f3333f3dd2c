"""What a pod was started with that can be withdrawn: ways past the guard, networks of servers, an identity at a cloud.

A NetworkPolicy cuts no connection, and a process keeps the credentials that it has. So each pod says in an annotation
what it was started with. Once its policy opens less, the pod ends: its successor may never be Ready.

    started with   10.20.0.0/24 TCP 5432         today   10.0.0.0/8 TCP 5000-6000    the pod stays
    started with   10.20.0.0/24 TCP 5432         today   10.20.0.8/32 TCP 5432       the pod ends
"""

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock.api.egress import EgressPeer
from interlock.deployment.cloud_identity import account_annotations
from interlock.deployment.egress_exceptions import agent_rows, server_rows
from interlock.deployment.egress_narrowing import covers_peer
from interlock.deployment.names import AGENT_POD, GUARD_POD, Manifest
from interlock.deployment.placement import Placement
from interlock_contract.names import OPENINGS

MAX_OPENINGS: Final = 16 * 1024
"""Most characters that a pod says. Of more it says a digest, which differs from everything else."""

_NETWORKS: Final = ("None", "Public", "Private")
"""What stdio servers may reach by their bindings, the narrowest first. Each has all of those before it."""
Port = tuple[str, int, int]
"""Protocol, first and last port."""


@dataclass(frozen=True)
class _Openings:
    """What a text says.

    Attributes:
        ways: The ports that are open, by peer.
        is_dns_open: Whether the cluster's DNS is open.
        identity: The annotations that give an identity at a cloud; empty for none.
        network: The place in `_NETWORKS` of the widest network of stdio servers, which share the guard's pod.
    """

    ways: tuple[tuple[EgressPeer, tuple[Port, ...]], ...]
    is_dns_open: bool
    identity: Mapping[str, str]
    network: int = 0


def openings_of(placement: Placement, component: str) -> str:
    """Return what the pods of one component may use now, empty for nothing.

    The text does not depend on how rows are named and split.
    """
    rows = {AGENT_POD: agent_rows, GUARD_POD: server_rows}[component](placement)
    identity = account_annotations(placement) if component == GUARD_POD else {}
    network = _network_of(placement) if component == GUARD_POD else 0
    ports: defaultdict[str, set[Port]] = defaultdict(set)
    for row in rows:
        for peer in row.to:
            named = json.dumps(peer.to_kubernetes(), sort_keys=True)
            ports[named] |= {(port.protocol, port.port, port.last) for port in row.ports}
    if not ports and not identity and not network:
        return ""
    ways = [[json.loads(peer), sorted(found)] for peer, found in sorted(ports.items())]
    is_dns_open = any(row.dns is not None for row in rows)
    said = {"ways": ways, "dns": is_dns_open, "identity": identity, "network": _NETWORKS[network]}
    return _short(json.dumps(said, sort_keys=True))


def _network_of(placement: Placement) -> int:
    servers = (bound.binding.spec.server.stdio for bound in placement.sources)
    found = (_NETWORKS.index(one.network) for one in servers if one is not None)
    return max(found, default=0) if placement.is_separate else 0


def withdraws(desired: Manifest, live: Manifest) -> bool:
    """Return True if the pods of a live Deployment may be started with more than the desired one opens."""
    return is_withdrawn(_openings_of_template(live), _openings_of_template(desired))


def _openings_of_template(workload: Manifest) -> str:
    template: Manifest = workload["spec"].get("template") or {}
    return openings_in((template.get("metadata") or {}).get("annotations") or {})


def openings_in(annotations: Mapping[str, str]) -> str:
    """Return what a pod says that it was started with."""
    return sys.intern(_short(annotations.get(OPENINGS, "")))


def is_withdrawn(before: str, today: str) -> bool:
    """Return True unless everything that a pod was started with is open today. What cannot be read is not.

    Args:
        before: What the pod says.
        today: What its component may use now.
    """
    if not before or before == today:
        return False
    try:
        known, now = _parse(before), _parse(today)
    except (ValueError, TypeError, KeyError, RecursionError):
        return True
    if known.network > now.network or (known.is_dns_open and not now.is_dns_open):
        return True
    if known.identity and known.identity != now.identity:
        return True
    return not all(_is_open(peer, port, now) for peer, ports in known.ways for port in ports)


def _is_open(peer: EgressPeer, port: Port, now: _Openings) -> bool:
    """Return True if ranges of ports of peers that have all of this peer have all of these ports together."""
    protocol, first, last = port
    found = (one for other, ports in now.ways if covers_peer(other, peer) for one in ports if one[0] == protocol)
    for _, begin, end in sorted(found):
        if begin > first:
            return False
        first = max(first, end + 1)
        if first > last:
            return True
    return False


def _parse(text: str) -> _Openings:
    if not text:
        return _Openings((), is_dns_open=False, identity={})
    found: dict[str, Any] = json.loads(text)
    ways = tuple((EgressPeer.model_validate(peer), _ports(ports)) for peer, ports in found["ways"])
    return _Openings(ways, bool(found["dns"]), dict(found["identity"]), _NETWORKS.index(found["network"]))


def _ports(found: Iterable[Any]) -> tuple[Port, ...]:
    return tuple((str(protocol), int(first), int(last)) for protocol, first, last in found)


def _short(text: str) -> str:
    return text if len(text) <= MAX_OPENINGS else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
