"""`python -m interlock_notify`: the notifier as a program, until SIGTERM."""

import asyncio
import logging
import os
import random
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import uvloop

from interlock_contract.clock import monotonic, utc_now
from interlock_contract.environment import SettingsInvalid
from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_contract.strict_json import parse_json
from interlock_http.listener import BoundedListener
from interlock_http.probes import SHUTDOWN_SECONDS
from interlock_kube.background import keep_running
from interlock_kube.client import UNREACHABLE, AnswerTooLarge, ApiError, KubeClient
from interlock_kube.credentials import MountedCredentials
from interlock_kube.resource_types import BUDGET_LEDGER, Key, ResourceType, key_of
from interlock_kube.retry import PAUSE_SECONDS
from interlock_kube.watch import GoneEvent, SeenEvent, WatchOptions, follow_known, read_pages
from interlock_notify.dispatcher import Dispatcher
from interlock_notify.log import configure_log
from interlock_notify.probes import NotifierProbes
from interlock_notify.record import DeliveryRecord
from interlock_notify.sender import WebhookSender
from interlock_notify.settings import NotifierSettings, read_settings

_log = logging.getLogger("interlock_notify")

_CONFIG_MAP: Final = ResourceType("ConfigMap", "/api/v1", "configmaps")
_RESOLVERS: Final = 32
"""Threads that look names up: a name that takes long must not keep the names of other webhooks waiting."""
_WATCH_SECONDS, _SILENCE_SECONDS = 60, 75.0
_PAGE: Final = 20
_PAGE_BYTES: Final = 2 * 1024 * 1024
"""Ledgers, and their bytes, that are in memory at once: one of a busy agent has some hundred KiB, and of one that is
larger than a page only itself is."""
_PROBLEM_SECONDS: Final = 5.0
"""Seconds between two looks at the files of the webhooks."""


async def serve(settings: NotifierSettings) -> int:
    """Post alerts until SIGTERM or SIGINT, or until a defect ends the work; return the exit code."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.set_default_executor(ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as opened:
        client = KubeClient(MountedCredentials(settings.api_server, settings.credentials), parse=parse_json)
        opened.push_async_callback(client.close)
        senders = {
            webhook.name: WebhookSender(
                webhook, settings.plan, settings.secrets, settings.dialable, lambda: utc_now().timestamp()
            )
            for webhook in settings.plan.webhooks
        }
        path = _CONFIG_MAP.path(settings.namespace, settings.record)
        record = DeliveryRecord(client, path, senders, utc_now)
        dispatcher = Dispatcher(
            settings.plan.policy,
            senders,
            random=random.random,
            clock=utc_now,
            monotonic=monotonic,
            on_done=record.add,
        )
        probes = NotifierProbes(dispatcher, lambda: record.failures, monotonic)
        listener = BoundedListener(LISTENERS[ListenerName.OBSERVE])
        opened.push_async_callback(listener.close)
        listener.build_app_runner(probes.build_app(), shutdown_timeout=SHUTDOWN_SECONDS)
        await listener.open("0.0.0.0", settings.observe_port)  # noqa: S104 - the node probes
        work = asyncio.ensure_future(_work(settings, client, dispatcher, record, probes))
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            _log.critical("the notifier ended because of a defect of Interlock", exc_info=work.exception())
            return 1
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await record.flush()
    return 0


async def _work(
    settings: NotifierSettings,
    client: KubeClient,
    dispatcher: Dispatcher,
    record: DeliveryRecord,
    probes: NotifierProbes,
) -> None:
    """Read what was delivered, then watch and post."""
    dispatcher.restore(await record.load())
    options = WatchOptions(
        selector=settings.selector,
        namespace=settings.namespace,
        server_seconds=_WATCH_SECONDS,
        silence_seconds=_SILENCE_SECONDS,
        page=_PAGE,
        page_bytes=_PAGE_BYTES,
        on_contact=probes.record_contact,
    )
    watch = partial(_watch, client, options, dispatcher, set())
    async with asyncio.TaskGroup() as group:
        group.create_task(keep_running("watch of ledgers", watch, _log.error))
        write = partial(record.run, dispatcher.note_delivered)
        group.create_task(keep_running("record of deliveries", write, _log.error))
        list_again = partial(_list_again, client, options, dispatcher)
        group.create_task(keep_running("list of ledgers", list_again, _log.error))
        group.create_task(keep_running("problems of webhooks", partial(_report, dispatcher, record), _log.error))
        group.create_task(dispatcher.run())


async def _watch(client: KubeClient, options: WatchOptions, dispatcher: Dispatcher, known: set[Key]) -> None:
    """Follow the ledgers of the policy."""
    async for event in follow_known(client, BUDGET_LEDGER, options, key_of, known):
        if isinstance(event, SeenEvent):
            dispatcher.handle_ledger(event.object)
        elif isinstance(event, GoneEvent):
            dispatcher.handle_deletion(event.key)


async def _list_again(client: KubeClient, options: WatchOptions, dispatcher: Dispatcher) -> None:
    """Read all ledgers again whenever there is room for alerts that a queue had to leave out."""
    query = {"labelSelector": options.selector}
    while True:
        await dispatcher.wants_ledgers.wait()
        dispatcher.wants_ledgers.clear()
        try:
            async for page in read_pages(
                client, options.path(BUDGET_LEDGER), query, limit=options.page, most=options.page_bytes
            ):
                for found in page["items"] or ():
                    dispatcher.handle_ledger(found)
        except (ApiError, AnswerTooLarge, *UNREACHABLE, ValueError) as error:
            _log.warning("ledgers are not listed yet", extra={"error": str(error) or type(error).__name__})
            dispatcher.wants_ledgers.set()
            await asyncio.sleep(PAUSE_SECONDS)


async def _report(dispatcher: Dispatcher, record: DeliveryRecord) -> None:
    """Record which webhooks take no alerts, for the status of the policy."""
    while True:
        record.set_problems(dispatcher.find_problems())
        await asyncio.sleep(_PROBLEM_SECONDS)


def main() -> int:
    """Run with the settings of the environment; return the exit code."""
    configure_log()
    try:
        settings = read_settings(os.environ)
    except SettingsInvalid as error:
        _log.critical("settings: %s", error)
        return 2
    return uvloop.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
