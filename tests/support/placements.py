"""Placements of one agent: task endpoints with agents behind them, in one process and with clocks of their own."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from typing_extensions import override

from interlock_contract.audit_chain import GuardId, open_line
from interlock_contract.bundle import (
    AgentIdentity,
    Bundle,
    BundlePeer,
    BundleTasks,
    BundleTaskScope,
    ScopeLimit,
    digest,
    dump_bundle,
)
from interlock_guard.audit.recorder import Recorder, Writer
from interlock_guard.audit.spool import Position, Spool, SpoolLimits
from interlock_guard.state import LiveState
from interlock_guard.tasks.agent_connector import AgentConnector
from interlock_guard.tasks.endpoint import TaskEndpoint
from interlock_guard.work_counter import WorkCounter
from interlock_http.own_pod import OwnPod

REGION_HEADER = BundleTaskScope("region", header="X-Region")
EU = (ScopeLimit("region", ("eu", "eu2")),)
US = (ScopeLimit("region", ("us",)),)


class Here(AbstractResolver):
    """Finds every Service on this machine, at these addresses; none where there are none."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses or ("127.0.0.1",)
        self.lookups = 0

    @override
    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> list[ResolveResult]:
        self.lookups += 1
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(hostname=host, host=one, port=port, family=socket.AF_INET, proto=0, flags=0)
            for one in self.addresses
        ]

    @override
    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Placement:
    """One placement: its guard's endpoint, and its agent, which answers `answer` once it may `go_on`."""

    stage: str
    live: LiveState
    endpoint: TaskEndpoint
    spool: Spool
    port: int
    agent_port: int
    session: aiohttp.ClientSession
    resolver: Here
    """Knows the addresses of the agent's pods."""
    now: float = 0.0
    work: WorkCounter = field(default_factory=WorkCounter)
    """What the guard counts of its agent."""
    seconds_until_money: int | None = None
    """How long the budget is exhausted; None while it is not."""
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Target, headers and body of each request that the agent got."""
    answer: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    on_dial: Callable[[], object] = lambda: None
    """Called when the address is known that is dialled, and nothing is connected."""
    on_pause: Callable[[], object] = lambda: None
    """Called before each further try to reach the agent, whose time is over by then."""
    refusing: dict[str, int] = field(default_factory=dict)
    """The error (`errno`) of connections to these addresses of the agent."""
    dialled: list[str] = field(default_factory=list)
    """The addresses of the agent, in the order in which they were dialled."""
    pauses: list[float] = field(default_factory=list)
    """Those between tries to reach the agent, in seconds. None of them takes any time."""
    dial_clock: float = 0.0
    """The clock of these tries."""
    reached: list[str] = field(default_factory=list)
    """The address of the agent at which each of them came."""
    digests: list[str] = field(default_factory=list)
    """Those that the status of the Agent names: of this bundle and of the one before."""

    def peer(
        self,
        scope: Sequence[ScopeLimit] = (),
        excluded: Sequence[Sequence[ScopeLimit]] = (),
        *,
        draining: bool = False,
        port: int = 0,
    ) -> BundlePeer:
        """Return this placement as the bundles of the others have it."""
        url = f"http://guard-{self.stage}.agents.svc:{port or self.port}"
        return BundlePeer(self.stage, "r", url, tuple(scope), tuple(map(tuple, excluded)), draining)

    def open(
        self,
        *peers: BundlePeer,
        scope: Sequence[ScopeLimit] = (),
        excluded: Sequence[Sequence[ScopeLimit]] = (),
        declared: Sequence[BundleTaskScope] = (REGION_HEADER,),
        draining: bool = False,
        most: int = 4,
        **lists: Sequence[str],
    ) -> None:
        """Give the guard another bundle. `lists` are those of pods and addresses, such as `draining_pods`."""
        named: dict[str, Any] = {name: tuple(members) for name, members in lists.items()}
        bundle = Bundle(
            *(4, AgentIdentity("a", "agents", "u"), "r", self.stage, "production", tuple(scope), ()),
            tasks=BundleTasks(self.agent_port, most, tuple(declared)),
            excluded=tuple(map(tuple, excluded)),
            is_draining=draining,
            peers=peers,
            **named,
        )
        text = dump_bundle(bundle)
        self.digests = [*self.digests[-1:], digest(text)]
        self.live.handle_agent({"metadata": {"uid": "u"}, "status": {"bundleDigests": self.digests}})
        self.live.handle_bundle(text)
        self.live.set_unverified_reason("")
        assert self.live.bundle == bundle

    async def send(
        self,
        path: str = "/",
        body: Any = b"x",
        *,
        method: str = "POST",
        headers: dict[str, str] | Sequence[tuple[str, str]] = (),
    ) -> tuple[int, Any]:
        """Send a task to the guard; return the status, and the body read as JSON if it is."""
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        sent = [*(headers.items() if isinstance(headers, dict) else headers)]
        if isinstance(body, dict | list) and not any(name.lower() == "content-type" for name, _ in sent):
            sent.append(("Content-Type", "application/json"))
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, data=data, headers=sent) as response:
            text = await response.read()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def reason(self, *args: Any, **more: Any) -> tuple[int, str]:
        """Send a task that is refused; return status and reason."""
        status, body = await self.send(*args, **more)
        return status, body["error"]["data"]["reason"] if isinstance(body, dict) and "error" in body else ""

    def records(self) -> list[Any]:
        """The audit records of tasks."""
        lines = [open_line(line) for line in self.spool.read(Position(), 2**22)[0].splitlines()]
        return [line.fields for line in lines if line.kind == "task"]

    def figure(self, name: str) -> str:
        """One figure of the metrics."""
        found = [line for line in self.endpoint.lines() if line.startswith(f"interlock_guard_{name} ")]
        return found[0].rpartition(" ")[2] if found else ""

    def dial(self, address: AddrInfoType) -> socket.socket:
        """Return a socket for a connection to the agent, or to another placement."""
        self.on_dial()
        host = str(address[4][0])
        self.dialled.append(host)
        if host in self.refusing:
            raise OSError(self.refusing[host], os.strerror(self.refusing[host]))
        return socket.socket(*address[:3])

    async def pause(self, seconds: float) -> None:
        """Pause between two tries to reach the agent."""
        self.pauses.append(seconds)
        self.dial_clock += seconds
        self.on_pause()
        await asyncio.sleep(0)

    async def take(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer as the agent."""
        assert http.transport is not None
        self.reached.append(http.transport.get_extra_info("sockname")[0])
        self.seen.append((http.raw_path, dict(http.headers), await http.content.read()))
        await self.go_on.wait()
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return web.Response(status=self.status, body=body, headers={"Content-Type": "application/json", **self.headers})


async def until(condition: Any) -> None:
    """Let the loop run until a condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the condition sends no notification
            await asyncio.sleep(0)


@asynccontextmanager
async def placements(folder: Path, *stages: str, agent_at: Sequence[str] = ()) -> AsyncIterator[list[Placement]]:
    """Run a placement for each stage; their bundles are the caller's to give.

    Args:
        folder: Where their records are.
        stages: The stages.
        agent_at: The addresses of each agent's pods, in the order of the resolver's answers. Without them agent and
            guard share a pod.
    """
    async with AsyncExitStack() as stack:
        for stage in stages:
            (folder / stage).mkdir()
        yield [await _start(stack, folder / stage, stage, agent_at) for stage in stages]


async def _start(stack: AsyncExitStack, folder: Path, stage: str, agent_at: Sequence[str]) -> Placement:
    async def take(http: web.BaseRequest) -> web.StreamResponse:
        return await found.take(http)

    agent = web.ServerRunner(web.Server(take, handler_cancellation=True), shutdown_timeout=0.05)
    await agent.setup()
    stack.push_async_callback(agent.cleanup)
    port = 0
    for address in agent_at or ("127.0.0.1",):
        await web.TCPSite(agent, address, port).start()
        port = agent.addresses[0][1]
    live = LiveState(pod=f"pod-{stage}")
    live.handle_agent({"metadata": {"uid": "u"}})
    live.record_contact("agent", 0.0)
    live.record_contact("bundle", 0.0)
    spool = Spool(folder, SpoolLimits(), keeps=True)
    stack.callback(spool.close)
    output = os.open(os.devnull, os.O_WRONLY)
    stack.callback(os.close, output)
    writer = Writer("a", GuardId("agents", f"pod-{stage}", "0" * 16))
    recorder = Recorder(writer, spool, lambda: datetime(2026, 3, 2, tzinfo=UTC), output)
    resolver = Here(*agent_at)
    connector = AgentConnector(
        live,
        force_close=True,
        resolver=resolver,
        socket_factory=lambda address: found.dial(address),  # noqa: PLW0108 - it comes later
        clock=lambda: found.dial_clock,
        sleep=lambda seconds: found.pause(seconds),  # noqa: PLW0108 - as above
    )
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    endpoint = TaskEndpoint(
        live=live,
        recorder=recorder,
        session=session,
        monotonic=lambda: found.now,
        host="agent.agents.svc" if agent_at else "127.0.0.1",
        own_pod=OwnPod(frozenset({"127.0.0.1"})),
        seconds_until_money=lambda: found.seconds_until_money,
    )
    live.reactions = (endpoint.follow,)
    await endpoint.runner.setup()
    stack.push_async_callback(endpoint.runner.cleanup)
    await web.TCPSite(endpoint.runner, "127.0.0.1", 0).start()
    stack.callback(endpoint.end)
    caller = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)))
    found = Placement(stage, live, endpoint, spool, endpoint.runner.addresses[0][1], port, caller, resolver)
    found.work, found.answer = recorder.work, {"from": stage}
    found.go_on.set()
    return found
