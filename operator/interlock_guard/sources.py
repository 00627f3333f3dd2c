"""The servers of all sources, opened, cut and replaced as the state and the bundle say."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from interlock_guard.decide import Deny, Reason, check_cut
from interlock_guard.pipes import PipePair
from interlock_guard.state import LiveState
from interlock_guard.stdio_upstream import StdioUpstream
from interlock_guard.upstream import Listener, Upstream


class Sources:
    """One `Upstream` per stdio source of the bundle; follows every change of the state at once."""

    def __init__(
        self,
        live: LiveState,
        pipes_dir: Path,
        tasks: asyncio.TaskGroup,
        listener: Listener,
        log: Callable[[str], None],
    ) -> None:
        self._live = live
        self._listener = listener
        self._pipes_dir = pipes_dir
        self._tasks = tasks
        self._log = log
        self._running: dict[str, tuple[Upstream, asyncio.Task[None]]] = {}
        live.listeners.append(self.follow)

    def get(self, name: str) -> Upstream | None:
        """Return the server of a source."""
        entry = self._running.get(name)
        return None if entry is None else entry[0]

    def all(self) -> list[Upstream]:
        """Return the servers of all sources."""
        return [upstream for upstream, _ in self._running.values()]

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks that serve them."""
        return [task for _, task in self._running.values()]

    def follow(self) -> None:
        """Bring the servers in line with state and bundle; called at each of their changes."""
        denial = check_cut(self._live.bundle, self._live.state)
        if denial is not None:
            for upstream in self.all():
                upstream.cut(denial)
            return
        if self._live.bundle is None:
            return  # every request is refused; the servers may stay, a bundle that heals needs them again
        self._replace({source.name for source in self._live.bundle.sources})
        for source in self._live.bundle.sources:
            self._running[source.name][0].limits = source.limits
        if self._live.state.agent_uid is not None:
            for upstream in self.all():
                upstream.open()

    def _replace(self, names: set[str]) -> None:
        for name in self._running.keys() - names:
            upstream, task = self._running.pop(name)
            upstream.cut(Deny(Reason.UNKNOWN_SOURCE, "", "This agent has no such source."))
            task.cancel()
        for name in sorted(names - self._running.keys()):
            upstream = StdioUpstream(name, PipePair(self._pipes_dir / name), self._listener, self._log)
            self._running[name] = upstream, self._tasks.create_task(upstream.run(), name=f"source {name}")
