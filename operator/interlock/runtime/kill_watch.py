"""The kill path: a thread with an event loop, a connection and watches of its own.

It shares nothing with reconciling: whatever hangs, fails or queues there, a kill is seen here within milliseconds. It
watches names, labels and annotations only, so that no spec can break it.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import aiohttp

from interlock.cluster.killer import Kill, Killer, Release
from interlock.cluster.kubeconfig import find_credentials
from interlock.runtime.liveness import Heartbeat
from interlock.telemetry import AGENTS_KILLED, KILL_SECONDS, KILLS, count_answer
from interlock_contract.kill import KillLatch, observe
from interlock_contract.names import AGENT_LABEL, KILL_SWITCH, KILL_SWITCH_BY, KILL_SWITCH_OFF
from interlock_kube.client import NOT_FOUND, ApiError, Json, KubeClient
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING, POD, ResourceType
from interlock_kube.watch import ChangeEvent, ListEvent, WatchOptions, follow

_log = logging.getLogger(__name__)

Key = tuple[str, str]

SWEEP_SECONDS = 0.5  # between two looks at whether pods are left
RETRY_SECONDS = 0.5
_FAILURES = (ApiError, aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True)
class KillWatchListeners:
    """What the kill path tells the rest, from its own thread.

    Attributes:
        saw: (kind, key, version): an object was seen.
        gone: (kind, key, version): an object is gone, at this version where it is known.
        ended: The kill path has ended, which it never does by itself.
    """

    saw: Callable[[str, Key, int], None]
    gone: Callable[[str, Key, int | None], None]
    ended: Callable[[], None]


class KillWatch:
    """Sees kill switches and carries them out."""

    def __init__(self, kubeconfig: Path | None, clock: Callable[[], datetime], sight: KillWatchListeners) -> None:
        self._kubeconfig = kubeconfig
        self._clock = clock
        self._sight = sight
        self._killed: dict[Key, Kill] = {}
        self._released: set[Key] = set()
        self._known: dict[str, set[Key]] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self.heartbeat = Heartbeat("the kill path")
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        threading.Thread(target=self._run, name="kill", daemon=True).start()

    def seen(self, key: Key) -> str | None:
        """Return the switch's value where it is engaged; may be asked from another thread."""
        kill = self._killed.get(key)
        return None if kill is None else kill.value

    def problem(self) -> str | None:
        """Return what is wrong with the kill path, None while it works."""
        return f"the kill path ended: {self.failure}" if self.failure else self.heartbeat.problem()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - health must tell of every end of this thread
            self.failure = error
            _log.exception("the kill path ended")
            self._sight.ended()

    async def _main(self) -> None:
        # Credentials of its own: the kill path waits for no lock of the handlers' event loop.
        credentials = find_credentials(self._kubeconfig)
        await credentials.current()  # where there are none, the process ends with the reason
        client = KubeClient(credentials, count_answer)
        killer = Killer(client)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.heartbeat.run())
            group.create_task(self._follow(client, killer, AGENT))
            group.create_task(self._follow(client, killer, AGENT_POLICY))
            group.create_task(self._follow(client, killer, MCP_BINDING))
            group.create_task(self._watch_pods(client, killer))

    async def _follow(self, client: KubeClient, killer: Killer, kind: ResourceType) -> None:
        options = WatchOptions(metadata_only=True, server_seconds=60, silence_seconds=70)
        async for news in follow(client, kind, options):
            if isinstance(news, ListEvent):
                self._listed(killer, kind, news)
            elif news.type == "DELETED":
                self._gone(kind, _key(news.object), int(news.object["metadata"]["resourceVersion"]))
            else:
                self._seen(killer, kind, news.object)

    def _listed(self, killer: Killer, kind: ResourceType, news: ListEvent) -> None:
        listed = {_key(found) for found in news.objects}
        for key in self._known.get(kind.kind, set()) - listed:
            self._gone(kind, key, None)
        for found in news.objects:
            self._seen(killer, kind, found)

    def _seen(self, killer: Killer, kind: ResourceType, found: Json) -> None:
        key = _key(found)
        self._known.setdefault(kind.kind, set()).add(key)
        if kind is AGENT:
            self._switch(killer, key, found["metadata"].get("annotations") or {})
        self._sight.saw(kind.kind, key, int(found["metadata"]["resourceVersion"]))

    def _gone(self, kind: ResourceType, key: Key, version: int | None) -> None:
        self._known.get(kind.kind, set()).discard(key)
        if kind is AGENT:
            self._released.discard(key)
            self._killed.pop(key, None)
            AGENTS_KILLED.set(len(self._killed))
        self._sight.gone(kind.kind, key, version)

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
        """End whatever comes up for a killed agent, whoever made it."""
        options = WatchOptions(selector=AGENT_LABEL, metadata_only=True, server_seconds=60, silence_seconds=70)
        async for news in follow(client, POD, options):
            found = news.objects if isinstance(news, ListEvent) else (news.object,)
            if isinstance(news, ChangeEvent) and news.type != "ADDED":
                continue
            for pod in found:
                metadata = pod["metadata"]
                key = metadata["namespace"], metadata["labels"][AGENT_LABEL]
                if key in self._killed and "deletionTimestamp" not in metadata:
                    self._start(key, self._end(killer, key))

    def _start(self, key: Key, work: Coroutine[None, None, None]) -> None:
        """Do the work of one agent, in place of what was being done for it."""
        running = self._tasks.pop(key, None)
        if running is not None:
            running.cancel()
        task = asyncio.create_task(work)
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._tasks.pop(key, None) if self._tasks.get(key) is done else None)

    async def _end(self, killer: Killer, key: Key) -> None:
        """End the agent's pods until none is left, and tell it in its status; nothing waits for anything."""
        kill = self._killed.get(key)
        if kill is None:
            return  # released before this has begun
        since = self._clock()
        record = asyncio.create_task(self._record(killer, key, kill))
        try:
            while await self._sweep(killer, key):  # noqa: ASYNC110 - each turn asks the API server
                await asyncio.sleep(SWEEP_SECONDS)
            requested = await record
            if requested is not None:
                now = self._clock()
                KILL_SECONDS.observe((now - since).total_seconds())
                await _insist(lambda: killer.record_zero(*key, now))
        finally:
            record.cancel()

    async def _sweep(self, killer: Killer, key: Key) -> bool:
        """Delete and scale once; tell whether another sweep is needed."""
        try:
            return await killer.end(*key) > 0
        except _FAILURES as error:
            _log.warning("kill not finished", extra={"agent": "/".join(key), "error": str(error) or repr(error)})
            return True

    async def _record(self, killer: Killer, key: Key, kill: Kill) -> datetime | None:
        recorded: list[datetime | None] = []

        async def write() -> None:
            recorded.append(await killer.record(*key, kill))

        await _insist(write)
        return recorded[-1] if recorded else None

    async def _release(self, killer: Killer, key: Key, release: Release) -> None:
        await _insist(lambda: killer.record_release(*key, release))


async def _insist(write: Callable[[], Coroutine[None, None, None]]) -> None:
    """Try until the API server takes it, or the object is gone."""
    while True:
        try:
            await write()
        except _FAILURES as error:
            if isinstance(error, ApiError) and error.status == NOT_FOUND:
                return
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


def _key(found: Json) -> Key:
    return found["metadata"]["namespace"], found["metadata"]["name"]
