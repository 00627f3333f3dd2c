"""Quotas and rates of the collector: what one agent and one namespace may store, and how fast. No I/O.

One agent's records must not take the room of all others. An agent beyond its quota is refused alone: its guard keeps
records in its own spool, and denies calls once that is full (`AuditUnavailable`).
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final

ALARM: Final = 0.8
"""Part of a quota from which on there is an alarm."""
ROW_BYTES: Final = 896
"""What a record takes in the database apart from its line: columns and four indexes, each with the chain's name."""

_MIB: Final = 1024 * 1024
_KEYS: Final = 4096


@dataclass(frozen=True, slots=True)
class Quotas:
    """Most bytes of stored records; 0 for no quota.

    Attributes:
        agent: Of one agent, all its guards together.
        namespace: Of one namespace, all its agents together.
    """

    agent: int = 0
    namespace: int = 0


NO_QUOTAS: Final = Quotas()


@dataclass(frozen=True, slots=True)
class Usage:
    """The bytes of an agent's stored records."""

    namespace: str
    agent: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Level:
    """How much of a quota is used.

    Attributes:
        owner: `namespace/agent`, or a namespace.
        used: Bytes of stored records.
        quota: The quota in bytes.
    """

    owner: str
    used: int
    quota: int

    @property
    def is_alarming(self) -> bool:
        """Return True from 80 % on."""
        return self.used >= ALARM * self.quota

    @property
    def text(self) -> str:
        """The level in words."""
        return f"{self.owner} uses {self.used} of {self.quota} bytes ({100 * self.used // self.quota} %)"


def find_levels(usages: Iterable[Usage], quotas: Quotas) -> list[Level]:
    """Return the levels of all agents and namespaces that have a quota."""
    found = list(usages)
    levels = [Level(f"{one.namespace}/{one.agent}", one.bytes, quotas.agent) for one in found if quotas.agent]
    if quotas.namespace:
        namespaces: dict[str, int] = {}
        for one in found:
            namespaces[one.namespace] = namespaces.get(one.namespace, 0) + one.bytes
        levels += [Level(namespace, used, quotas.namespace) for namespace, used in sorted(namespaces.items())]
    return levels


@dataclass(frozen=True, slots=True)
class Rate:
    """How many units a second pass for a long time, and how many at once after a pause."""

    per_second: float
    burst: float


AGENT_RATE: Final = Rate(1 * _MIB, 16 * _MIB)
"""Bytes of records of one agent."""
NAMESPACE_RATE: Final = Rate(4 * _MIB, 64 * _MIB)
"""Bytes of records of one namespace."""
LEAST_BATCH: Final = 16 * 1024
"""Bytes that a smaller batch counts as: a guard sends at most ten batches a second."""


class RateLimiter:
    """A token bucket for each key; keys that were not used for longest are forgotten beyond 4096.

    Args:
        rate: The rate of each key.
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, amount: float, now: float) -> bool:
        """Take units from a key's bucket; return False, and take none, where it has too few.

        Args:
            key: Whose bucket.
            amount: Units, at most the burst.
            now: The monotonic time in seconds.
        """
        left, at = self._buckets.get(key, (self._rate.burst, now))
        left = min(self._rate.burst, left + (now - at) * self._rate.per_second)
        is_enough = left >= amount
        self._buckets[key] = (left - amount if is_enough else left, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > _KEYS:
            self._buckets.popitem(last=False)
        return is_enough
