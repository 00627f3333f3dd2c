"""The egress that holds for a revision: what it was reviewed with and what today's policy opens, both at once.

A row is compared by what it opens and not by its name: a row that is renamed, or split, closes nothing.

    reviewed   10.0.0.0/8     TCP 5000-6000     today   10.20.0.0/24   TCP 5432     holds   10.20.0.0/24   TCP 5432
    reviewed   10.20.0.0/24   TCP 5432          today   10.0.0.0/8     TCP 5432     holds   10.20.0.0/24   TCP 5432
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from interlock.api.egress import EgressPeer, EgressPort, EgressRow, PeerSelector
from interlock.api.shared_types import ObjectMeta
from interlock_contract.addresses import parse_cidr, span_of

T = TypeVar("T")


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
    found: list[EgressRow] = []
    for row in today:
        if not uses.concerns(row) or not row.applies_to(agent):
            found.append(row)
        elif row.applies_to(labelled):  # a label that was taken away takes away at once what it opened
            found += _narrowed(row, reviewed, uses)
    return tuple(found)


def _narrowed(row: EgressRow, reviewed: tuple[EgressRow, ...], uses: EgressUses) -> list[EgressRow]:
    met = [one for before in reviewed if (one := _meet(before, row, uses)) is not None]
    return [row] if row in met else [one for index, one in enumerate(met) if one not in met[:index]]


def _meet(before: EgressRow, row: EgressRow, uses: EgressUses) -> EgressRow | None:
    """Return what two rows open both; None if that is nothing."""
    ports = _meet_all(before.ports, row.ports, _meet_ports)
    if bool(before.servers) != bool(row.servers) or not ports:
        return None
    servers = tuple(one for one in row.servers if one in before.servers or one not in uses.sources)
    environments = tuple(one for one in row.environments if one in before.environments or one not in uses.environments)
    if not row.environments and not uses.environments <= set(before.environments):
        environments = before.environments
    met = row.model_copy(
        update={
            "servers": servers,
            "environments": environments,
            "to": _meet_all(before.to, row.to, _meet_peers),
            "ports": ports,
            "dns": row.dns if before.dns else None,
        }
    )
    # A row without servers is one for the agents themselves, and one without environments is one for all of them.
    is_without = (bool(row.servers) and not servers) or (bool(row.environments) and not environments)
    is_empty = not met.to or not uses.concerns(met)
    return None if is_without or is_empty else met


def _meet_all(before: tuple[T, ...], today: tuple[T, ...], meet: Callable[[T, T], T | None]) -> tuple[T, ...]:
    """Return what both lists have: an entry of today itself where it is reviewed as a whole."""

    def of(entry: T) -> Iterator[T]:
        met = [one for reviewed in before if (one := meet(reviewed, entry)) is not None]
        yield from [entry] if entry in met else met

    found = [one for entry in today for one in of(entry)]
    return tuple(one for index, one in enumerate(found) if one not in found[:index])


def _meet_peers(before: EgressPeer, today: EgressPeer) -> EgressPeer | None:
    if covers_peer(before, today):
        return today
    return before if covers_peer(today, before) else None


@functools.lru_cache(maxsize=8192)
def span_of_cidr(text: str) -> tuple[int, int, int] | None:
    """Return the version, the first and the last address of a range as numbers; None for text that is no range.

    The peers of a policy are compared with all of a revision, again and again, which are 262 144 pairs at most.
    """
    found = parse_cidr(text)
    return None if found is None else (found.version, *span_of(found))


def covers_peer(general: EgressPeer, specific: EgressPeer) -> bool:
    """Return True if one peer has all that another one has."""
    if general.cidr is not None or specific.cidr is not None:
        outer, inner = span_of_cidr(general.cidr or ""), span_of_cidr(specific.cidr or "")
        if outer is None or inner is None:
            return False
        return outer[0] == inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2]
    if (general.namespace_selector is None) != (specific.namespace_selector is None):
        return False  # no selector is the agents' own namespace
    return _selects_all(general.namespace_selector, specific.namespace_selector) and _selects_all(
        general.pod_selector, specific.pod_selector
    )


def _selects_all(general: PeerSelector | None, specific: PeerSelector | None) -> bool:
    if general is None:
        return True
    return specific is not None and general.match_labels.items() <= specific.match_labels.items()


def _meet_ports(before: EgressPort, today: EgressPort) -> EgressPort | None:
    first, last = max(before.port, today.port), min(before.last, today.last)
    if before.protocol != today.protocol or first > last:
        return None
    if (first, last) == (today.port, today.last):
        return today
    return today.model_copy(update={"port": first, "end_port": None if first == last else last})
