"""The egress that holds for a revision: what it was reviewed with and what today's policy opens, both at once.

A row is compared by what it opens and not by its name: a row that is renamed, or split, closes nothing.

    reviewed   10.0.0.0/8     TCP 5000-6000     today   10.20.0.0/24   TCP 5432     holds   10.20.0.0/24   TCP 5432
    reviewed   10.20.0.0/24   TCP 5432          today   10.0.0.0/8     TCP 5432     holds   10.20.0.0/24   TCP 5432
"""

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from interlock.api.egress import EgressPeer, EgressPort, EgressRow
from interlock.api.shared_types import ObjectMeta
from interlock.deployment.peer_index import PeerIndex, key_of_peer
from interlock_contract.spans import Span, has_span, join_spans, meet_spans

Protocol = Literal["TCP", "UDP"]
Spans = Mapping[Protocol, list[Span]]
"""Ports by protocol, as `join_spans` returns them."""


@dataclass(frozen=True)
class EgressUses:
    """What of a row concerns an agent.

    Attributes:
        sources: The sources that it uses.
        environments: The environments of its stages.
    """

    sources: frozenset[str]
    environments: frozenset[str]

    def concerns(self, row: EgressRow) -> bool:
        """Return True if a row opens anything for the agent or for its servers."""
        return (not row.servers or not self.sources.isdisjoint(row.servers)) and (
            not row.environments or not self.environments.isdisjoint(row.environments)
        )


def reviewed_rows(rows: Iterable[EgressRow], agent: ObjectMeta, uses: EgressUses) -> tuple[EgressRow, ...]:
    """Return the rows for an agent as its revision has them: by its name, its sources and its environments.

    Args:
        rows: The rows of the policy.
        agent: The agent.
        uses: What it uses.
    """
    return tuple(
        row.model_copy(
            update={
                "agents": (agent.name,),
                "agent_selector": None,
                "servers": tuple(one for one in row.servers if one in uses.sources),
                "environments": tuple(sorted(uses.environments & set(row.environments or uses.environments))),
            }
        )
        for row in rows
        if row.applies_to(agent) and uses.concerns(row)
    )


def narrowed_rows(
    reviewed: tuple[EgressRow, ...],
    today: tuple[EgressRow, ...],
    agent: ObjectMeta,
    labelled: ObjectMeta,
    uses: EgressUses,
) -> tuple[EgressRow, ...]:
    """Return today's rows with what the revision was reviewed with. Rows that do not concern the agent stay.

    Args:
        reviewed: The rows of the revision.
        today: The rows of the policy.
        agent: The agent with the labels of its revision.
        labelled: The agent with today's labels.
        uses: What it uses.
    """
    is_concerned = [uses.concerns(row) and row.applies_to(agent) for row in today]
    # A label that was taken away takes away at once what it opened.
    is_wanted = tuple(one and row.applies_to(labelled) for row, one in zip(today, is_concerned, strict=True))
    before = _Rows(reviewed, tuple(map(_key_of_row, reviewed)))
    # All agents of a policy have these very rows. Their id is no one else's while they are kept.
    met = iter(_meet_all(before, _Rows(today, id(today)), is_wanted, uses))
    found: list[EgressRow] = []
    for row, concerned, wanted in zip(today, is_concerned, is_wanted, strict=True):
        if wanted:
            found += next(met)
        elif not concerned:
            found.append(row)
    return tuple(found)


@dataclass(frozen=True)
class _Rows:
    """Rows that are equal to others by a key."""

    rows: tuple[EgressRow, ...] = field(compare=False)
    key: object


@functools.lru_cache(maxsize=128)
def _meet_all(
    reviewed: _Rows, today: _Rows, is_wanted: tuple[bool, ...], uses: EgressUses
) -> tuple[tuple[EgressRow, ...], ...]:
    """Return for each wanted row of today what holds. It is the same for all agents that were reviewed with the same.

    A reconcile asks several times, and a change of a policy lets all of its agents ask.
    """
    wanted = [row for row, one in zip(today.rows, is_wanted, strict=True) if one]
    return tuple(_Meeting(reviewed.rows, wanted, uses).results())


def _key_of_row(row: EgressRow) -> object:
    """Return a key of a reviewed row, whatever its name and its agents are. The order of its peers is part of it."""
    ports = tuple((one.protocol, one.port, one.last) for one in row.ports)
    return tuple(map(key_of_peer, row.to)), ports, row.servers, row.environments, row.dns


class _Meeting:
    """What the rows of a revision and those of today open both.

    Both may have 512 peers, so no peer is compared with each other one: an index says once in which rows there is a
    peer that has all of another one. Then two rows take about as many steps as they have peers and ports.

    Args:
        reviewed: The rows of the revision.
        today: The rows of the policy that concern the agent.
        uses: What the agent uses.
    """

    def __init__(self, reviewed: Sequence[EgressRow], today: Sequence[EgressRow], uses: EgressUses) -> None:
        self._reviewed, self._today, self._uses = reviewed, today, uses
        self._reviewed_ports = [_spans_of(row.ports) for row in reviewed]
        self._ports = [_spans_of(row.ports) for row in today]
        self._having_today = _rows_having(today, reviewed)
        """Of each peer of each row of today, the reviewed rows that have all of it."""
        self._having_reviewed = _rows_having(reviewed, today)
        """Of each peer of each reviewed row, the rows of today that have all of it."""

    def results(self) -> Iterator[tuple[EgressRow, ...]]:
        """Yield for each row of today what holds: the row itself where it was reviewed as a whole."""
        parts = [set[int]().union(*found) for found in self._having_reviewed]
        known: set[object] = set()
        for number, row in enumerate(self._today):
            near = set[int]().union(*self._having_today[number])
            near |= {other for other, rows in enumerate(parts) if number in rows}
            met = [found for other in sorted(near) if (found := self._meet(other, number)) is not None]
            if any(found is row for found in met):
                yield (row,)
                continue
            fresh = {key: found for found in met if (key := _what_it_opens(found)) not in known}
            known |= fresh.keys()
            yield tuple(fresh.values())

    def _meet(self, other: int, number: int) -> EgressRow | None:
        """Return what two rows open both, that of today itself if it is all of it; None if they have nothing in common.

        Args:
            other: The number of the reviewed row.
            number: The number of the row of today.
        """
        before, row, uses = self._reviewed[other], self._today[number], self._uses
        if bool(before.servers) != bool(row.servers):
            return None
        met = _meet_ports(self._reviewed_ports[other], self._ports[number])
        ports = row.ports if met is None else met
        to = self._meet_peers(other, number) if ports else ()
        servers = tuple(one for one in row.servers if one in before.servers or one not in uses.sources)
        environments = tuple(
            one for one in row.environments if one in before.environments or one not in uses.environments
        )
        if not row.environments and not uses.environments <= set(before.environments):
            environments = before.environments
        # A row without servers is one for the agents themselves, and one without environments is one for all of them.
        if not to or (bool(row.servers) and not servers) or (bool(row.environments) and not environments):
            return None
        dns = row.dns if before.dns else None
        is_same = (servers, environments, dns) == (row.servers, row.environments, row.dns)
        if is_same and to is row.to and ports is row.ports:
            return row
        update = {"servers": servers, "environments": environments, "to": to, "ports": ports, "dns": dns}
        both = row.model_copy(update=update)
        return both if uses.concerns(both) else None

    def _meet_peers(self, other: int, number: int) -> tuple[EgressPeer, ...]:
        """Return the peers that two rows have both: those of today that were reviewed as a whole, and parts of others.

        Of two ranges that have an address in common one has all of the other. So each part is a peer of one of them.
        """
        row, before = self._today[number], self._reviewed[other]
        whole = [peer for peer, rows in zip(row.to, self._having_today[number], strict=True) if other in rows]
        if len(whole) == len(row.to):
            return row.to
        parts = [peer for peer, rows in zip(before.to, self._having_reviewed[other], strict=True) if number in rows]
        return tuple({key_of_peer(peer): peer for peer in (*whole, *parts)}.values())


def _rows_having(rows: Iterable[EgressRow], others: Sequence[EgressRow]) -> list[list[set[int]]]:
    """Return for each peer of each row the numbers of the other rows that have a peer with all of it."""
    index = PeerIndex((peer, number) for number, row in enumerate(others) for peer in row.to)
    return [[index.having(peer) for peer in row.to] for row in rows]


def _spans_of(ports: Iterable[EgressPort]) -> Spans:
    found: defaultdict[Protocol, list[Span]] = defaultdict(list)
    for port in ports:
        found[port.protocol].append((port.port, port.last))
    return {protocol: join_spans(spans) for protocol, spans in found.items()}


def _meet_ports(before: Spans, today: Spans) -> tuple[EgressPort, ...] | None:
    """Return the ports that both have, in order; None if those are all of today."""
    if all(has_span(before.get(protocol, ()), span) for protocol, spans in today.items() for span in spans):
        return None
    return tuple(
        _port_of(protocol, first, last)
        for protocol, spans in today.items()
        for first, last in meet_spans(spans, before.get(protocol, ()))
    )


@functools.lru_cache(maxsize=4096)
def _port_of(protocol: Protocol, first: int, last: int) -> EgressPort:
    return EgressPort(port=first, end_port=None if first == last else last, protocol=protocol)


def _what_it_opens(row: EgressRow) -> object:
    """Return a key of what a row opens for the agent, however it is named."""
    ports = frozenset((one.protocol, one.port, one.last) for one in row.ports)
    return frozenset(map(key_of_peer, row.to)), ports, row.servers, row.environments, row.dns
