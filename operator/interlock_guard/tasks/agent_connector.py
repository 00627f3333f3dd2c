"""Connections to the pods of a separate agent: which of them get a task, and which one a task is in.

The name of the agent's Service leads to all its pods that are Ready. Those that a scale-down is about to delete get no
new tasks. An example, in which the pod at 10.0.0.7 goes:

    10.0.0.7, 10.0.0.8    a task is sent to 10.0.0.8, whichever of them the resolver names first
    10.0.0.7              a task is sent to 10.0.0.7: there is no other pod

A pod that runs another image than its revision was Ready with gets no task, whether there is another pod or not.
"""
# The guard's image has no `typing_extensions`, whose `override` `AgentConnector` would need.
# mypy: disable-error-code="explicit-override"

import socket
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection

from interlock_guard.state import LiveState
from interlock_http.client import BoundedConnector


@dataclass(slots=True, eq=False)
class TaskRoute:
    """Where one task is.

    Attributes:
        preferred: The address of the pod that it belongs to; empty where it can be in any.
        on_change: Called once it is known which pod the task is in.
        addresses: The addresses of the pods that it may be in. It is in no other one.
        reached: The one that it is in; empty before there is a connection.
    """

    preferred: str = ""
    on_change: Callable[[], None] = lambda: None
    addresses: frozenset[str] = frozenset()
    reached: str = ""

    def follow(self) -> None:
        """Note where the connections lead that this asyncio task makes from now on."""
        _route.set(self)

    def aim(self, addresses: Iterable[str]) -> None:
        """Note the pods that are about to be dialled."""
        self.addresses = frozenset(addresses)

    def reach(self, address: str) -> None:
        """Note the pod that was reached."""
        self.addresses, self.reached = frozenset({address}), address
        self.on_change()


_route: ContextVar[TaskRoute | None] = ContextVar("route", default=None)


class AgentConnector(BoundedConnector):
    """Makes the connections to the agent's pods.

    Args:
        live: The bundle in force.
        resolver: Who looks names up; the system, unless a test says otherwise.
        options: Those of aiohttp's connector.
    """

    def __init__(self, live: LiveState, *, resolver: AbstractResolver | None = None, **options: Any) -> None:
        chosen = _Resolver(live, resolver or aiohttp.ThreadedResolver())
        # Each name is resolved for each task, since the pods of a Service change.
        super().__init__(resolver=cast("AbstractResolver", chosen), use_dns_cache=False, **options)

    async def connect(self, *request: Any, **options: Any) -> Connection:
        """Return a connection for a request, and note where it leads."""
        connection = await super().connect(*request, **options)
        route, transport = _route.get(), connection.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        if route is not None and peer:
            route.reach(peer[0])
        return connection


class _Resolver:
    """An `AbstractResolver` that leaves out pods with a changed image, and those that drain while there are others."""

    def __init__(self, live: LiveState, resolver: AbstractResolver) -> None:
        self._live, self._resolver = live, resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        # No await from here on: what the bundle of this moment says decides, and the drain report counts by `aim`.
        bundle, route = self._live.bundle, _route.get()
        leaving, changed = ((), ()) if bundle is None else (bundle.draining_addresses, bundle.changed_addresses)
        found = [one for one in found if one["host"] not in changed]
        if not found:
            raise OSError(
                "every pod of the agent runs another image than its revision was Ready with, or an unknown one"
            )
        chosen = [one for one in found if one["host"] not in leaving] or found
        if route is not None:
            own = [one for one in found if one["host"] == route.preferred]
            chosen = [*own, *(one for one in chosen if one not in own)]
            route.aim(one["host"] for one in chosen)
        return chosen

    async def close(self) -> None:
        await self._resolver.close()
