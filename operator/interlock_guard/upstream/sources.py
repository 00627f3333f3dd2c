"""The servers of all sources: opened, closed and replaced as the state and the bundle say."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock_contract.bundle import BundleSource
from interlock_contract.http_target import HttpTarget
from interlock_guard.decision.decide import Deny, DenyReason, check_terminated
from interlock_guard.state import LiveState
from interlock_guard.upstream.credentials import Credentials
from interlock_guard.upstream.http_client import HttpClient
from interlock_guard.upstream.http_upstream import HttpUpstream
from interlock_guard.upstream.pipes import PipePair
from interlock_guard.upstream.stdio_upstream import StdioUpstream
from interlock_guard.upstream.upstream import Upstream, UpstreamEvents
from interlock_guard.wire.large_messages import LargeMessages
from interlock_http.dialer import Dialer
from interlock_kube.background import keep_running

_GONE: Final = Deny(DenyReason.UNKNOWN_SOURCE, "", "This agent has no such source.")
_REPLACED: Final = Deny(
    DenyReason.SERVER_UNAVAILABLE, "", "Another server serves this source now; the call may have been executed or not."
)


@dataclass(frozen=True, slots=True)
class _Running:
    """A source's server, the task that serves it, and how it is reached."""

    upstream: Upstream
    task: asyncio.Task[None]
    http: HttpTarget | None


class Sources:
    """One `Upstream` per source of the bundle; follows every change of the state immediately."""

    def __init__(
        self,
        live: LiveState,
        tasks: asyncio.TaskGroup,
        build: Callable[[BundleSource], Upstream],
        log: Callable[[str], None],
    ) -> None:
        self._live, self._log = live, log
        self._build = build
        self._tasks = tasks
        self._running: dict[str, _Running] = {}
        self._denial: Deny | None = None
        """Why nothing may go on now; None while it may."""

    def get(self, name: str) -> Upstream | None:
        """Return the server of a source."""
        entry = self._running.get(name)
        return None if entry is None else entry.upstream

    def all(self) -> list[Upstream]:
        """Return the servers of all sources."""
        return [entry.upstream for entry in self._running.values()]

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks that serve them."""
        return [entry.task for entry in self._running.values()]

    def follow(self) -> None:
        """Bring the servers in line with state and bundle; called at each of their changes.

        Servers in the pod need their pipes also while nothing may go on: the guard counts as started once it has a
        bundle, and the kubelet then makes the folders that servers mount, as root, where there are none.

        A pod that is refused for its image may only be a new one whose image is not known yet. In a shared pod the
        agent's container, and with it that image, waits for the servers. So they are initialized, and get no call.
        """
        denial = check_terminated(self._live.bundle, self._live.state)
        if denial != self._denial:
            self._denial = denial
            if denial is not None:
                for upstream in self.all():
                    upstream.close(denial)
        if self._live.bundle is None:
            return  # every request is refused; the servers may stay, a bundle that heals needs them again
        self._replace({source.name: source for source in self._live.bundle.sources})
        for source in self._live.bundle.sources:
            upstream = self._running[source.name].upstream
            upstream.limits, upstream.verified_version = source.limits, source.protocol
        may_begin = denial is None or denial.reason is DenyReason.IMAGE_CHANGED
        if may_begin and self._live.state.agent_uid is not None:
            for upstream in self.all():
                upstream.open()

    def _replace(self, sources: dict[str, BundleSource]) -> None:
        """End servers that are no longer wanted or are now reached in another way; start new ones."""
        for name, entry in list(self._running.items()):
            wanted = sources.get(name)
            if wanted is None or wanted.http != entry.http:
                del self._running[name]
                entry.upstream.retire(_GONE if wanted is None else _REPLACED)
                entry.task.cancel()
        for name in sorted(sources.keys() - self._running.keys()):
            upstream = self._build(sources[name])
            task = self._tasks.create_task(
                keep_running(f"server of {name}", upstream.run, self._log), name=f"source {name}"
            )
            self._running[name] = _Running(upstream, task, sources[name].http)


def build_upstream(
    source: BundleSource,
    listener: UpstreamEvents,
    log: Callable[[str], None],
    *,
    pipes: Path,
    secrets: Path,
    dialable: Collection[str] = (),
    large: LargeMessages | None = None,
    are_pipes_made: bool = False,
) -> Upstream:
    """Return a new upstream for the source; nothing begins before it is run and opened.

    Args:
        source: The source.
        listener: Takes the server's messages that belong to no call.
        log: Told of what happens.
        pipes: Directory of pipes, one folder for each source.
        secrets: Directory of credentials, one folder for each source.
        dialable: Addresses that are dialled without a check; none in a pod, see `settings`.
        large: The large messages of this guard.
        are_pipes_made: Whether another process has made the pipes, since the server was started before this one.
    """
    if source.http is None:
        pair = PipePair(pipes / source.name, is_made=are_pipes_made)
        return StdioUpstream(source.name, pair, listener, log, large)
    credentials = Credentials(source.http, secrets / source.name)
    dialer = Dialer.for_target(source.http, dialable)
    return HttpUpstream(source.name, HttpClient(source.http.url, credentials, dialer), listener, log, large)
