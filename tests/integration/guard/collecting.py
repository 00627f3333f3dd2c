"""A real collector process, and a stand-in for the API server's reviews: who is who, and who may read."""

import asyncio
import os
import resource
import signal
import sqlite3
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.integration.guard.fake_api_server import AGENT, NAMESPACE
from tests.integration.guard.harness import POD, Guard
from tests.support.bounds import WAIT_SECONDS, until
from tests.support.fork_server import ForkedProcess, fork_server
from tests.support.ports import free_port

GUARD_TOKEN, AUDITOR_TOKEN, STRANGER_TOKEN, OTHER_TOKEN = "guard-token", "auditor-token", "stranger-token", "api-token"
COLLECTOR_TOKEN = "collector-token"  # noqa: S105 - of a stand-in


def user(name: str, **extra: list[str]) -> dict[str, Any]:
    return {"username": name, "uid": "u", "groups": ["system:authenticated"], "extra": extra}


USERS = {
    GUARD_TOKEN: user(
        f"system:serviceaccount:{NAMESPACE}:{AGENT}-0123456789-guard",
        **{"authentication.kubernetes.io/pod-name": [POD]},
    ),
    AUDITOR_TOKEN: user("auditor@example.com"),
    STRANGER_TOKEN: user("stranger@example.com"),
    OTHER_TOKEN: user("made for the API server"),
}


class Reviews:
    """Answers TokenReview and SubjectAccessReview, for the collector alone."""

    def __init__(self) -> None:
        self.port = free_port()
        self.is_there = True
        self.token_reviews = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._token)
        app.router.add_post("/apis/authorization.k8s.io/v1/subjectaccessreviews", self._access)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _token(self, http: web.Request) -> web.Response:
        spec = (await http.json())["spec"]
        self.token_reviews += 1
        found = USERS.get(spec["token"])
        status: dict[str, Any] = {"authenticated": False}
        if found is not None:
            audiences = [] if spec["token"] == OTHER_TOKEN else spec["audiences"]
            status = {"authenticated": True, "user": found, "audiences": audiences}
        return self._answer(http, status)

    async def _access(self, http: web.Request) -> web.Response:
        spec = (await http.json())["spec"]
        wanted = {"group": "interlock.dev", "resource": "auditrecords", "verb": "get", "namespace": NAMESPACE}
        is_auditor = spec["user"] == "auditor@example.com" and spec["groups"] == ["system:authenticated"]
        return self._answer(http, {"allowed": is_auditor and spec["resourceAttributes"] == wanted})

    def _answer(self, http: web.Request, status: dict[str, Any]) -> web.Response:
        if not self.is_there:
            return web.Response(status=500)
        if http.headers.get("Authorization") != f"Bearer {COLLECTOR_TOKEN}":
            return web.Response(status=401)
        return web.json_response({"status": status}, status=201)


@dataclass
class Collector:
    """One collector process after the other on one database."""

    reviews: Reviews
    folder: Path
    more: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    telemetry_port: int = field(default_factory=free_port)
    process: ForkedProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.folder / "records.sqlite"

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "token").write_text(COLLECTOR_TOKEN)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "INTERLOCK_SQLITE": str(self.database),
            "INTERLOCK_PORT": str(self.port),
            "INTERLOCK_TELEMETRY_PORT": str(self.telemetry_port),
            "INTERLOCK_API_SERVER": self.reviews.url,
            "INTERLOCK_CREDENTIALS": str(self.folder),
            **self.more,
        }
        # Through a pipe, and not into a file, so that a test can bound the files and nothing but the database notices.
        ours, theirs = os.pipe()
        self.process = fork_server("interlock_audit").start(environment, theirs, 2)
        os.close(theirs)
        self._reading = asyncio.create_task(self._read_log(ours))
        await until(lambda: self.probe("/healthz"), "the collector answers")

    async def _read_log(self, pipe: int) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb")
        )
        with (self.folder / "log").open("ab") as log:
            while line := await reader.readline():
                log.write(line)
                log.flush()

    async def stop(self, number: int = signal.SIGKILL) -> int:
        """End it, if it runs."""
        if self.process is None:
            return 0
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(WAIT_SECONDS):
            code = await self.process.wait()
            await self._reading
        self.process = None
        return code

    def log(self) -> str:
        return (self.folder / "log").read_text()

    async def says(self, words: str) -> None:
        """Wait until its log, which comes through a pipe, has the words."""
        await until(lambda: words in self.log(), f"the collector says {words!r}")

    async def probe(self, path: str) -> bool:
        try:
            return "ok" in await self.telemetry(path)
        except aiohttp.ClientError:
            return False

    async def telemetry(self, path: str = "/metrics") -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.telemetry_port}{path}") as response,
        ):
            return await response.text()

    async def get(self, path: str, token: str = AUDITOR_TOKEN, **query: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}{path}", params=query, headers=headers) as response,
        ):
            return response.status, await response.json()

    async def post(self, lines: list[bytes], token: str = GUARD_TOKEN, **query: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        body = b"".join(line + b"\n" for line in lines)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/v1/records", params=query, data=body, headers=headers) as response,
        ):
            return response.status, await response.json()

    def limit_files(self, size: int) -> None:
        """Let no file grow beyond a size: a write fails then as it does on a full disk, with another word."""
        assert self.process is not None
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def lines(self) -> list[str]:
        """Every line in the database, in the order of its chain."""
        connection = sqlite3.connect(self.database)
        try:
            return [row[0] for row in connection.execute("SELECT line FROM records ORDER BY guard, seq")]
        finally:
            connection.close()


def collect_with(guard: Guard, collector: Collector, **more: str) -> None:
    """Have the guard bring its records there from its next start on."""
    token = guard.folder / "records-token"
    token.write_text(GUARD_TOKEN)
    guard.more = {"INTERLOCK_AUDIT_URL": collector.url, "INTERLOCK_AUDIT_TOKEN": str(token), **more}
