"""An index of peers of egress: which of them have all of another one, without a comparison with each of them.

Ranges of addresses lie in each other or apart, so the ranges that have one are those with its prefixes. A selector has
all that another one selects if its labels are some of the labels of the other one. It is kept under its rarest label,
so that few selectors are compared: a policy may have 512 peers, and so may the revision that it is compared with.

    10.20.0.8/32      is looked up as 10.20.0.8/32, 10.20.0.0/24 and 10.0.0.0/8, if the index has prefixes of 32, 24, 8
    app=pg,tier=gold  is compared with the selectors that are kept under app=pg or under tier=gold
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from interlock.api.egress import EgressPeer
from interlock_contract.addresses import parse_cidr

Label = tuple[str, ...]
PeerKey = str | frozenset[Label]
"""A range as text, or the labels of a selector."""


def key_of_peer(peer: EgressPeer) -> PeerKey:
    """Return what a peer opens: two peers with one key open the same."""
    if peer.cidr is not None:
        return peer.cidr
    namespaces, pods = peer.namespace_selector, peer.pod_selector
    found: list[Label] = [("own namespace",) if namespaces is None else ("namespaces",)]
    found += [("namespace", *one) for one in (namespaces.match_labels.items() if namespaces else ())]
    found += [("pod", *one) for one in (pods.match_labels.items() if pods else ())]
    return frozenset(found)


class _Prefix(NamedTuple):
    """The prefix of a range of addresses.

    Attributes:
        version: Of the Internet Protocol.
        length: Of the prefix, in bits.
        bits: The prefix itself.
    """

    version: int
    length: int
    bits: int

    def shorter(self, length: int) -> "_Prefix":
        """Return the prefix of this length of the range that has this one."""
        return _Prefix(self.version, length, self.bits >> (self.length - length))


@functools.lru_cache(maxsize=8192)
def _prefix_of(text: str) -> _Prefix | None:
    """Return the prefix of a range; None for text that is no range. One text is parsed again and again."""
    found = parse_cidr(text)
    if found is None:
        return None
    bits = int(found.network_address) >> (found.max_prefixlen - found.prefixlen)
    return _Prefix(found.version, found.prefixlen, bits)


class PeerIndex:
    """An index of peers.

    Args:
        peers: The peers, each with a number. Several may have one number, such as that of their row.
    """

    def __init__(self, peers: Iterable[tuple[EgressPeer, int]]) -> None:
        self._ranges: defaultdict[_Prefix, set[int]] = defaultdict(set)
        selectors: defaultdict[frozenset[Label], set[int]] = defaultdict(set)
        for peer, number in peers:
            key = key_of_peer(peer)
            if isinstance(key, frozenset):
                selectors[key].add(number)
            elif (prefix := _prefix_of(key)) is not None:
                self._ranges[prefix].add(number)
        self._lengths = {(one.version, one.length) for one in self._ranges}
        count = Counter(label for labels in selectors for label in labels)
        self._selectors: defaultdict[Label, list[tuple[frozenset[Label], set[int]]]] = defaultdict(list)
        for labels, numbers in selectors.items():
            self._selectors[min(labels, key=lambda label: (count[label], label))].append((labels, numbers))

    def having(self, peer: EgressPeer) -> set[int]:
        """Return the numbers of the peers that have all of a peer."""
        key, found = key_of_peer(peer), set[int]()
        if isinstance(key, frozenset):
            for label in key:
                for labels, numbers in self._selectors.get(label, ()):
                    if labels <= key:
                        found |= numbers
        elif (prefix := _prefix_of(key)) is not None:
            for version, length in self._lengths:
                if version == prefix.version and length <= prefix.length:
                    found |= self._ranges.get(prefix.shorter(length), set())
        return found
