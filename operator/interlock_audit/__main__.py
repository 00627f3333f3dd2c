"""The collector program (`python -m interlock_audit`): it serves until SIGTERM.

`python -m interlock_audit report` writes a report on costs instead; see `report`.
"""

import asyncio
import os
import signal
import ssl
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import aiohttp

from interlock_audit import report
from interlock_audit.reviewer import Reviewer
from interlock_audit.server import CollectorServer, Telemetry
from interlock_audit.settings import CollectorSettings, CollectorSettingsInvalid, read_settings
from interlock_audit.sqlite import open_sqlite
from interlock_audit.store_executor import StoreExecutor, stamp
from interlock_audit.stores import Store, StoreUnavailable
from interlock_contract.clock import monotonic, utc_now
from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_contract.strict_json import dump_json
from interlock_http.listener import BoundedListener
from interlock_http.probes import SHUTDOWN_SECONDS

_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - guards and probes connect from other pods and from the node
_STDOUT: Final = 1
_SHUTDOWN_SECONDS: Final = 2.0
_READ_SECONDS: Final = 10.0
"""How long the database may search for one reader."""
_REVIEW_SECONDS: Final = aiohttp.ClientTimeout(total=10)


def main() -> int:
    """Run the collector, or the command that the first argument names; return the exit code."""
    if sys.argv[1:2] == ["report"]:
        return report.run(sys.argv[2:])
    try:
        settings = read_settings(os.environ)
        stores = _open_stores(settings)
    except CollectorSettingsInvalid as error:
        log(f"settings: {error}")
        return 2
    except StoreUnavailable as error:
        log(f"audit records cannot be stored: {error}")
        return 1
    asyncio.run(serve(settings, *stores))
    return 0


async def serve(settings: CollectorSettings, store: Store, reading: Store) -> None:
    """Serve until SIGTERM or SIGINT. If any other task ends, the process ends with an error."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    executor = StoreExecutor(store, reading, utc_now, log, settings.quotas)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        stack.push_async_callback(executor.close)
        session = await stack.enter_async_context(_open_session(settings))
        reviewer = Reviewer(session, settings.api_server, settings.credentials / "token", monotonic)
        listeners = {name: BoundedListener(LISTENERS[name]) for name in (ListenerName.AUDIT, ListenerName.TELEMETRY)}
        probes, records = listeners[ListenerName.TELEMETRY], listeners[ListenerName.AUDIT]
        probes.build_app_runner(Telemetry(executor, listeners).build_app(), shutdown_timeout=SHUTDOWN_SECONDS)
        await _listen(stack, probes, settings.telemetry_port)
        records.build_app_runner(
            CollectorServer(executor, reviewer, log, monotonic).build_app(), shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await _listen(stack, records, settings.port)
        running = [tasks.create_task(executor.keep_watching())]
        if settings.keep_days:
            running.append(tasks.create_task(executor.keep_pruning(timedelta(days=settings.keep_days))))
        log("collecting")
        await stop.wait()
        for task in running:
            task.cancel()


def log(message: str) -> None:
    """Write one line about the collector."""
    os.write(_STDOUT, dump_json({"time": stamp(utc_now()), "message": message}) + b"\n")


def _open_stores(settings: CollectorSettings) -> tuple[Store, Store]:
    """Return the store for guards, and the one for readers, which has a deadline."""
    if not settings.postgres:
        store = open_sqlite(settings.sqlite, quotas=settings.quotas)
        return store, open_sqlite(settings.sqlite, is_read_only=True, seconds=_READ_SECONDS, monotonic=monotonic)
    from interlock_audit.postgres import open_postgres  # noqa: PLC0415 - only those who use PostgreSQL need its driver

    reading = open_postgres(settings.postgres, is_read_only=True, seconds=_READ_SECONDS)
    return open_postgres(settings.postgres, settings.quotas), reading


def _open_session(settings: CollectorSettings) -> aiohttp.ClientSession:
    context: ssl.SSLContext | bool = True
    if settings.api_server.startswith("https://"):
        context = ssl.create_default_context(cafile=str(settings.credentials / "ca.crt"))
    connector = aiohttp.TCPConnector(ssl=context)
    # No proxy from the environment and no cookies: this session connects to the API server only.
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, timeout=_REVIEW_SECONDS
    )


async def _listen(stack: AsyncExitStack, listener: BoundedListener, port: int) -> None:
    stack.push_async_callback(listener.close)
    await listener.open(_EVERYWHERE, port)


if __name__ == "__main__":
    sys.exit(main())
