"""A stdio server with one habit in front of a guard process, started again whenever it ends, as the kubelet does."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.guard.harness import SOURCE, Client, Guard, StdioServer
from tests.support.bounds import until

PROGRAM = Path(__file__).parent / "programs" / "habit_server.py"
_FIRST_PAUSE = 0.1


@dataclass
class Kept:
    """A server that is run again after each end."""

    starts: int = 0


@asynccontextmanager
async def kept_running(pipes: Path, command: Sequence[str], longest_pause: float = 0.5) -> AsyncIterator[Kept]:
    """Run a server on these pipes, and run it again after each end, with a pause in seconds that grows."""
    server, kept = StdioServer(pipes, list(command)), Kept()

    async def keep() -> None:
        pause = min(_FIRST_PAUSE, longest_pause)
        while True:
            await server.start()
            kept.starts += 1
            assert server.process is not None
            await server.process.wait()
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest_pause)

    keeper = asyncio.create_task(keep())
    try:
        yield kept
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await server.kill()


@dataclass
class Habit:
    """The guard, its server's log, and a client."""

    guard: Guard
    client: Client
    log: Path

    def noted(self, key: str) -> list[Any]:
        """Return what the server's processes have noted under a key."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [one[key] for one in found if key in one]

    def lines(self) -> str:
        """Return what the guard's log says of the server."""
        return "\n".join(line for line in self.guard.log().splitlines() if "server of" in line)

    async def ready(self, seconds: float = 30.0) -> None:
        await until(
            lambda: self.guard.probe(f"/ready/{SOURCE}"), lambda: f"the source is ready:\n{self.lines()}", seconds
        )

    async def dropped(self) -> int:
        """Return how many lines the guard has dropped, by its metric."""
        for line in (await self.guard.metrics()).splitlines():
            if line.startswith("interlock_guard_server_messages_dropped_total"):
                return int(float(line.split()[-1]))
        return 0


@asynccontextmanager
async def habit(guard: Guard, folder: Path, name: str) -> AsyncIterator[Habit]:
    """Serve a guard that has its bundle with a server of this habit."""
    log = folder / "habit"
    await guard.started()
    command = [sys.executable, str(PROGRAM), name, str(log)]
    async with kept_running(guard.pipes / SOURCE, command), aiohttp.ClientSession() as session:
        yield Habit(guard, Client(session, guard.url), log)
