"""The waves in which agents get the guards of a new version of the operator: which agents may be updated now.

The rule needs no memory. All agents of the installation stand in an order, in waves of the same size. The order depends
on their names and on a secret of the installation alone. Without the secret, a user could choose names that come after
those of all others. The user's agents without pods would count in the size of a wave, and the first wave would hold all
others. The first wave with an agent that is not updated is the current one, and only its agents may be. An
example with 20 agents and 10 %:

    wave 1   updated, updated
    wave 2   updated, updating     the current one
    wave 3   waiting, waiting

One agent that failed after its update stops all waves.
"""

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Key = tuple[str, str]
"""Namespace and name of an Agent."""
_PERCENT: Final = 100


class UpdateState(StrEnum):
    """How far the update of one agent is."""

    UNKNOWN = "Unknown"
    """This run of the operator has not reconciled it yet."""
    UPDATED = "Updated"
    """Its guards are of this version, or it has no pods. It also passes if it is held by its own namespace."""
    WAITING = "Waiting"
    """Its guards are of another version."""
    UPDATING = "Updating"
    """Its pods were replaced, and it is not ready again."""
    REFUSED = "Refused"
    """The API server has refused its update, so no pod was replaced. It tries again, and others pass."""
    FAILED = "Failed"
    """It was not ready in time after its update."""


@dataclass(frozen=True)
class Wave:
    """What may happen now.

    Attributes:
        members: The agents that may be updated: those of this wave, and those whose update was refused in theirs.
        failed: The agents that stop all others.
        end: How many agents stand in this wave and before it. Only their states, and failures, change the wave.
    """

    members: frozenset[Key] = frozenset()
    failed: tuple[Key, ...] = ()
    end: int = 0


def wave_rank(key: Key, secret: bytes) -> tuple[bytes, Key]:
    """Return what the order of the waves sorts agents by: it mixes namespaces.

    Args:
        key: The agent.
        secret: What no user knows, and is the same after each restart.
    """
    return hmac.digest(secret, "/".join(("guard waves", *key)).encode(), "sha256"), key


def order_agents(agents: Iterable[Key], secret: bytes) -> list[Key]:
    """Return the agents in the order of their waves."""
    return sorted(agents, key=lambda key: wave_rank(key, secret))


def current_wave(agents: Sequence[Key], states: Mapping[Key, UpdateState], percent: int) -> Wave:
    """Return the current wave.

    Args:
        agents: All agents of the installation, in their order.
        states: How far each is. An agent without a state is `UNKNOWN`, so no later wave begins before it was seen.
        percent: The size of a wave, in percent of all agents. A wave has at least one agent.
    """
    failed = tuple(key for key in agents if states.get(key) is UpdateState.FAILED)
    if failed:
        return Wave(failed=failed, end=len(agents))
    size = max(1, len(agents) * percent // _PERCENT)
    refused = frozenset(key for key in agents if states.get(key) is UpdateState.REFUSED)
    passed = (UpdateState.UPDATED, UpdateState.REFUSED)
    for first in range(0, len(agents), size):
        found = {key: states.get(key, UpdateState.UNKNOWN) for key in agents[first : first + size]}
        if any(state not in passed for state in found.values()):
            asking = (UpdateState.WAITING, UpdateState.UPDATING)
            members = refused.union(key for key, state in found.items() if state in asking)
            return Wave(members, end=first + size)
    return Wave(refused, end=len(agents))
