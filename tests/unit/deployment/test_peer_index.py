"""Which peers have all of another one: as a comparison of each pair would say, in far fewer steps."""

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.api.egress import EgressPeer
from interlock.deployment.peer_index import PeerIndex, key_of_peer
from interlock_contract.addresses import parse_cidr
from interlock_contract.spans import has_span, join_spans, meet_spans


def peer(found: dict[str, Any]) -> EgressPeer:
    return EgressPeer.model_validate(found)


def has_all(general: EgressPeer, specific: EgressPeer) -> bool:
    """Compare two peers as the definition says."""
    if general.cidr is not None or specific.cidr is not None:
        outer, inner = parse_cidr(general.cidr or ""), parse_cidr(specific.cidr or "")
        same = outer is not None and inner is not None and outer.version == inner.version
        return same and inner.subnet_of(outer)  # type: ignore[union-attr,arg-type]
    namespaces = general.namespace_selector, specific.namespace_selector
    if (namespaces[0] is None) != (namespaces[1] is None):
        return False
    pairs = namespaces, (general.pod_selector, specific.pod_selector)
    return all(
        one is None or (other is not None and one.match_labels.items() <= other.match_labels.items())
        for one, other in pairs
    )


cidrs = st.sampled_from(
    [
        "10.0.0.0/8",
        "10.20.0.0/16",
        "10.20.0.0/24",
        "10.20.0.8/32",
        "10.21.0.0/16",
        "0.0.0.0/0",
        "fd01::/64",
        "fd01::5/128",
    ]
).map(lambda cidr: {"cidr": cidr})
labels = st.dictionaries(st.sampled_from(["app", "tier", "team"]), st.sampled_from(["a", "b"]), min_size=1)
selectors = st.fixed_dictionaries({"podSelector": labels.map(lambda found: {"matchLabels": found})})
elsewhere = st.fixed_dictionaries({"namespaceSelector": labels.map(lambda found: {"matchLabels": found})})
both = st.tuples(selectors, elsewhere).map(lambda found: {**found[0], **found[1]})
peers = (cidrs | selectors | elsewhere | both).map(peer)


@settings(max_examples=200, deadline=None)
@given(st.lists(peers, max_size=12), peers)
def test_the_index_finds_what_a_comparison_of_each_pair_finds(known: list[EgressPeer], one: EgressPeer) -> None:
    index = PeerIndex((other, number) for number, other in enumerate(known))

    assert index.having(one) == {number for number, other in enumerate(known) if has_all(other, one)}


@given(peers, peers)
def test_peers_with_one_key_have_all_of_each_other(one: EgressPeer, other: EgressPeer) -> None:
    assert (key_of_peer(one) == key_of_peer(other)) == (has_all(one, other) and has_all(other, one))


spans = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 4)).map(lambda one: (one[0], one[0] + one[1])), max_size=5
)


@given(spans, spans)
def test_joined_spans_have_the_same_numbers_and_meet_in_those_of_both(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    def numbers(found: list[tuple[int, int]]) -> set[int]:
        return {number for first, last in found for number in range(first, last + 1)}

    joined, also = join_spans(one), join_spans(other)

    assert numbers(joined) == numbers(one)
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(joined))
    assert numbers(meet_spans(joined, also)) == numbers(one) & numbers(other)
    assert all(has_span(joined, span) == (numbers([span]) <= numbers(one)) for span in other)
