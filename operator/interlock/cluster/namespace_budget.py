"""The budget of each namespace: how much of its objects the operator keeps in memory.

A namespace can hold any number of Agents, AgentPolicies and MCPBindings. What does not fit into its budget is not kept,
so that its Agents are refused with the reason, and those of all other namespaces are served.
"""

import bisect
import logging
from collections.abc import Callable
from typing import Final

from interlock.telemetry import OBJECTS_OVER_BUDGET
from interlock_kube.resource_types import Key

_log = logging.getLogger(__name__)

ObjectKey = tuple[str, Key]
"""Kind, and namespace and name, of an object."""

MIB: Final = 1024 * 1024
AGENT_BYTES: Final = 16 * MIB
"""Most bytes, as JSON, of the Agents of one namespace: some 4 000 Agents."""
POLICY_BYTES: Final = 4 * MIB
"""Most bytes, as JSON, of the AgentPolicies and MCPBindings of one namespace. Parsed, they take several times more."""


class NamespaceBudget:
    """The same budget for each namespace.

    Args:
        most: Most bytes of one namespace.
        on_room: Called with an object that was refused and fits now, so that it is read again.
    """

    def __init__(self, most: int, on_room: Callable[[ObjectKey], None]) -> None:
        self.most = most
        self._on_room = on_room
        self._sizes: dict[ObjectKey, int] = {}
        self._sums: dict[str, int] = {}
        self._refused: dict[ObjectKey, int] = {}
        self._waiting: dict[str, list[tuple[int, ObjectKey]]] = {}
        """The refused objects of each namespace with their sizes, the smallest one first."""

    def take(self, name: ObjectKey, size: int) -> bool:
        """Take so many bytes for an object in place of those that it had; return False if it does not fit."""
        namespace = name[1][0]
        before = self._sizes.pop(name, 0)
        rest = self._sums.get(namespace, 0) - before
        fits = rest + size <= self.most
        if fits:
            self._sizes[name], self._sums[namespace] = size, rest + size
            self._forgive(name)
        else:
            self._sums[namespace] = rest
            self._refuse(name, size)
        if self._sums[namespace] < rest + before:
            self._use_room(namespace)
        return fits

    def release(self, name: ObjectKey) -> None:
        """Release the bytes of an object that is gone."""
        namespace = name[1][0]
        size = self._sizes.pop(name, 0)
        self._forgive(name)
        self._sums[namespace] = self._sums.get(namespace, 0) - size
        if size:
            self._use_room(namespace)
        if not self._sums[namespace]:
            del self._sums[namespace]

    def _refuse(self, name: ObjectKey, size: int) -> None:
        if name[1][0] not in self._waiting:
            _log.warning("a namespace is over its budget", extra={"namespace": name[1][0], "bytes": self.most})
        if name not in self._refused:
            OBJECTS_OVER_BUDGET.inc()
        self._stop_waiting(name)
        self._refused[name] = size
        bisect.insort(self._waiting.setdefault(name[1][0], []), (size, name))

    def _forgive(self, name: ObjectKey) -> None:
        self._stop_waiting(name)
        if self._refused.pop(name, None) is not None:
            OBJECTS_OVER_BUDGET.dec()
        if not self._waiting.get(name[1][0], True):
            del self._waiting[name[1][0]]

    def _stop_waiting(self, name: ObjectKey) -> None:
        size = self._refused.get(name)
        if size is not None:
            waiting = self._waiting[name[1][0]]
            del waiting[bisect.bisect_left(waiting, (size, name))]

    def _use_room(self, namespace: str) -> None:
        """Have the refused objects read again that fit now, each at most once until it is refused again.

        There can be very many of them, and each change of an object in the namespace leads here.
        """
        room = self.most - self._sums.get(namespace, 0)
        while (waiting := self._waiting.get(namespace)) and waiting[0][0] <= room:
            size, name = waiting[0]
            room -= size
            self._forgive(name)
            self._on_room(name)
