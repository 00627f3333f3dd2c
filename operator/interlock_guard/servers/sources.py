"""The servers of all sources, opened, cut and replaced as the state and the bundle say."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from interlock_guard.bundle.document import Source
from interlock_guard.bundle.http_target import HttpTarget
from interlock_guard.decision.decide import Deny, Reason, check_cut
from interlock_guard.servers.upstream import Upstream
from interlock_guard.state import LiveState

_GONE: Final = Deny(Reason.UNKNOWN_SOURCE, "", "This agent has no such source.")
_REPLACED: Final = Deny(
    Reason.SERVER_UNAVAILABLE, "", "Another server serves this source now; the call may have been executed or not."
)


@dataclass(frozen=True, slots=True)
class _Running:
    """A source's server, the task that serves it, and how it is reached."""

    upstream: Upstream
    task: asyncio.Task[None]
    http: HttpTarget | None


class Sources:
    """One `Upstream` per source of the bundle; follows every change of the state at once."""

    def __init__(self, live: LiveState, tasks: asyncio.TaskGroup, build: Callable[[Source], Upstream]) -> None:
        self._live = live
        self._build = build
        self._tasks = tasks
        self._running: dict[str, _Running] = {}
        live.listeners.append(self.follow)

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
        """Bring the servers in line with state and bundle; called at each of their changes."""
        denial = check_cut(self._live.bundle, self._live.state)
        if denial is not None:
            for upstream in self.all():
                upstream.cut(denial)
            return
        if self._live.bundle is None:
            return  # every request is refused; the servers may stay, a bundle that heals needs them again
        self._replace({source.name: source for source in self._live.bundle.sources})
        for source in self._live.bundle.sources:
            self._running[source.name].upstream.limits = source.limits
        if self._live.state.agent_uid is not None:
            for upstream in self.all():
                upstream.open()

    def _replace(self, sources: dict[str, Source]) -> None:
        """Let go of servers that are wanted no more, or are reached in another way now; take up new ones."""
        for name, entry in list(self._running.items()):
            wanted = sources.get(name)
            if wanted is None or wanted.http != entry.http:
                del self._running[name]
                entry.upstream.cut(_GONE if wanted is None else _REPLACED)
                entry.task.cancel()
        for name in sorted(sources.keys() - self._running.keys()):
            upstream = self._build(sources[name])
            task = self._tasks.create_task(upstream.run(), name=f"source {name}")
            self._running[name] = _Running(upstream, task, sources[name].http)
