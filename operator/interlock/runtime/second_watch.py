"""The second watch of the kinds that users apply: a thread with its own event loop and connections.

It does three things that kopf's watch cannot:

* it shows a kill switch within milliseconds, however busy the handlers' event loop is, so that no pod is planned for a
  killed Agent; the kill itself is the work of another program, the kill controller;
* it reports deletions that happened while kopf's watch was disconnected;
* it is what kopf's watch is compared with (`WatchLag`).

It holds names, labels and annotations only, so that no spec can break it.
"""

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from interlock_contract.kill import KillLatch, observe
from interlock_kube.client import Json, KubeClient
from interlock_kube.metadata import parse_metadata
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING, Key, ResourceType, key_of, version_of
from interlock_kube.watch import GoneEvent, SeenEvent, WatchOptions, follow_known
from interlock_process.credentials import find_credentials
from interlock_process.heartbeat import Heartbeat
from interlock_process.metrics import TASKS_ENDED, count_answer, skip_on_defect

_log = logging.getLogger(__name__)

STOP_SECONDS = 2.0


class SecondWatch:
    """Watches Agents, AgentPolicies and MCPBindings.

    Args:
        kubeconfig: A kubeconfig file; None in a cluster.
        saw: Called from the thread with (kind, key, version) of an object that was seen.
        gone: Called from the thread with (kind, key, version) of a deleted object; the version is None if unknown.
        switched: Called from the thread with the key of an Agent that was killed or released.
        ended: Called from the thread when it has ended, which it never does by itself.
    """

    def __init__(
        self,
        kubeconfig: Path | None,
        *,
        saw: Callable[[str, Key, int], None],
        gone: Callable[[str, Key, int | None], None],
        switched: Callable[[Key], None],
        ended: Callable[[], None],
    ) -> None:
        self._kubeconfig = kubeconfig
        self._saw = saw
        self._report_gone = gone
        self._switched = switched
        self._ended = ended
        self._latches: dict[Key, tuple[str, KillLatch]] = {}  # with the uid of the Agent
        self._thread = threading.Thread(target=self._run, name="second watch", daemon=True)
        self._stop: Callable[[], object] = lambda: None
        self._is_stopping = False
        self.heartbeat = Heartbeat("the second watch")
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

    def kill_seen(self, key: Key) -> str | None:
        """Return the switch's value of an Agent while it is engaged; any thread may call this."""
        found = self._latches.get(key)
        return None if found is None else found[1].message

    def problem(self) -> str | None:
        """Return what is wrong with the watch, None while it works."""
        return f"the second watch ended: {self.failure}" if self.failure else self.heartbeat.problem()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - /healthz must report every end of this thread
            if self._is_stopping and isinstance(error, asyncio.CancelledError):
                return
            self.failure = error
            TASKS_ENDED.inc()
            _log.exception("the second watch ended")
            self._ended()

    async def _main(self) -> None:
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        if main is not None:
            self._stop = functools.partial(loop.call_soon_threadsafe, main.cancel)
        # Credentials of its own: the thread waits for no lock of the handlers' event loop.
        credentials = find_credentials(self._kubeconfig)
        await credentials.current()  # where there are none, the process ends with the reason
        client = KubeClient(credentials, count_answer, parse=parse_metadata)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.heartbeat.run())
                for kind in (AGENT, AGENT_POLICY, MCP_BINDING):
                    group.create_task(self._follow(client, kind))
        finally:
            await client.close()

    async def _follow(self, client: KubeClient, kind: ResourceType) -> None:
        options = WatchOptions(metadata_only=True, server_seconds=60, silence_seconds=70)
        async for event in follow_known(client, kind, options, key_of, set()):
            if isinstance(event, SeenEvent):
                self._seen(kind, event.object)
            elif isinstance(event, GoneEvent):
                self._gone(kind, event.key, event.version)

    def _seen(self, kind: ResourceType, found: Json) -> None:
        with skip_on_defect(kind.kind, found):
            key, metadata = key_of(found), found["metadata"]
            if kind is AGENT:
                before = self.kill_seen(key)
                uid, latch = self._latches.pop(key, ("", KillLatch()))
                if uid != metadata["uid"]:  # another Agent of this name
                    latch = KillLatch()
                latch = observe(latch, metadata.get("annotations"), None)
                if latch.message is not None:
                    self._latches[key] = metadata["uid"], latch
                if latch.message != before:
                    self._switched(key)
            self._saw(kind.kind, key, version_of(found))

    def _gone(self, kind: ResourceType, key: Key, version: int | None) -> None:
        if kind is AGENT:
            self._latches.pop(key, None)
        self._report_gone(kind.kind, key, version)
