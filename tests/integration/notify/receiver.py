"""A real receiver of webhooks: an HTTPS server on loopback that records what is posted, and answers as a test says."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.certificates import Authority
from tests.support.ports import free_port

KEY = b"0123456789abcdef0123456789abcdef"
HOST = "127.0.0.1"

Answer = Callable[[], web.StreamResponse]


@dataclass
class Post:
    """One notification that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_signed_with(self, key: bytes) -> bool:
        """Verify as a receiver does."""
        content = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}"
        return expected in self.headers.get("webhook-signature", "").split(" ")


@dataclass
class Receiver:
    """The server.

    Attributes:
        port: Its port, which it keeps when it is stopped and started.
        posts: What arrived.
        answers: The answers to the next posts; then 200.
        answers_at_all: While it is not set, posts are taken and not answered.
    """

    authority: Authority
    folder: Path
    port: int = field(default_factory=free_port)
    posts: list[Post] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    answers_at_all: asyncio.Event = field(default_factory=asyncio.Event)
    names: tuple[str, ...] = (HOST, "localhost")
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}/services/T0/B0/secret-part"

    @property
    def ids(self) -> list[str]:
        return [post.id for post in self.posts]

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        context = self.authority.server_context(self.folder, *self.names)
        await web.TCPSite(self._runner, HOST, self.port, ssl_context=context, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _take(self, http: web.Request) -> web.StreamResponse:
        body = await http.read()
        headers = {name.lower(): value for name, value in http.headers.items()}
        self.posts.append(Post(http.path_qs, headers, body))
        await self.answers_at_all.wait()
        return self.answers.pop(0)() if self.answers else web.Response(text="ok")


def answering(status: int, text: str = "", **headers: str) -> Answer:
    """Return an answer with headers, whose names have `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: web.Response(status=status, text=text, headers=named)


@asynccontextmanager
async def receiving(authority: Authority, folder: Path, **more: Any) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    found = Receiver(authority, folder, **more)
    found.answers_at_all.set()
    await found.start()
    try:
        yield found
    finally:
        found.answers_at_all.set()
        await found.stop()
