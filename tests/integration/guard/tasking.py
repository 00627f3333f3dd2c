"""An agent that takes tasks, and what a test needs to hold it up, to see what reaches it and how it ends."""

import asyncio
import io
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from msgspec.structs import replace

from interlock_contract.bundle import BundleTasks, dump_bundle, parse_bundle
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Guard, a_bundle
from tests.support.bounds import until
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port

DYING = Path(__file__).parent / "programs" / "dying_agent.py"


def a_bundle_with_tasks(port: int, most: int = 4, **changes: Any) -> str:
    """Return a bundle whose agent takes tasks on a port."""
    bundle = parse_bundle(a_bundle(["echo"], **changes))
    return dump_bundle(replace(bundle, tasks=BundleTasks(port, most)))


@dataclass
class Seen:
    """One request as the agent got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class TaskAgent:
    """An agent in this process. `/hold` and `/stream` wait until they are let go, `/event` for ever."""

    port: int = field(default_factory=free_port)
    address: str = "127.0.0.1"
    seen: list[Seen] = field(default_factory=list)
    running: int = 0
    most: int = 0
    """The highest number of concurrent tasks."""
    cancelled: int = 0
    """Tasks whose connection ended before their answer."""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    step: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{tail:.*}", self._take)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.05, handler_cancellation=True, auto_decompress=False
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, self.address, self.port, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _take(self, http: web.Request) -> web.StreamResponse:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            body = await http.read()
            self.seen.append(Seen(http.method, http.raw_path, list(http.headers.items()), body))
            return await self._answer(http, body)
        except (asyncio.CancelledError, ConnectionError):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _answer(self, http: web.Request, body: bytes) -> web.StreamResponse:
        first, _, rest = http.path[1:].partition("/")
        if first == "hold":
            await self.release.wait()
        if first == "stream":
            return await self._stream(http)
        if first == "event":
            return await self._event(http, body)
        headers = {"Connection": "X-Private", "X-Private": "1", "Keep-Alive": "timeout=1", "X-Kept": "2"}
        answers = {
            "status": lambda: web.Response(status=int(rest), text="so it is" if int(rest) not in (204, 304) else None),
            "says": lambda: web.Response(body=body, content_type="application/json"),
            "large": lambda: web.Response(body=io.BytesIO(b"x" * 2**25)),
            "odd": lambda: web.Response(headers={**headers, "Interlock-Task": "forged", "Set-Cookie": "a=b"}),
            "loops": lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"}),
        }
        return answers.get(first, lambda: web.json_response({"size": len(body), "method": http.method}))()

    async def _event(self, http: web.Request, body: bytes) -> web.StreamResponse:
        """Say the body as an event, and leave the stream open."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        await response.write(b"data: %s\n\n" % body)
        await asyncio.Event().wait()
        return response

    async def _stream(self, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        for number in range(3):
            await response.write(b"data: %d\n\n" % number)
            await self.step.wait()
            self.step.clear()
        await response.write_eof()
        return response


@dataclass
class DyingAgent:
    """An agent process that begins its answers and never ends them."""

    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(DYING), str(self.port)),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
            preexec_fn=end_with_parent,
        )
        await until(self.listens, "the agent listens")

    async def kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@dataclass
class TaskBench:
    """Guard, API server, agent and a client, all running."""

    api: FakeApiServer
    guard: Guard
    agent: TaskAgent
    session: aiohttp.ClientSession

    def url(self, path: str) -> str:
        return self.guard.task_url + path

    async def post(self, path: str, data: Any = b"{}", **more: Any) -> tuple[int, Any]:
        """Post; return the status and the body, read as JSON if it is."""
        async with self.session.post(self.url(path), data=data, **more) as response:
            text = await response.read()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def reason(self, path: str = "/task", **more: Any) -> tuple[int, str]:
        status, body = await self.post(path, **more)
        return status, body["error"]["data"]["reason"]

    async def figure(self, name: str) -> float:
        """Return one figure of the guard's metrics; 0 where it is not there."""
        found = re.search(rf"^{re.escape('interlock_guard_' + name)} (\S+)$", await self.guard.metrics(), re.MULTILINE)
        return 0.0 if found is None else float(found[1])

    async def reaches(self, name: str, value: float) -> None:
        """Wait until a figure has a value: the end of a task is counted after the last byte of its answer was sent."""

        async def has_value() -> bool:
            return await self.figure(name) == value

        await until(has_value, f"{name} is {value:g}")

    async def ended(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many tasks have a record; return all of them."""
        await until(lambda: len(self.guard.tasks()) >= count, f"{count} tasks are recorded")
        return self.guard.tasks()

    async def outcomes(self, count: int) -> list[str]:
        return [one["outcome"] for one in await self.ended(count)]


@asynccontextmanager
async def guarding(api: FakeApiServer, agent: TaskAgent, guard: Guard) -> AsyncIterator[TaskBench]:
    """Run a guard next to an agent that may not listen yet."""
    api.set_bundle(a_bundle_with_tasks(agent.port))
    await guard.start()
    try:
        await until(lambda: guard.probe("/readyz"), "the guard is open")
        async with aiohttp.ClientSession() as session:
            yield TaskBench(api, guard, agent, session)
    finally:
        await guard.stop()
        await agent.stop()
