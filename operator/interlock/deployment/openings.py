"""What a pod was started with that can be withdrawn: ways past the guard, networks of servers, an identity at a cloud.

A NetworkPolicy cuts no connection, and a process keeps the credentials that it has. So each pod says in an annotation
what it was started with. Once its policy opens less, the pod ends: its successor may never be Ready.

    started with   10.20.0.0/24 TCP 5432         today   10.0.0.0/8 TCP 5000-6000    the pod stays
    started with   10.20.0.0/24 TCP 5432         today   10.20.0.8/32 TCP 5432       the pod ends

A long text is compressed: the API server stores each pod, and the operator keeps it.
"""

import base64
import functools
import hashlib
import json
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock.api.egress import EgressPeer
from interlock.deployment.cloud_identity import account_annotations
from interlock.deployment.egress_exceptions import agent_rows, server_rows
from interlock.deployment.names import AGENT_POD, GUARD_POD, Manifest, template_metadata
from interlock.deployment.peer_index import PeerIndex, PeerKey, key_of_peer
from interlock.deployment.placement import Placement
from interlock_contract.names import OPENINGS
from interlock_contract.spans import Span, has_span, join_spans

MAX_OPENINGS: Final = 16 * 1024
"""Most characters that a pod says. A longer text is compressed. Of one that is too long even so, the pod says a digest,
so that each change counts as a withdrawal."""
_COMPRESSED: Final = "zlib:"
_DIGEST: Final = "sha256:"
_MOST_CHARACTERS: Final = 4 * 1024 * 1024
"""Most characters of a text that is compressed. What a pod says is read no further: others may have written it."""

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
    """Return what the pods of one component say that they were started with, empty for nothing."""
    return short_openings(all_openings_of(placement, component))


def all_openings_of(placement: Placement, component: str) -> str:
    """Return what the pods of one component may use now as a text of any length, empty for nothing.

    The text does not depend on how rows are named and split. A member that a later version adds must be left out while
    it says nothing: the text is part of the pod template, so an upgrade would replace all pods.
    """
    rows = {AGENT_POD: agent_rows, GUARD_POD: server_rows}[component](placement)
    identity = account_annotations(placement) if component == GUARD_POD else {}
    network = _network_of(placement) if component == GUARD_POD else 0
    peers: dict[PeerKey, EgressPeer] = {}
    ports: defaultdict[PeerKey, set[Port]] = defaultdict(set)
    for row in rows:
        of_row = {(port.protocol, port.port, port.last) for port in row.ports}
        for peer in row.to:
            key = key_of_peer(peer)
            peers.setdefault(key, peer)
            ports[key] |= of_row
    if not ports and not identity and not network:
        return ""
    named = {json.dumps(peer.to_kubernetes(), sort_keys=True): sorted(ports[key]) for key, peer in peers.items()}
    ways = [[json.loads(peer), found] for peer, found in sorted(named.items())]
    is_dns_open = any(row.dns is not None for row in rows)
    said = {"ways": ways, "dns": is_dns_open, "identity": identity, "network": _NETWORKS[network]}
    return json.dumps(said, sort_keys=True)


def _network_of(placement: Placement) -> int:
    servers = (bound.binding.spec.server.stdio for bound in placement.sources)
    found = (_NETWORKS.index(one.network) for one in servers if one is not None)
    return max(found, default=0) if placement.is_separate else 0


def withdraws(desired: Manifest, live: Manifest) -> bool:
    """Return True if the pods of a live Deployment may be started with more than the desired one opens.

    Where one of them says only a digest, everything else counts as more.
    """
    return is_withdrawn(_openings_of_template(live), _openings_of_template(desired))


def _openings_of_template(workload: Manifest) -> str:
    return openings_in(template_metadata(workload).get("annotations") or {})


def openings_in(annotations: Mapping[str, str]) -> str:
    """Return what a pod says that it was started with."""
    text = annotations.get(OPENINGS, "")
    return sys.intern(text if len(text) <= MAX_OPENINGS else _digest_of(text))


def is_withdrawn(before: str, today: str) -> bool:
    """Return True unless everything that a pod was started with is open today. What cannot be read is not.

    Args:
        before: What the pod says.
        today: What its component may use now, of any length.
    """
    if not before or before in (today, short_openings(today)):
        return False
    try:
        if before.startswith(_DIGEST):  # an earlier version said the digest of each long text
            return before != _digest_of(_expanded(today))
        known, now = _parse(before), _parse(today)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return True
    if known.network > now.network or (known.is_dns_open and not now.is_dns_open):
        return True
    if known.identity and known.identity != now.identity:
        return True
    index = PeerIndex((peer, place) for place, (peer, _) in enumerate(now.ways))
    return not all(
        _are_open(ports, [one for place in index.having(peer) for one in now.ways[place][1]])
        for peer, ports in known.ways
    )


def _are_open(ports: Iterable[Port], now: Iterable[Port]) -> bool:
    """Return True if other ports have all of these ports together."""
    found: defaultdict[str, list[Span]] = defaultdict(list)
    for protocol, first, last in now:
        found[protocol].append((first, last))
    joined = {protocol: join_spans(spans) for protocol, spans in found.items()}
    return all(has_span(joined.get(protocol, ()), (first, last)) for protocol, first, last in ports)


@functools.lru_cache(maxsize=16)
def _parse(text: str) -> _Openings:
    """Return what a text says, also one of another version.

    An earlier version says nothing of a member that it did not know, so none is required. Of a member that a later one
    has added, this one cannot say what is open.

    Raises:
        ValueError: The text cannot be read, or says something of an unknown member.
    """
    found: dict[str, Any] = json.loads(_expanded(text)) if text else {}
    unknown = [name for name in found.keys() - _MEMBERS if found[name]]
    if unknown:
        raise ValueError(f"unknown members {', '.join(sorted(unknown))}")
    ways = tuple((EgressPeer.model_validate(peer), _ports(ports)) for peer, ports in found.get("ways", ()))
    network = _NETWORKS.index(found.get("network", _NETWORKS[0]))
    return _Openings(ways, bool(found.get("dns")), dict(found.get("identity", {})), network)


_MEMBERS: Final = {"ways", "dns", "identity", "network"}


def _ports(found: Iterable[Any]) -> tuple[Port, ...]:
    return tuple((str(protocol), int(first), int(last)) for protocol, first, last in found)


def short_openings(text: str) -> str:
    """Return what a pod says of a text of openings: itself, or what `MAX_OPENINGS` says where it is long."""
    return text if len(text) <= MAX_OPENINGS else _shortened(text)


@functools.lru_cache(maxsize=32)
def _shortened(text: str) -> str:
    packed = base64.b85encode(zlib.compress(text.encode(), level=9)).decode() if len(text) <= _MOST_CHARACTERS else ""
    return f"{_COMPRESSED}{packed}" if 0 < len(packed) <= MAX_OPENINGS - len(_COMPRESSED) else _digest_of(text)


def _digest_of(text: str) -> str:
    return f"{_DIGEST}{hashlib.sha256(text.encode()).hexdigest()}"


def _expanded(text: str) -> str:
    """Return a text of openings as it was before it was compressed.

    Raises:
        ValueError: It cannot be read, or is too long.
    """
    if not text.startswith(_COMPRESSED):
        return text
    unpacking = zlib.decompressobj()
    try:
        found = unpacking.decompress(base64.b85decode(text.removeprefix(_COMPRESSED)), _MOST_CHARACTERS)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not unpacking.eof:
        raise ValueError(f"more than {_MOST_CHARACTERS} characters, or not all of them")
    return found.decode()
