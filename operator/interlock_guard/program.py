"""The guard as a program: start, serve until SIGTERM, close everything."""

import asyncio
import gc
import os
import random
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import aiohttp
import uvloop

from interlock_contract.audit_chain import GuardId
from interlock_contract.bundle import BUNDLE_KEY, BundleSource
from interlock_contract.clock import monotonic, utc_now
from interlock_contract.environment import SettingsInvalid
from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_contract.names import AGENTS, API_PATH
from interlock_contract.pod import END_SECONDS, JOURNAL_FOLDER
from interlock_contract.strict_json import parse_json
from interlock_guard.audit.recorder import Recorder, Writer
from interlock_guard.audit.shipper import AuditShipper
from interlock_guard.audit.spool import Spool, SpoolLimits
from interlock_guard.budget.budget import Budget
from interlock_guard.budget.holder_heartbeat import HolderHeartbeat
from interlock_guard.budget.journal import Journal, read_boot_id
from interlock_guard.budget.ledger_object import LedgerObject
from interlock_guard.budget.minute_limiter import MinuteLimiter
from interlock_guard.budget.spend_metrics import SpendMetrics
from interlock_guard.budget.tool_payments import Payments
from interlock_guard.bundle_reader import BundleReader
from interlock_guard.counts_settler import CountsSettler
from interlock_guard.downstream.authorizer import Authorizer, CallLimits
from interlock_guard.downstream.callers import Callers
from interlock_guard.downstream.endpoint import HttpChecks, McpEndpoint
from interlock_guard.downstream.loop_breaker import LoopBreaker
from interlock_guard.llm.endpoint import LlmEndpoint
from interlock_guard.llm.metering import Meter
from interlock_guard.llm.provider_client import ProviderClients
from interlock_guard.log import log
from interlock_guard.object_watch import KubernetesObject, ObjectWatch
from interlock_guard.pre_stop import PreStop
from interlock_guard.probes import ProbeServer
from interlock_guard.selftest.reporter import SelfTestReporter
from interlock_guard.selftest.selftest import SelfTest
from interlock_guard.settings import GuardSettings, read_settings
from interlock_guard.state import LiveState
from interlock_guard.tasks.agent_connector import AgentConnector
from interlock_guard.tasks.drain import DrainReporter
from interlock_guard.tasks.endpoint import TaskEndpoint
from interlock_guard.upstream.list_cache import ListCache
from interlock_guard.upstream.sources import Sources, build_upstream
from interlock_guard.upstream.upstream import Upstream
from interlock_guard.wire.large_messages import LargeMessages
from interlock_guard.work_counter import WorkCounter
from interlock_http.listener import BoundedListener
from interlock_http.own_pod import OwnPod
from interlock_http.probes import SHUTDOWN_SECONDS
from interlock_kube.background import explain, keep_running
from interlock_kube.client import KubeClient
from interlock_kube.credentials import MountedCredentials
from interlock_kube.server_clock import ServerClock

_CYCLES_PER_LEASE: Final = 1.5
_FINISH_SECONDS: Final = 0.4
_COUNTS_SECONDS: Final = 0.2
"""How long the last write of the counts may take. Money and records need the rest of a pod's last second."""
_DIGITS: Final = 640
"""Longest integer in digits: the time to read one grows with the square of its length. Python allows no lower bound."""
_YOUNG_OBJECTS: Final = 2000
"""Objects created, less those freed, until Python looks for cycles. With its own 700 that takes a twentieth of a call.

More of them cost memory, of which a guard has little.
"""
_DENIALS_SECONDS: Final = 5.0
_RESERVE: Final = 4
"""One in so many bytes of the spool is reserved for records of reads."""


Reaction = Callable[[], None]


def run() -> int:
    """Run the guard until SIGTERM; return its exit code."""
    try:
        settings = read_settings(os.environ)
    except SettingsInvalid as error:
        log(f"settings: {error}")
        return 2
    sys.set_int_max_str_digits(_DIGITS)
    _tune_gc()
    uvloop.run(serve(settings))
    return 0


def _tune_gc() -> None:
    """Exclude the imported modules, which stay for good, and look for cycles less often: a call leaves few."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])


async def serve(settings: GuardSettings) -> None:
    """Serve until SIGTERM or SIGINT; each resource is closed in the reverse order of its opening."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        _prepare_loop(stack, stop)
        live = LiveState(lease_seconds=settings.lease_seconds, log=log, pod=settings.pod)
        spool, server_clock = _open_spool(stack, settings), ServerClock(monotonic)
        client = _build_client(settings, server_clock)
        reporter = _build_reporter(settings, client)
        recorder = Recorder(_writer(settings), spool, utc_now, on_repeated=reporter.report_denials)
        shipping = AuditShipper(spool, log, url=settings.audit_url, token=settings.audit_token)
        stack.push_async_callback(shipping.finish, _FINISH_SECONDS)  # runs once nothing is decided on any longer
        stack.callback(recorder.write_all_denials)
        stack.push_async_callback(client.close)
        counts = _open_counts(stack, settings, live, client, recorder.work)
        budget, rates = _open_budget(stack, settings, live, client, server_clock)
        spending, large = SpendMetrics(budget, rates, recorder.work), LargeMessages()

        # Sources and their events refer to each other. No server is built before the first event of `live`.
        def build(source: BundleSource) -> Upstream:
            return build_upstream(
                source,
                mcp.messages,
                log,
                pipes=settings.pipes,
                secrets=settings.secrets,
                dialable=settings.dialable,
                large=large,
            )

        sources = Sources(live, tasks, build, log)
        lists = ListCache(monotonic, log, large)
        authorizer = Authorizer(
            live=live,
            sources=sources,
            lists=lists,
            recorder=recorder,
            monotonic=monotonic,
            limits=CallLimits(
                Payments(budget, rates, spending),
                LoopBreaker(live, monotonic=monotonic, clock=utc_now, on_kill=reporter.report_loop),
            ),
            on_drift=reporter.report_drift,
            large=large,
        )
        models = _open_providers(stack, settings, live)
        checks = _build_checks(settings, live)
        llm = LlmEndpoint(
            live=live,
            authorizer=authorizer,
            links=models,
            checks=checks,
            meter=Meter(budget, rates, spending, log),
            large=large,
            max_bytes=settings.model_request_bytes,
        )
        stack.push_async_callback(llm.close)
        mcp = McpEndpoint(
            live=live,
            sources=sources,
            lists=lists,
            authorizer=authorizer,
            checks=checks,
            add_routes=llm.add_routes,
            large=large,
        )
        stack.push_async_callback(mcp.close)
        task_endpoint, drain = await _open_task_endpoint(
            stack,
            settings,
            client,
            authorizer,
            recorder,
            budget,
            count_calls=partial(count_calls, settings, sources, llm),
        )
        live.reactions = order_reactions(
            sources=sources.follow,
            models=models.follow,
            budget=budget.follow,
            rates=rates.follow,
            llm=llm.follow,
            mcp=mcp.follow,
            tasks=task_endpoint.follow,
            selftest=SelfTest(live, authorizer.judge, monotonic, reporter.report).follow,
        )

        observed = BoundedListener(LISTENERS[ListenerName.OBSERVE])
        probes = ProbeServer(
            live=live,
            sources=sources,
            recorder=recorder,
            shipping=shipping,
            metrics=(task_endpoint.lines, spending.lines, checks.callers.lines),
            pre_stop=build_pre_stop(settings, live, sources, llm, mcp, task_endpoint),
            listeners={
                ListenerName.AGENT: mcp.listener,
                ListenerName.OBSERVE: observed,
                ListenerName.TASKS: task_endpoint.listener,
            },
            monotonic=monotonic,
        )
        await _listen(stack, mcp.listener, settings.listen, settings.mcp_port)
        await _listen(stack, task_endpoint.listener, "0.0.0.0", settings.task_port)  # noqa: S104 - callers are other pods
        stack.callback(task_endpoint.end)
        # Last, so that a guard that says it is alive takes calls: an agent that asks then is refused with a reason.
        observed.build_app_runner(probes.build_app(), shutdown_timeout=SHUTDOWN_SECONDS)
        await _listen(stack, observed, "0.0.0.0", settings.observe_port)  # noqa: S104 - the node probes
        of_agent, of_bundle, bundle_reader = _build_watches(settings, client, live)
        running = [
            tasks.create_task(keep_running("watch of the agent", partial(of_agent.run, log), log)),
            tasks.create_task(keep_running("watch of the bundle", partial(of_bundle.run, log), log)),
            tasks.create_task(keep_running("reader of the bundle", partial(bundle_reader.run, log), log)),
            tasks.create_task(keep_running("budget", partial(budget.run, log), log)),
            tasks.create_task(keep_running("rate limits", rates.run, log)),
            tasks.create_task(keep_running("heartbeat", _build_heartbeat(settings, client, budget), log)),
            tasks.create_task(keep_running("audit shipper", shipping.run, log)),
            tasks.create_task(keep_running("denials", partial(_write_denials, recorder), log)),
            tasks.create_task(keep_running("drain reporter", partial(drain.run, log), log)),
            tasks.create_task(keep_running("self-test reporter", partial(reporter.run, log), log)),
            tasks.create_task(keep_running("counts", partial(counts.run, log), log)),
        ]
        await stop.wait()
        log("SIGTERM: ending")
        for task in [*running, *sources.tasks()]:
            task.cancel()


def order_reactions(
    *,
    sources: Reaction,
    models: Reaction,
    budget: Reaction,
    rates: Reaction,
    llm: Reaction,
    mcp: Reaction,
    tasks: Reaction,
    selftest: Reaction,
) -> tuple[Reaction, ...]:
    """Return how the guard reacts to each change of its state (kill, bundle, agent), in order.

    A kill closes the guard for new requests before any of these runs: decisions read the state itself.
    """
    return (
        sources,  # connections to MCP servers: cut first, so that no call reaches a server after a kill
        models,  # connections to providers of models: the same
        budget,  # then calls that wait for money are answered with the denial
        rates,  # then those that wait for room in the minute, of the ledger that the budget has opened
        llm,  # then calls of models under way are answered with the denial
        mcp,  # then answers to MCP clients that are still going out are aborted
        tasks,  # then tasks for the agent end: their callers wait longest
        selftest,  # last: a new bundle is tested with the servers and limits that it brings
    )


def count_calls(settings: GuardSettings, sources: Sources, llm: LlmEndpoint) -> int:
    """Return how many calls of separate agents are under way.

    The agent of a shared pod ends before its guard does, so that its calls end with it.
    """
    return llm.in_flight + sum(one.in_flight for one in sources.all()) if settings.host else 0


def build_pre_stop(
    settings: GuardSettings,
    live: LiveState,
    sources: Sources,
    llm: LlmEndpoint,
    mcp: McpEndpoint,
    tasks: TaskEndpoint,
) -> PreStop:
    """Return the preStop hook. While it waits, callers of the two endpoints must connect again after each answer.

    So must a separate agent once the bundle names the pod as one that goes: another guard takes its next call.

    It follows the state last: once everything has ended, the kubelet may end the agent.
    """
    # Calls of a separate agent come by a Service, too. That of a shared pod waits for the hook itself.
    listeners = [tasks.listener, mcp.listener] if settings.host else [tasks.listener]
    pre_stop = PreStop(
        live,
        count=lambda: tasks.under_way + count_calls(settings, sources, llm),
        drains=lambda: tasks.drains,
        last_request=lambda: max((one.requested_at for one in listeners if one.requested_at is not None), default=None),
        seconds=settings.grace_seconds - END_SECONDS,
        monotonic=monotonic,
    )
    tasks.is_leaving = lambda: pre_stop.is_waiting
    mcp.is_leaving = lambda: pre_stop.is_waiting or (bool(settings.host) and tasks.is_chosen)
    live.reactions = (*live.reactions, pre_stop.follow)
    return pre_stop


async def _write_denials(recorder: Recorder) -> None:
    """Record repeated denials soon after their minute, for ever: the agent may never call again."""
    while True:
        await asyncio.sleep(_DENIALS_SECONDS)
        recorder.write_ended_denials()


def _log_unread(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that no other code reads: of a callback, or of a task that was dropped."""
    error = context.get("exception")
    log(f"event loop: {context['message']}{'' if error is None else ': ' + explain(error)}")


def _prepare_loop(stack: AsyncExitStack, stop: asyncio.Event) -> None:
    """Make the event loop set `stop` on signals and log unread exceptions."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unread)
    stack.callback(loop.set_exception_handler, None)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
        stack.callback(loop.remove_signal_handler, number)


def _build_checks(settings: GuardSettings, live: LiveState) -> HttpChecks:
    own_pod = OwnPod(settings.own_pod_exempt) if settings.host else None  # without a host, the agent is in this pod
    callers = Callers(live, own_pod=own_pod, log=log, monotonic=monotonic)
    return HttpChecks(settings.mcp_port, settings.host, callers=callers)


def _open_spool(stack: AsyncExitStack, settings: GuardSettings) -> Spool:
    most = settings.spool_bytes
    limits = SpoolLimits(capacity=most, reserve=most // _RESERVE, segment=most // 16, memory=most // 64)
    spool = Spool(settings.spool, limits, keeps=bool(settings.audit_url))
    stack.callback(spool.close)
    return spool


def _writer(settings: GuardSettings) -> Writer:
    guard = GuardId(settings.namespace, settings.pod, secrets.token_hex(8))
    return Writer(settings.agent, guard)


async def _open_task_endpoint(
    stack: AsyncExitStack,
    settings: GuardSettings,
    client: KubeClient,
    authorizer: Authorizer,
    recorder: Recorder,
    budget: Budget,
    *,
    count_calls: Callable[[], int],
) -> tuple[TaskEndpoint, DrainReporter]:
    # A connection for each task: a kept one might just be closed by the agent. Names are resolved each time, since the
    # pods of a Service change.
    connector = AgentConnector(authorizer.live, limit=0, force_close=True)
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        max_field_size=LISTENERS[ListenerName.TASKS].field_bytes,  # as much one way as the other
    )
    endpoint = TaskEndpoint(
        live=authorizer.live,
        recorder=recorder,
        session=await stack.enter_async_context(session),
        monotonic=monotonic,
        host=settings.agent_host,
        own_pod=OwnPod(settings.own_pod_exempt),
        seconds_until_money=budget.seconds_until_money,
        accounts=budget.tasks,
    )
    authorizer.find_excluded = endpoint.begun.find_excluded
    return endpoint, DrainReporter(
        client,
        _lease(settings),
        settings.pod,
        live=authorizer.live,
        endpoint=endpoint,
        clock=utc_now,
        count_calls=count_calls,
    )


def _open_counts(
    stack: AsyncExitStack, settings: GuardSettings, live: LiveState, client: KubeClient, work: WorkCounter
) -> CountsSettler:
    counts = CountsSettler(
        client,
        _lease(settings),
        settings.pod,
        run=secrets.token_hex(8),
        count=lambda: work.counts,
        # Without a bundle, what was counted under the last one is still settled.
        is_wanted=lambda: live.bundle is None or live.bundle.is_counted,
    )
    stack.push_async_callback(counts.finish, _COUNTS_SECONDS)  # runs once every call has ended
    return counts


def _open_budget(
    stack: AsyncExitStack, settings: GuardSettings, live: LiveState, client: KubeClient, clock: ServerClock
) -> tuple[Budget, MinuteLimiter]:
    """Return the budget and the rate limits.

    Without the pod's UID their holder has no name: it knows no time, and spends nothing.
    """
    budget = Budget(
        live=live,
        open_ledger=partial(LedgerObject, client, settings.namespace),
        journal=Journal(
            *(settings.spool / JOURNAL_FOLDER, settings.pod_uid, int(utc_now().timestamp() * 1000), read_boot_id())
        ),
        pod_uid=settings.pod_uid,
        clock=clock.now if settings.pod_uid else lambda: None,
        monotonic=monotonic,
        log=log,
        spread=random.random(),  # noqa: S311 - spreads guards, hides nothing
    )
    rates = MinuteLimiter(live, budget, settings.pod_uid, monotonic)
    stack.push_async_callback(budget.finish, _FINISH_SECONDS)  # runs once every call has ended
    stack.push_async_callback(rates.finish, _FINISH_SECONDS)
    return budget, rates


def _build_heartbeat(settings: GuardSettings, client: KubeClient, budget: Budget) -> Callable[[], Awaitable[None]]:
    return partial(HolderHeartbeat(client, _lease(settings), settings.pod, budget).run, log)


def _build_client(settings: GuardSettings, clock: ServerClock) -> KubeClient:
    credentials = MountedCredentials(settings.api_server, settings.credentials)
    return KubeClient(credentials, on_date=clock.observe, parse=parse_json)


def _open_providers(stack: AsyncExitStack, settings: GuardSettings, live: LiveState) -> ProviderClients:
    models = ProviderClients(live, settings.secrets, settings.dialable, log)
    stack.push_async_callback(models.close)
    return models


async def _listen(stack: AsyncExitStack, listener: BoundedListener, address: str, port: int) -> None:
    stack.push_async_callback(listener.close)
    await listener.open(address, port)


def _build_watches(
    settings: GuardSettings, client: KubeClient, live: LiveState
) -> tuple[ObjectWatch, ObjectWatch, BundleReader]:
    def handle_bundle(found: KubernetesObject | None) -> None:
        live.handle_bundle(None if found is None else (found.get("data") or {}).get(BUNDLE_KEY))

    seconds = max(1, int(settings.lease_seconds / _CYCLES_PER_LEASE))
    of_agent = ObjectWatch(
        client,
        f"{API_PATH}/namespaces/{settings.namespace}/{AGENTS}",
        settings.agent,
        on_object=live.handle_agent,
        on_contact=partial(live.record_contact, "agent"),
        watch_seconds=seconds,
    )
    of_bundle = ObjectWatch(
        client,
        f"/api/v1/namespaces/{settings.namespace}/configmaps",
        settings.bundle,
        on_object=handle_bundle,
        on_contact=partial(live.record_contact, "bundle"),
        watch_seconds=seconds,
    )
    return of_agent, of_bundle, BundleReader(live, of_bundle.read)


def _build_reporter(settings: GuardSettings, client: KubeClient) -> SelfTestReporter:
    return SelfTestReporter(client, _lease(settings), settings.pod, clock=utc_now)


def _lease(settings: GuardSettings) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases/{settings.bundle}"
