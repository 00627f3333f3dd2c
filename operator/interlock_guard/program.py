"""The guard as a program: start, serve until SIGTERM, end at once and clean."""

import asyncio
import os
import secrets
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import aiohttp
import uvloop
from aiohttp import web

from interlock_contract.audit_chain import GuardId
from interlock_contract.bundle import BUNDLE_KEY
from interlock_contract.clock import monotonic, utc_now
from interlock_contract.names import AGENTS, API_PATH
from interlock_contract.strict_json import parse_json
from interlock_guard.audit.recorder import Recorder, Writer
from interlock_guard.audit.shipper import AuditShipper, CollectorAddress
from interlock_guard.audit.spool import Spool, SpoolLimits
from interlock_guard.background import keep_running
from interlock_guard.downstream.broker import Broker
from interlock_guard.downstream.endpoint import McpEndpoint
from interlock_guard.downstream.gate import Gate, Parts
from interlock_guard.downstream.sessions import Sessions
from interlock_guard.downstream.subscriptions import Subscriptions
from interlock_guard.llm.endpoint import LlmEndpoint
from interlock_guard.llm.provider_client import ProviderClients
from interlock_guard.log import log
from interlock_guard.object_watch import KubernetesObject, ObjectWatch
from interlock_guard.probes import ProbeServer, ProbeSources
from interlock_guard.selftest.reporter import SelfTestReporter
from interlock_guard.selftest.selftest import SelfTest
from interlock_guard.settings import GuardSettings, SettingsInvalid, read_settings
from interlock_guard.state import LiveState
from interlock_guard.tasks.endpoint import TaskEndpoint, TaskParts
from interlock_guard.tasks.metrics import TaskMetrics
from interlock_guard.upstream.sources import Sources, UpstreamContext, build_upstream
from interlock_kube.client import KubeClient
from interlock_kube.credentials import MountedCredentials

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


async def serve(settings: GuardSettings) -> None:
    """Serve until SIGTERM or SIGINT; whatever else ends ends the process with an error."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        live = LiveState(lease_seconds=settings.lease_seconds, log=log)
        spool = _open_spool(settings)
        recorder = Recorder(_writer(settings), spool, utc_now)
        shipping = AuditShipper(spool, CollectorAddress(url=settings.audit_url, token=settings.audit_token), log)
        stack.push_async_callback(shipping.finish, _FINISH_SECONDS)  # runs once nothing is decided on any more
        sessions = Sessions()
        interests = Subscriptions(sessions)
        broker = Broker(live, recorder, interests, monotonic, log)
        interests.take_notification = broker.take_notification
        surroundings = UpstreamContext(pipes=settings.pipes, secrets=settings.secrets, dialable=settings.dialable)
        build = partial(build_upstream, surroundings=surroundings, listener=broker, log=log)
        sources = Sources(live, tasks, build)
        client = KubeClient(MountedCredentials(settings.api_server, settings.credentials), parse=parse_json)
        stack.push_async_callback(client.close)
        attestor = _build_attestor(settings, client)
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
        models = ProviderClients(live, settings.secrets, settings.dialable, log)
        stack.push_async_callback(models.close)
        gate = Gate(parts)
        endpoint = McpEndpoint(parts, gate, sessions, interests, LlmEndpoint(parts, models, gate.judge).add_routes)
        tasks_in = await _open_task_endpoint(stack, settings, live, recorder)
        observed = ProbeSources(live=live, sources=sources, recorder=recorder, shipping=shipping, tasks=tasks_in)
        observation = ProbeServer(observed, monotonic=monotonic).build_runner()
        await _listen(stack, endpoint.runner, settings.listen, settings.mcp_port)
        await _listen(stack, tasks_in.runner, "0.0.0.0", settings.task_port)  # noqa: S104 - callers are other pods
        stack.callback(tasks_in.end)
        # Last, so that a guard that says it is alive takes calls: an agent that asks then is refused with a reason.
        await _listen(stack, observation, "0.0.0.0", settings.observe_port)  # noqa: S104 - probes come from the node
        SelfTest(live, gate.judge, monotonic, attestor.tell)
        works: list[Callable[[], Awaitable[None]]] = [
            *(partial(watch.run, log) for watch in _build_watches(settings, client, live)),
            shipping.run,
            partial(attestor.run, log),
        ]
        names = ("watch of the agent", "watch of the bundle", "audit shipper", "self-test reporter")
        running = [tasks.create_task(keep_running(name, work, log)) for name, work in zip(names, works, strict=True)]
        await stop.wait()
        log("SIGTERM: ending")
        for task in [*running, *sources.tasks()]:
            task.cancel()


def _open_spool(settings: GuardSettings) -> Spool:
    most = settings.spool_bytes
    limits = SpoolLimits(capacity=most, reserve=most // _RESERVE, segment=most // 16, memory=most // 64)
    return Spool(settings.spool, limits, keeps=bool(settings.audit_url))


def _writer(settings: GuardSettings) -> Writer:
    guard = GuardId(settings.namespace, settings.pod, secrets.token_hex(8))
    return Writer(settings.agent, guard)


async def _open_task_endpoint(
    stack: AsyncExitStack, settings: GuardSettings, live: LiveState, recorder: Recorder
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
        counts=TaskMetrics(),
        session=await stack.enter_async_context(session),
        monotonic=monotonic,
        host=settings.agent_host,
    )
    return TaskEndpoint(parts)


async def _listen(stack: AsyncExitStack, runner: web.BaseRunner, address: str, port: int) -> None:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, address, port).start()


def _build_watches(settings: GuardSettings, client: KubeClient, live: LiveState) -> list[ObjectWatch]:
    def see_bundle(found: KubernetesObject | None) -> None:
        live.see_bundle(None if found is None else (found.get("data") or {}).get(BUNDLE_KEY))

    seconds = max(1, int(settings.lease_seconds / _CYCLES_PER_LEASE))
    return [
        ObjectWatch(
            client,
            f"{API_PATH}/namespaces/{settings.namespace}/{AGENTS}",
            settings.agent,
            on_object=live.see_agent,
            on_contact=partial(live.hear, "agent"),
            watch_seconds=seconds,
        ),
        ObjectWatch(
            client,
            f"/api/v1/namespaces/{settings.namespace}/configmaps",
            settings.bundle,
            on_object=see_bundle,
            on_contact=partial(live.hear, "bundle"),
            watch_seconds=seconds,
        ),
    ]


def _build_attestor(settings: GuardSettings, client: KubeClient) -> SelfTestReporter:
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases/{settings.bundle}"
    return SelfTestReporter(client, lease, settings.pod, clock=utc_now)
