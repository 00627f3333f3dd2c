"""The kill path: a thread with its own event loop, connection and watches.

The thread shares nothing with the reconcile loops: a kill is seen here within milliseconds, even while they hang or
fail. The watches have names, labels and annotations only, so that no spec can break the kill path.
"""

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path

import aiohttp

from interlock.cluster.killer import Kill, Killer, Release
from interlock.cluster.kubeconfig import find_credentials
from interlock.runtime.liveness import Heartbeat
from interlock.telemetry import AGENTS_KILLED, KILL_SECONDS, KILLS, TASKS_ENDED, count_answer, skip_on_defect
from interlock_contract.kill import KillLatch, observe
from interlock_contract.names import AGENT_LABEL, KILL_SWITCH, KILL_SWITCH_BY, KILL_SWITCH_OFF
from interlock_kube.client import CONFLICT, NOT_FOUND, ApiError, Json, KubeClient
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING, POD, ResourceType
from interlock_kube.watch import ChangeEvent, ListEvent, WatchOptions, follow

_log = logging.getLogger(__name__)

Key = tuple[str, str]

STOP_SECONDS = 2.0
SWEEP_SECONDS = 0.5  # between two sweeps, each of which counts the pods that are left
RETRY_SECONDS = 0.5
_EXPECTED = (ApiError, aiohttp.ClientError, TimeoutError, OSError)


class KillWatch:
    """Watches kill switches and carries them out.

    Args:
        kubeconfig: A kubeconfig file; None in a cluster.
        clock: Returns the time.
        saw: Called from the kill path's thread with (kind, key, version) of an object that was seen.
        gone: Called from that thread with (kind, key, version) of a deleted object; the version is None if unknown.
        ended: Called from that thread when the kill path has ended, which it never does by itself.
    """

    def __init__(
        self,
        kubeconfig: Path | None,
        clock: Callable[[], datetime],
        *,
        saw: Callable[[str, Key, int], None],
        gone: Callable[[str, Key, int | None], None],
        ended: Callable[[], None],
    ) -> None:
        self._kubeconfig = kubeconfig
        self._clock = clock
        self._saw = saw
        self._report_gone = gone
        self._ended = ended
        self._killed: dict[Key, Kill] = {}
        self._released: set[Key] = set()
        self._known: dict[str, set[Key]] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._run, name="kill", daemon=True)
        self._stop: Callable[[], object] = lambda: None
        self._is_stopping = False
        self.heartbeat = Heartbeat("the kill path")
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close its connections; return once it has ended, or after two seconds."""
        self._is_stopping = True
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # its event loop has just ended by itself
                self._stop()
            self._thread.join(STOP_SECONDS)

    def seen(self, key: Key) -> str | None:
        """Return the switch's value where it is engaged; any thread may call this."""
        kill = self._killed.get(key)
        return None if kill is None else kill.value

    def problem(self) -> str | None:
        """Return what is wrong with the kill path, None while it works."""
        return f"the kill path ended: {self.failure}" if self.failure else self.heartbeat.problem()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - /healthz must report every end of this thread
            if self._is_stopping and isinstance(error, asyncio.CancelledError):
                return
            self.failure = error
            TASKS_ENDED.inc()
            _log.exception("the kill path ended")
            self._ended()

    async def _main(self) -> None:
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        if main is not None:
            self._stop = functools.partial(loop.call_soon_threadsafe, main.cancel)
        # Credentials of its own: the kill path waits for no lock of the handlers' event loop.
        credentials = find_credentials(self._kubeconfig)
        await credentials.current()  # where there are none, the process ends with the reason
        client = KubeClient(credentials, count_answer)
        killer = Killer(client)
        async with contextlib.AsyncExitStack() as opened, asyncio.TaskGroup() as group:
            opened.push_async_callback(client.close)
            opened.push_async_callback(self._cancel_work)  # first: it uses the client
            group.create_task(self.heartbeat.run())
            group.create_task(self._follow(client, killer, AGENT))
            group.create_task(self._follow(client, killer, AGENT_POLICY))
            group.create_task(self._follow(client, killer, MCP_BINDING))
            group.create_task(self._watch_pods(client, killer))

    async def _cancel_work(self) -> None:
        work = list(self._tasks.values())
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    async def _follow(self, client: KubeClient, killer: Killer, kind: ResourceType) -> None:
        options = WatchOptions(metadata_only=True, server_seconds=60, silence_seconds=70)
        async for event in follow(client, kind, options):
            if isinstance(event, ListEvent):
                self._listed(killer, kind, event)
                continue
            with skip_on_defect(kind.kind, event.object):
                if event.type == "DELETED":
                    self._gone(kind, _key(event.object), int(event.object["metadata"]["resourceVersion"]))
                else:
                    self._seen(killer, kind, event.object)

    def _listed(self, killer: Killer, kind: ResourceType, event: ListEvent) -> None:
        listed = {_key(found) for found in event.objects}
        for key in self._known.get(kind.kind, set()) - listed:
            self._gone(kind, key, None)
        for found in event.objects:
            with skip_on_defect(kind.kind, found):
                self._seen(killer, kind, found)

    def _seen(self, killer: Killer, kind: ResourceType, found: Json) -> None:
        key = _key(found)
        self._known.setdefault(kind.kind, set()).add(key)
        if kind is AGENT:
            self._switch(killer, key, found["metadata"].get("annotations") or {})
        self._saw(kind.kind, key, int(found["metadata"]["resourceVersion"]))

    def _gone(self, kind: ResourceType, key: Key, version: int | None) -> None:
        self._known.get(kind.kind, set()).discard(key)
        if kind is AGENT:
            self._released.discard(key)
            self._killed.pop(key, None)
            AGENTS_KILLED.set(len(self._killed))
        self._report_gone(kind.kind, key, version)

    def _switch(self, killer: Killer, key: Key, annotations: dict[str, str]) -> None:
        """Engage, keep or release the kill switch of one Agent, as the latch says.

        Metadata is all that is watched, so the latch remembers what was observed here and knows no status.
        """
        before = self._killed.get(key)
        value = observe(KillLatch(before.value if before else None), annotations, None).message
        by = annotations.get(KILL_SWITCH_BY)
        if annotations.get(KILL_SWITCH) == KILL_SWITCH_OFF:
            self._killed.pop(key, None)
            if key not in self._released:
                self._released.add(key)
                self._start(key, self._release(killer, key, Release(self._clock(), by, before)))
        elif value is not None and (before is None or value != before.value):
            self._released.discard(key)
            self._killed[key] = Kill(value, by, self._clock() if before is None else before.since)
            if before is None:
                KILLS.inc()
                _log.warning("kill switch engaged", extra={"agent": "/".join(key), "value": value[:200]})
            self._start(key, self._end(killer, key))
        AGENTS_KILLED.set(len(self._killed))

    async def _watch_pods(self, client: KubeClient, killer: Killer) -> None:
        """End every pod that starts for a killed Agent, whatever created it."""
        options = WatchOptions(selector=AGENT_LABEL, metadata_only=True, server_seconds=60, silence_seconds=70)
        async for event in follow(client, POD, options):
            found = event.objects if isinstance(event, ListEvent) else (event.object,)
            if isinstance(event, ChangeEvent) and event.type != "ADDED":
                continue
            for pod in found:
                with skip_on_defect("Pod", pod):
                    metadata = pod["metadata"]
                    key = metadata["namespace"], metadata["labels"][AGENT_LABEL]
                    if key in self._killed and "deletionTimestamp" not in metadata:
                        self._start(key, self._end(killer, key))

    def _start(self, key: Key, work: Coroutine[None, None, None]) -> None:
        """Start the work for one Agent, in place of the work that runs for it.

        The work itself retries every failure, defects included, so its task has no exception to read.
        """
        running = self._tasks.pop(key, None)
        if running is not None:
            running.cancel()
        task = asyncio.create_task(work)
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._tasks.pop(key, None) if self._tasks.get(key) is done else None)

    async def _end(self, killer: Killer, key: Key) -> None:
        """End the Agent's pods until none is left, and record it in the status; pods do not wait for the record."""
        kill = self._killed.get(key)
        if kill is None:
            return  # released before this has started
        since = self._clock()
        record = asyncio.create_task(self._record(killer, key, kill))
        try:
            while await self._sweep(killer, key):  # noqa: ASYNC110 - each turn asks the API server
                await asyncio.sleep(SWEEP_SECONDS)
            requested = await record
            if requested is not None:
                now = self._clock()
                KILL_SECONDS.observe((now - since).total_seconds())
                await _insist(key, lambda: killer.record_zero(*key, requested, now))
        finally:
            record.cancel()

    async def _sweep(self, killer: Killer, key: Key) -> bool:
        """Delete and scale once; return True if another sweep is needed."""
        try:
            return await killer.end(*key) > 0
        except Exception as error:  # noqa: BLE001 - a kill is insisted on, whatever fails
            _log_failure("kill not finished", key, error)
            return True

    async def _record(self, killer: Killer, key: Key, kill: Kill) -> datetime | None:
        recorded: list[datetime | None] = []

        async def write() -> None:
            recorded.append(await killer.record(*key, kill))

        await _insist(key, write)
        return recorded[-1] if recorded else None

    async def _release(self, killer: Killer, key: Key, release: Release) -> None:
        await _insist(key, lambda: killer.record_release(*key, release))


async def _insist(key: Key, write: Callable[[], Coroutine[None, None, None]]) -> None:
    """Try until the API server accepts the write, or the object is gone."""
    logged = ""
    while True:
        try:
            await write()
        except Exception as error:  # noqa: BLE001 - a kill is insisted on, whatever fails
            if isinstance(error, ApiError) and error.status == NOT_FOUND:
                return
            if isinstance(error, ApiError) and error.status == CONFLICT:
                continue  # the Agent has changed since it was read: read it again
            if repr(error) != logged:
                logged = repr(error)
                _log_failure("kill not recorded", key, error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


def _log_failure(message: str, key: Key, error: Exception) -> None:
    """Log a failure of the kill path, with its trace where it is a defect of the operator."""
    fields = {"agent": "/".join(key), "error": str(error) or repr(error)}
    _log.warning(message, extra=fields, exc_info=None if isinstance(error, _EXPECTED) else error)


def _key(found: Json) -> Key:
    return found["metadata"]["namespace"], found["metadata"]["name"]
