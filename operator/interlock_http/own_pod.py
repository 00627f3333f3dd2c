"""The test whether a caller is in the same pod, which is the same network namespace.

A NetworkPolicy never holds a pod from itself, so the MCP servers of a guard's pod reach every port of the guard.
"""

import socket
from errno import EADDRNOTAVAIL
from typing import Final

_MOST: Final = 4096
"""Most addresses that are remembered: beyond them all are forgotten, since each costs only a few system calls."""


class OwnPod:
    """Tells callers in this pod from others.

    An address is one of this pod exactly if a socket can be bound to it. So every address counts that a process of the
    pod could send from: those of all families and interfaces, and all of 127.0.0.0/8.

    Args:
        exempt: Addresses that count as those of other pods, for tests, whose callers are on one machine.
    """

    def __init__(self, exempt: frozenset[str] = frozenset()) -> None:
        self._exempt = exempt
        self._known: dict[str, bool] = {}

    def has(self, address: str | None) -> bool:
        """Return True if an address is one of this pod, or cannot be judged.

        Args:
            address: The numeric address of a peer, None where it is unknown.
        """
        if address is None:
            return True
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[address] = address not in self._exempt and _is_local(address)
        return known


def _is_local(address: str) -> bool:
    host, _, _ = address.partition("%")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        # Every other failure (no descriptor is free, the address is none) leaves open where the caller is.
        return error.errno != EADDRNOTAVAIL
    return True
