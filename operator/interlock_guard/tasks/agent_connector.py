"""Connections to the agent: which of its pods get a task, which one a task is in, and how long the guard tries.

The name of a separate agent's Service leads to all its pods that are Ready. Those that a scale-down is about to delete
get no new tasks. An example, in which the pod at 10.0.0.7 goes:

    10.0.0.7, 10.0.0.8    a task is sent to 10.0.0.8, whichever of them the resolver names first
    10.0.0.7              a task is sent to 10.0.0.7: there is no other pod

A pod that runs another image than its revision was Ready with gets no task, whether there is another pod or not.

A connection that is not made is tried again for some seconds: the agent's container may be restarting, its pod may have
ended while DNS still names it, and a network may let a new guard in only after it is Ready. An example:

    0.0 s   10.0.0.7              refused
    0.1 s   10.0.0.7              refused
    0.3 s   10.0.0.7, 10.0.0.9    10.0.0.7 refuses, so the task is sent to 10.0.0.9

All of this happens before the first byte of a request is written, so no request is ever sent twice by it.
"""
# The guard's image has no `typing_extensions`, whose `override` `AgentConnector` would need.
# mypy: disable-error-code="explicit-override"

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection

from interlock_guard.state import LiveState
from interlock_http.client import BoundedConnector

REACH_SECONDS: Final = 10.0
"""How long a guard tries to reach its agent. A container that crashed is started again in less."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 0.5
"""Seconds between two tries: the pause doubles."""
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_ALL_AT_ONCE: Final = 2**16
"""How many addresses one try covers. aiohttp would otherwise dial all of them, then all but the first, and so on."""


@dataclass(slots=True, eq=False)
class TaskRoute:
    """Where one task is.

    Attributes:
        preferred: The address of the pod that it belongs to; empty where it can be in any.
        seconds: How long to try; 0 for one try.
        check: Called before each further try. What it raises ends the tries.
        on_reach: Called when there is a connection, before anything is sent.
        on_change: Called when it is known which pod the task is in, or that it is in none of those before.
        addresses: The addresses of the pods that it may be in. It is in no other one.
        is_connected: Whether there is a connection, so that something may have been sent.
        reached: The pod that it is in; empty as long as that is not known.
        tries: How often a connection was tried.
        tried: How many pods the last of these tries was for, as far as that is known.
        waited: How long that took, in seconds.
    """

    preferred: str = ""
    seconds: float = 0.0
    check: Callable[[], object] = lambda: None
    on_reach: Callable[[], None] = lambda: None
    on_change: Callable[[], None] = lambda: None
    addresses: frozenset[str] = frozenset()
    is_connected: bool = False
    reached: str = ""
    tries: int = 0
    tried: int = 0
    waited: float = 0.0

    def follow(self) -> None:
        """Note where the connections lead that this asyncio task makes from now on."""
        _route.set(self)

    def aim(self, addresses: Iterable[str]) -> None:
        """Note the pods that are about to be dialled."""
        self.addresses = frozenset(addresses)

    def miss(self, waited: float) -> None:
        """Note that none of these pods was reached, so many seconds after the first try began."""
        self.tries, self.tried, self.waited = self.tries + 1, len(self.addresses), waited
        self.addresses = frozenset()
        self.on_change()

    def reach(self, address: str) -> None:
        """Note the pod that was reached; empty where it has closed the connection again."""
        self.is_connected, self.reached = True, address
        if address:
            self.addresses = frozenset({address})
        self.on_reach()
        self.on_change()


_route: ContextVar[TaskRoute | None] = ContextVar("route", default=None)


class NoUnchangedPod(OSError):  # noqa: N818 - says what was found
    """No pod of the agent runs the image that its revision was Ready with."""


class AgentConnector(BoundedConnector):
    """Makes the connections to the agent's pods.

    Args:
        live: The bundle in force.
        resolver: Who looks names up; the system, unless a test says otherwise.
        clock: Seconds on a clock that never goes back.
        sleep: Waits so many seconds.
        options: Those of aiohttp's connector.
    """

    def __init__(
        self,
        live: LiveState,
        *,
        resolver: AbstractResolver | None = None,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **options: Any,
    ) -> None:
        chosen = _Resolver(live, resolver or aiohttp.ThreadedResolver())
        # Each name is resolved for each try, since the pods of a Service change.
        super().__init__(
            resolver=cast("AbstractResolver", chosen), use_dns_cache=False, interleave=_ALL_AT_ONCE, **options
        )
        self._clock, self._sleep = clock, sleep

    async def connect(self, *request: Any, **options: Any) -> Connection:
        """Return a connection for a request, and note where it leads. Nothing of the request is sent here.

        Raises:
            aiohttp.ClientConnectorError: None was made in the time of the route.
            TimeoutError: The last one was not answered.
        """
        route = _route.get() or TaskRoute()
        connection = await self._try(route, *request, **options)
        transport = connection.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        route.reach(peer[0] if peer else "")
        return connection

    async def _try(self, route: TaskRoute, *request: Any, **options: Any) -> Connection:
        began, pause, left = self._clock(), FIRST_PAUSE, route.seconds or None
        while True:
            try:
                async with asyncio.timeout(left):
                    return await super().connect(*request, **options)
            except (aiohttp.ClientConnectorError, TimeoutError):
                waited = self._clock() - began
                route.miss(waited)
                if waited + pause >= route.seconds:
                    raise
            await self._sleep(pause)
            route.check()
            pause = min(2 * pause, LONGEST_PAUSE)
            # Where the machine is busy, a pause is longer than it should be.
            left = max(began + route.seconds - self._clock(), FIRST_PAUSE)


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
            raise NoUnchangedPod
        chosen = [one for one in found if one["host"] not in leaving] or found
        if route is not None:
            own = [one for one in found if one["host"] == route.preferred]
            chosen = [*own, *(one for one in chosen if one not in own)]
            route.aim(one["host"] for one in chosen)
        return chosen

    async def close(self) -> None:
        await self._resolver.close()


def explain_miss(error: BaseException, route: TaskRoute, *, port: int, is_shared: bool) -> str:
    """Return why the last try to reach the agent failed, without the addresses of pods.

    Args:
        error: How it ended.
        route: The route of the task.
        port: The agent's port.
        is_shared: Whether agent and guard share a pod.
    """
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, NoUnchangedPod):
        return "Every pod of the agent runs another image than its revision was Ready with, or an unknown one."
    if isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_NAME:
        return "DNS names no pod of the agent that is Ready."
    if not is_shared and route.tried == 0:
        return "The name of the agent's Service could not be resolved."
    last = f"The last connection to port {port}"
    if route.tried > 1:
        last = f"The last connection to port {port} of each of {route.tried} pods"
    if isinstance(cause, TimeoutError):
        return f"{last} was not answered in time."
    if isinstance(cause, ConnectionRefusedError):
        or_else = "" if is_shared else ", or the network does not let the guard in yet"
        return f"{last} was refused. No process listens there{or_else}."
    errno = cause.errno if isinstance(cause, OSError) else None
    return f"{last} failed ({os.strerror(errno)})." if errno else f"{last} failed, not all in the same way."
