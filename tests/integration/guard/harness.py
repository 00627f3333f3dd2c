"""A real guard process, real stdio servers on real named pipes, and what a test needs to provoke and to see."""

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from msgspec.structs import replace

from interlock_contract.bundle import (
    AgentIdentity,
    Bundle,
    BundleLimits,
    BundleSource,
    BundleTool,
    BundleToolScope,
    Grant,
    Pin,
    dump_bundle,
    parse_bundle,
)
from interlock_contract.http_target import HttpTarget
from tests.integration.guard.fake_api_server import AGENT, BUNDLE, NAMESPACE, UID, FakeApiServer
from tests.support.bounds import WAIT_SECONDS, until
from tests.support.fork_server import ForkedProcess, fork_server
from tests.support.keys import AGENT_KEY, AGENT_KEY_DIGEST
from tests.support.offspring import end_with_parent
from tests.support.pins import definition_of
from tests.support.ports import free_port

SOURCE = "crm"
MCP_PATH = f"/{AGENT_KEY}/mcp/{SOURCE}"
POD = "support-triage-0123456789-abcde"
SCRIPTED = Path(__file__).parent / "programs" / "scripted_server.py"
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def scripted_definition(name: str) -> str:
    """Return the digest of a tool of our own servers, on pipes or over HTTP."""
    if name == "hinted":
        return definition_of({"name": name, "annotations": {"readOnlyHint": False, "destructiveHint": True}})
    return definition_of({"name": name, "inputSchema": {"type": "object"}})


def a_bundle(
    tools: Sequence[str],
    *,
    read_only: Sequence[str] = (),
    writable: Sequence[str] = (),
    uid: str = UID,
    limits: BundleLimits | None = None,
    protocol: str = "",
) -> str:
    """Return a bundle in which the tools are mapped and granted.

    Those in `read_only` are deletes without a grant, those in `writable` are writes with one.
    """
    mapped = [BundleTool(name, "read", "contacts", (BundleToolScope("region", "/region"),)) for name in tools]
    mapped += [BundleTool(name, "delete", "contacts", ()) for name in read_only]
    mapped += [BundleTool(name, "write", "contacts", ()) for name in writable]
    grants = (
        Grant("Binding", "mcpbinding/crm-sandbox", ("*",), ("contacts",), ()),
        Grant("Matrix", "agentpolicy/support/dataAccess[0]", ("contacts",), ("contacts",), ()),
    )
    pins = tuple(Pin(name, scripted_definition(name)) for name in (*tools, *read_only, *writable))
    source = BundleSource(
        SOURCE,
        "crm-sandbox",
        "stdio",
        tuple(mapped),
        grants,
        limits=limits or BundleLimits(),
        pins=pins,
        protocol=protocol,
    )
    identity = AgentIdentity(AGENT, NAMESPACE, uid)
    return dump_bundle(
        Bundle(4, identity, "0123456789", "staging", "staging", (), (source,), agent_key_digest=AGENT_KEY_DIGEST)
    )


def a_bundle_over_http(tools: Sequence[str], target: HttpTarget, *, protocol: str = "") -> str:
    """Return the same bundle with its source reached over HTTP."""
    bundle = parse_bundle(a_bundle(tools, protocol=protocol))
    source = replace(bundle.sources[0], transport="http", http=target)
    return dump_bundle(replace(bundle, sources=(source,)))


@dataclass
class StdioServer:
    """A stdio server as in a pod: a launcher opens the pipes and becomes the server.

    Attributes:
        pipes: The folder of its pipes.
        command: Program and arguments.
        launcher: The launcher of a pod. If None, a shell does the same, and nothing has to be compiled.
        process: The process, once it is started.
    """

    pipes: Path
    command: list[str]
    launcher: Path | None = None
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        script = f'exec "$0" "$@" <{self.pipes}/in >{self.pipes}/out'
        start = ("sh", "-c", script) if self.launcher is None else (str(self.launcher), str(self.pipes))
        self.process = await asyncio.create_subprocess_exec(
            *start, *self.command, stderr=asyncio.subprocess.DEVNULL, preexec_fn=end_with_parent
        )

    async def kill(self) -> None:
        """End it with SIGKILL, if it has not ended itself."""
        if self.process is not None:
            if self.process.returncode is None:
                self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    async def wait(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.process.wait()


def whole_lines(file: Path) -> list[str]:
    """Return the lines of a file that another process writes, without a last one that is half written."""
    written, _, _ = file.read_text().rpartition("\n") if file.exists() else ("", "", "")
    return [line for line in written.split("\n") if line]


class HasUrl(Protocol):
    """An API server, as far as a guard's settings go."""

    @property
    def url(self) -> str: ...


@dataclass
class Guard:
    """One guard process and its surroundings."""

    api: HasUrl
    folder: Path
    lease_seconds: float = 30.0
    port: int = field(default_factory=free_port)
    observe_port: int = field(default_factory=free_port)
    task_port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | ForkedProcess | None = None
    pod_uid: str = "0b9f6c1e-1c5e-4c53-9a0e-000000000001"
    may_dial_loopback: bool = True
    is_forked: bool = True
    """Whether it is a copy of one that has imported all it needs, or started from nothing, as in a pod."""
    more: dict[str, str] = field(default_factory=dict)
    output: int | None = None
    """A descriptor for its standard output, where that is not the file of its records."""

    @property
    def secrets(self) -> Path:
        """The files of the source's server: those of its headers by number, and its authority's."""
        found = self.folder / "secrets" / SOURCE
        found.mkdir(parents=True, exist_ok=True)
        return found

    @property
    def pipes(self) -> Path:
        return self.folder / "pipes"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def token(self) -> Path:
        return self.folder / "credentials" / "token"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{MCP_PATH}"

    @property
    def task_url(self) -> str:
        return f"http://127.0.0.1:{self.task_port}"

    async def start(self) -> None:
        self.token.parent.mkdir(exist_ok=True)
        if not self.token.exists():
            self.token.write_text("first-token\n")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "INTERLOCK_AGENT": AGENT,
            "INTERLOCK_NAMESPACE": NAMESPACE,
            "INTERLOCK_POD": POD,
            "INTERLOCK_POD_UID": self.pod_uid,
            "INTERLOCK_BUNDLE": BUNDLE,
            "INTERLOCK_API_SERVER": self.api.url,
            "INTERLOCK_CREDENTIALS": str(self.token.parent),
            "INTERLOCK_PIPES": str(self.pipes),
            "INTERLOCK_SECRETS": str(self.folder / "secrets"),
            "INTERLOCK_DIALABLE": "127.0.0.1 ::1" if self.may_dial_loopback else "",
            "INTERLOCK_OWN_POD_EXEMPT": "127.0.0.1",
            "INTERLOCK_MCP_PORT": str(self.port),
            "INTERLOCK_OBSERVE_PORT": str(self.observe_port),
            "INTERLOCK_TASK_PORT": str(self.task_port),
            "INTERLOCK_LEASE_SECONDS": str(self.lease_seconds),
            "INTERLOCK_SPOOL": str(self.spool),
            **self.more,
        }
        with (self.folder / "records").open("ab") as records, (self.folder / "log").open("ab") as log:
            output = records.fileno() if self.output is None else self.output
            if self.is_forked:
                self.process = fork_server("interlock_guard").start(environment, output, log.fileno())
            else:
                self.process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "interlock_guard"),
                    env=environment,
                    stdout=output,
                    stderr=log,
                    preexec_fn=end_with_parent,
                )
        await until(lambda: self.probe("/healthz"), "the guard answers")

    async def stop(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.process.wait()

    async def probe(self, path: str) -> bool:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.observe_port}{path}") as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def metrics(self) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.observe_port}/metrics") as response,
        ):
            return await response.text()

    async def started(self) -> None:
        """Wait for what the kubelet waits for before it starts the servers."""
        await until(lambda: self.probe("/startupz"), "the guard has started")

    async def source_ready(self) -> None:
        await until(lambda: self.probe(f"/ready/{SOURCE}"), "the source is ready")

    async def source_gone(self) -> None:
        async def gone() -> bool:
            return not await self.probe(f"/ready/{SOURCE}")

        await until(gone, "the source is not ready any more")

    def lines(self) -> list[dict[str, Any]]:
        """Every line of the chain that came on standard output."""
        return [json.loads(line) for line in whole_lines(self.folder / "records")]

    def tasks(self) -> list[dict[str, Any]]:
        """What it says of tasks that have ended."""
        return [line for line in self.lines() if line["kind"] == "task"]

    def records(self) -> list[dict[str, Any]]:
        """The decisions among them."""
        return [line for line in self.lines() if line["kind"] == "decision"]

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def peak_memory(self) -> int:
        """Return the most memory that the process had at once, in MiB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024


@dataclass
class Answer:
    """What came back for one POST."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def reason(self) -> str | None:
        """The stable reason of a refusal, in whichever part of the answer it is."""
        if not isinstance(self.body, dict):
            return None
        if "error" in self.body:
            found: str | None = (self.body["error"].get("data") or {}).get("reason")
            return found
        denial: dict[str, str] = (self.body["result"].get("_meta") or {}).get("interlock.dev/denial", {})
        return denial.get("reason")

    @property
    def text(self) -> str:
        """The text of a tool's result."""
        found: str = self.body["result"]["content"][0]["text"]
        return found


class Client:
    """A plain HTTP client that posts exactly what a test says."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self._next_id = 0

    async def post(self, body: bytes | str, headers: dict[str, str] | None = None, url: str = "") -> Answer:
        data = io.BytesIO(body.encode() if isinstance(body, str) else body)
        async with self.session.post(url or self.url, data=data, headers={**HEADERS, **(headers or {})}) as response:
            raw = await response.read()
            answer = json.loads(raw) if response.content_type == "application/json" and raw else raw
            return Answer(response.status, answer, dict(response.headers))

    async def request(
        self, method: str, params: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        self._next_id += 1
        message = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params or {}}
        return await self.post(json.dumps(message), headers)

    async def call(self, tool: str, **arguments: Any) -> Answer:
        return await self.request("tools/call", {"name": tool, "arguments": arguments})


@dataclass
class Bench:
    """Guard, API server, scripted server and a client, all running."""

    api: FakeApiServer
    guard: Guard
    server: StdioServer
    client: Client
    executed_file: Path

    async def restart(self) -> None:
        """Start guard and server again, whatever has ended them."""
        await self.guard.stop()
        await self.server.kill()
        await self.guard.start()
        await self.guard.started()
        await self.server.start()
        await self.guard.source_ready()

    def executed(self) -> list[dict[str, Any]]:
        """Every call that any server has executed, in order, and every cancellation that one received."""
        return [json.loads(line) for line in whole_lines(self.executed_file)]

    def executed_names(self) -> list[str]:
        return [entry["name"] for entry in self.executed() if "name" in entry]
