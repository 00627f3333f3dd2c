"""The guard as a program: start, serve until SIGTERM, end at once and clean."""

import asyncio
import os
import secrets
import signal
import ssl
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import aiohttp
import uvloop
from aiohttp import web

from interlock_guard.bundle.document import BUNDLE_KEY
from interlock_guard.clients.broker import Broker
from interlock_guard.clients.gate import Gate, Parts
from interlock_guard.clients.interests import Interests
from interlock_guard.clients.server import Endpoint
from interlock_guard.clients.sessions import Sessions
from interlock_guard.clock import monotonic, wall
from interlock_guard.log import log
from interlock_guard.models.link import ModelLinks
from interlock_guard.models.server import ModelEndpoint
from interlock_guard.observe import Observation, Observed
from interlock_guard.proof.attestor import Attestor
from interlock_guard.proof.selfproof import SelfProof
from interlock_guard.records.chain import GuardId
from interlock_guard.records.recorder import Recorder, Writer
from interlock_guard.records.shipping import Collector, Shipping
from interlock_guard.records.spool import Limits, Spool
from interlock_guard.servers.sources import Sources
from interlock_guard.servers.upstreams import Surroundings, build_upstream
from interlock_guard.settings import Settings, SettingsInvalid, read_settings
from interlock_guard.state import LiveState
from interlock_guard.tasks.counts import TaskCounts
from interlock_guard.tasks.server import TaskEndpoint, TaskParts
from interlock_guard.watch import KubernetesObject, ObjectWatch, Sink, Target

_API: Final = "/apis/interlock.dev/v1alpha1"
_CYCLES_PER_LEASE: Final = 1.5
_FINISH_SECONDS: Final = 0.4
_RESERVE: Final = 4
"""The part of the spool that is left to reads: one in so many bytes."""


def run() -> int:
    """Run the guard until SIGTERM; return its exit code."""
    try:
        settings = read_settings(os.environ)
    except SettingsInvalid as error:
        log(f"settings: {error}")
        return 2
    uvloop.run(serve(settings))
    return 0


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; whatever else ends ends the process with an error."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        live = LiveState(lease_seconds=settings.lease_seconds, log=log)
        spool = _open_spool(settings)
        recorder = Recorder(_writer(settings), spool, wall)
        shipping = Shipping(spool, Collector(url=settings.records_url, token=settings.records_token), log)
        stack.push_async_callback(shipping.finish, _FINISH_SECONDS)  # runs once nothing is decided on any more
        sessions = Sessions()
        interests = Interests(sessions)
        broker = Broker(live, recorder, interests, monotonic, log)
        interests.take_notification = broker.take_notification
        surroundings = Surroundings(pipes=settings.pipes, secrets=settings.secrets, dialable=settings.dialable)
        build = partial(build_upstream, surroundings=surroundings, listener=broker, log=log)
        sources = Sources(live, tasks, build)
        session = await stack.enter_async_context(_open_session(settings))
        attestor = _build_attestor(settings, session)
        parts = Parts(
            live=live,
            sources=sources,
            broker=broker,
            recorder=recorder,
            monotonic=monotonic,
            port=settings.mcp_port,
            host=settings.host,
            drifted=attestor.tell_drift,
        )
        models = ModelLinks(live, settings.secrets, settings.dialable, log)
        stack.push_async_callback(models.close)
        gate = Gate(parts)
        endpoint = Endpoint(parts, gate, sessions, interests, ModelEndpoint(parts, models, gate.judge).add_routes)
        tasks_in = await _open_task_endpoint(stack, settings, live, recorder)
        observed = Observed(live=live, sources=sources, recorder=recorder, shipping=shipping, tasks=tasks_in)
        observation = Observation(observed, monotonic=monotonic).build_runner()
        await _listen(stack, endpoint.runner, settings.listen, settings.mcp_port)
        await _listen(stack, tasks_in.runner, "0.0.0.0", settings.task_port)  # noqa: S104 - callers are other pods
        stack.callback(tasks_in.end)
        # Last, so that a guard that says it is alive takes calls: an agent that asks then is refused with a reason.
        await _listen(stack, observation, "0.0.0.0", settings.observe_port)  # noqa: S104 - probes come from the node
        SelfProof(live, gate.judge, monotonic, attestor.tell)
        watches = [tasks.create_task(watch.run(log)) for watch in _build_watches(settings, session, live)]
        works = [tasks.create_task(shipping.run()), tasks.create_task(attestor.run(log))]
        await stop.wait()
        log("SIGTERM: ending")
        for task in [*watches, *sources.tasks(), *works]:
            task.cancel()


def _open_spool(settings: Settings) -> Spool:
    most = settings.spool_bytes
    limits = Limits(capacity=most, reserve=most // _RESERVE, segment=most // 16, memory=most // 64)
    return Spool(settings.spool, limits, keeps=bool(settings.records_url))


def _writer(settings: Settings) -> Writer:
    guard = GuardId(settings.namespace, settings.pod, secrets.token_hex(8))
    return Writer(settings.agent, guard)


async def _open_task_endpoint(
    stack: AsyncExitStack, settings: Settings, live: LiveState, recorder: Recorder
) -> TaskEndpoint:
    # A connection for each task: none is taken up again that the agent may just be closing. Names are looked up anew,
    # since the pods behind one change.
    connector = aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False)
    session = aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
    )
    parts = TaskParts(
        live=live,
        recorder=recorder,
        counts=TaskCounts(),
        session=await stack.enter_async_context(session),
        monotonic=monotonic,
        host=settings.agent_host,
    )
    return TaskEndpoint(parts)


async def _listen(stack: AsyncExitStack, runner: web.BaseRunner, address: str, port: int) -> None:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, address, port).start()


def _open_session(settings: Settings) -> aiohttp.ClientSession:
    context: ssl.SSLContext | bool = True
    if settings.api_server.startswith("https://"):
        context = ssl.create_default_context(cafile=str(settings.credentials / "ca.crt"))
    connector = aiohttp.TCPConnector(ssl=context)
    # No proxy from the environment, no cookies: this session speaks to the API server and to nobody else.
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


def _build_watches(settings: Settings, session: aiohttp.ClientSession, live: LiveState) -> list[ObjectWatch]:
    def see_bundle(found: KubernetesObject | None) -> None:
        live.see_bundle(None if found is None else (found.get("data") or {}).get(BUNDLE_KEY))

    agents = f"{settings.api_server}{_API}/namespaces/{settings.namespace}/agents"
    bundles = f"{settings.api_server}/api/v1/namespaces/{settings.namespace}/configmaps"
    watched = (
        (Target(collection=agents, name=settings.agent), Sink(see=live.see_agent, hear=partial(live.hear, "agent"))),
        (Target(collection=bundles, name=settings.bundle), Sink(see=see_bundle, hear=partial(live.hear, "bundle"))),
    )
    seconds = max(1, int(settings.lease_seconds / _CYCLES_PER_LEASE))
    token = settings.credentials / "token"
    return [ObjectWatch(session, target, sink, token=token, watch_seconds=seconds) for target, sink in watched]


def _build_attestor(settings: Settings, session: aiohttp.ClientSession) -> Attestor:
    leases = f"{settings.api_server}/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases"
    token = settings.credentials / "token"
    return Attestor(session, f"{leases}/{settings.bundle}", settings.pod, token=token, clock=wall)
