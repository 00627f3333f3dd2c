"""A proxy between operator and API server that stalls, freezes and counts requests.

Plain HTTP towards the operator (whose token goes through in its header), TLS towards the API server. Everything passes
untouched unless a test says differently, so that what a test sees is the real API server's doing.
"""

import asyncio
import contextlib
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.integration.operator.api import Access
from tests.support.ports import free_port

_DROPPED = {"host", "connection", "transfer-encoding", "content-length", "accept-encoding", "content-encoding"}
_WRITES = {"POST", "PUT", "PATCH", "DELETE"}
START_SECONDS = 10.0
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Call:
    """One request as the operator made it."""

    method: str
    path: str
    content_type: str

    @property
    def is_write(self) -> bool:
        """True if it changes an object of the cluster; Events do not count."""
        return self.method in _WRITES and "/events" not in self.path


Filter = Callable[[Call], bool]


@dataclass
class Writes:
    """Counts the writes that the API server has carried out, and acts after one of them.

    Attributes:
        calls: All of them, in the order in which they were answered.
        after: After how many `then` is called; that answer and every later one never arrive.
        then: What to do.
    """

    after: int = 0
    then: Callable[[], None] = lambda: None
    calls: list[Call] = field(default_factory=list)

    def answered(self, call: Call) -> bool:
        """Note an answered write; return True if its answer may go on."""
        self.calls.append(call)
        if len(self.calls) == self.after:
            self.then()
        return not self.after or len(self.calls) < self.after


class FaultProxy:
    """The proxy, on a thread of its own."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._loop = asyncio.new_event_loop()
        self._stalled: list[Filter] = []
        self._frozen: list[Filter] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._writes = Writes()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.url = ""
        self.waiting = 0

    def start(self) -> None:
        self._thread.start()
        self._do(self._serve())

    def stop(self) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    @contextlib.contextmanager
    def stalling(self, matches: Filter) -> Iterator[None]:
        """Let matching requests wait without an answer for as long as the context lasts."""
        self._stalled.append(matches)
        try:
            yield
        finally:
            self._stalled.remove(matches)

    @contextlib.contextmanager
    def freezing(self, matches: Filter) -> Iterator[None]:
        """Let no byte through on matching streams, open ones included, for as long as the context lasts."""
        self._frozen.append(matches)
        try:
            yield
        finally:
            self._frozen.remove(matches)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Cut every connection, and refuse new ones for as long as the context lasts."""
        port = self._runner.addresses[0][1]
        self._do(self._runner.cleanup())
        try:
            yield
        finally:
            self._do(self._listen(port))

    @contextlib.contextmanager
    def counting(self, after: int = 0, then: Callable[[], None] = lambda: None) -> Iterator[Writes]:
        """Count writes from zero."""
        self._writes = Writes(after, then)
        try:
            yield self._writes
        finally:
            self._writes = Writes()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    async def _serve(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._access.tls, limit=0, socket_factory=self._open_socket)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        await self._listen(free_port())  # which no connection of another process is given while the proxy is away
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _listen(self, port: int) -> None:
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def _close(self) -> None:
        hanging = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        await self._runner.cleanup()
        await self._session.close()
        # TLS ends only when the other side has answered, and no event reports that.
        while any(opened.fileno() != -1 for opened in self._sockets):  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)

    def _open_socket(self, found: aiohttp.AddrInfoType) -> socket.socket:
        opened = socket.socket(*found[:3])
        opened.setblocking(False)  # noqa: FBT003 - its name
        self._sockets.add(opened)
        return opened

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(request.method, request.raw_path, request.content_type)
        await self._hold(self._stalled, call)
        url = f"https://{self._access.host}:{self._access.port}{request.raw_path}"
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _DROPPED}
        headers["Accept-Encoding"] = "identity"  # bodies pass as they are
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        body = await request.read()
        try:
            async with self._session.request(
                request.method, url, headers=headers, data=body or None, timeout=timeout
            ) as answer:
                return await self._pass_on(request, call, answer)
        except aiohttp.ClientConnectorError:
            raise web.HTTPBadGateway from None

    async def _pass_on(self, request: web.Request, call: Call, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _DROPPED}
        if "watch=" not in call.path:
            data = await answer.read()
            if call.is_write and answer.status < 300 and not self._writes.answered(call):
                await asyncio.Event().wait()  # its caller is dead
            return web.Response(status=answer.status, body=data, headers=headers)
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            async for chunk in answer.content.iter_any():
                await self._hold(self._frozen, call)
                await response.write(chunk)
        return response

    async def _hold(self, filters: list[Filter], call: Call) -> None:
        if not any(matches(call) for matches in filters):
            return
        self.waiting += 1
        try:
            while any(matches(call) for matches in filters):  # noqa: ASYNC110 - the filters belong to another thread
                await asyncio.sleep(0.05)
        finally:
            self.waiting -= 1
