"""Calls through an egress proxy: the proxy is told names alone, and everything else stays as strict as without it."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import structs

from interlock_contract.bundle import dump_bundle, parse_bundle
from interlock_contract.http_target import HttpTarget, ProxyTarget
from interlock_contract.model_access import ModelAccess
from interlock_contract.verification import PLAN_KEY, VerificationPlan, dump_plan, parse_result
from tests.integration.guard.fake_api_server import NAMESPACE, RESULT, FakeApiServer
from tests.integration.guard.fake_http_server import FakeHttpServer
from tests.integration.guard.fake_provider import REAL_KEYS, a_bundle_with_models, endless_stream
from tests.integration.guard.harness import SOURCE, Client, Guard, a_bundle_over_http
from tests.integration.guard.model_rig import BEARER, CHAT, Rig, a_model_rig, chat, reason_of
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.certificates import Authority, an_authority
from tests.support.connect_proxy import ConnectProxy, pass_on
from tests.support.fork_server import fork_server
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port
from tests.support.tinyproxy import find_tinyproxy, write_configuration

HOST = "models.example.com"
"""A name that only the proxy knows."""
CA, PROXY_CA = "ca0", "ca1"
ANSWERED = (200, "hello")


@dataclass
class ProxiedRig:
    """A guard whose provider is behind an egress proxy."""

    rig: Rig
    proxy: ConnectProxy
    authority: Authority
    folder: Path
    revision: int = 0

    async def use(self, host: str = HOST, *, proxy_ca: str | None = None, scheme: str = "http") -> None:
        """Put a bundle into force that leads to this host through the proxy."""
        self.revision += 1
        whole = parse_bundle(a_bundle_with_models(self.rig.provider.port))
        assert whole.models is not None
        proxy = ProxyTarget(f"{scheme}://127.0.0.1:{self.proxy.port}", proxy_ca)
        target = HttpTarget(f"https://{host}/openai/v1", "Public", (), CA, proxy)
        provider = structs.replace(whole.models.providers[0], target=target)
        models = ModelAccess((provider,))
        self.rig.api.set_bundle(dump_bundle(structs.replace(whole, revision=str(self.revision), models=models)))
        await until(self._in_force, "the bundle is in force")

    async def _in_force(self) -> bool:
        await self.rig.post("/openai/v1/files", {})
        records = [one for one in self.rig.guard.records() if one["revision"] == str(self.revision)]
        return bool(records)

    async def call(self) -> tuple[int, str]:
        status, answer = await self.rig.post(CHAT, chat())
        return status, answer["choices"][0]["message"]["content"] if status == 200 else answer["error"]["message"]


@pytest.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[ProxiedRig]:
    authority = an_authority()
    async with a_model_rig(tmp_path) as rig:
        await rig.provider.stop()
        await rig.provider.start(authority.server_context(tmp_path, HOST, "other.example.com", socket.gethostname()))
        (rig.keys / CA).write_bytes(authority.pem)
        proxy = ConnectProxy(free_port(), {HOST: rig.provider.port})
        await proxy.start()
        yield ProxiedRig(rig, proxy, authority, tmp_path)
        await proxy.stop()


@requirement("proxy.used")
async def test_a_call_goes_through_the_proxy_which_sees_the_name_and_nothing_else(proxied: ProxiedRig) -> None:
    await proxied.use()
    assert await proxied.call() == ANSWERED
    (seen,) = proxied.rig.provider.seen
    assert (seen.path, seen.headers["Host"]) == (CHAT, HOST)
    assert seen.headers["Authorization"] == f"Bearer {REAL_KEYS['openai']}"
    (head,) = proxied.proxy.heads
    assert head.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n")
    names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line}
    assert names <= {"host", "user-agent", "accept", "accept-encoding", "proxy-connection"}
    assert await proxied.call() == ANSWERED
    assert len(proxied.proxy.heads) == 1  # the tunnel is kept


@requirement("proxy.used")
async def test_a_proxy_with_tls_is_checked_with_its_own_authorities(proxied: ProxiedRig) -> None:
    of_proxy = an_authority()
    await proxied.proxy.stop()
    proxied.proxy.tls = of_proxy.server_context(proxied.folder, "127.0.0.1")
    await proxied.proxy.start()
    (proxied.rig.keys / PROXY_CA).write_bytes(of_proxy.pem)
    await proxied.use(proxy_ca=PROXY_CA, scheme="https")
    assert await proxied.call() == ANSWERED
    proxied.rig.provider.seen.clear()
    (proxied.rig.keys / PROXY_CA).write_bytes(proxied.authority.pem)  # that of the provider signs no proxy
    await proxied.use(proxy_ca=PROXY_CA, scheme="https")
    proxied.rig.guard.more = {}
    await restart(proxied)
    status, said = await proxied.call()
    assert (status, "the certificate of the egress proxy is not trusted" in said) == (502, True), said
    assert proxied.rig.provider.seen == []


async def restart(proxied: ProxiedRig) -> None:
    """Start the guard again: it has no connection then."""
    await proxied.rig.restart()


@requirement("proxy.checked")
async def test_the_servers_own_certificate_is_checked_inside_of_the_tunnel(proxied: ProxiedRig) -> None:
    (proxied.rig.keys / CA).write_bytes(an_authority().pem)
    await proxied.use()
    status, said = await proxied.call()
    assert (status, "its certificate is not trusted" in said) == (502, True), said
    (proxied.rig.keys / CA).write_bytes(proxied.authority.pem)
    proxied.proxy.names["elsewhere.example.com"] = proxied.rig.provider.port
    await proxied.use("elsewhere.example.com")  # the certificate has another name
    assert (await proxied.call())[0] == 502
    assert proxied.rig.provider.seen == []


@requirement("proxy.checked")
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "169.254.169.254", "10.0.0.1", "100.100.100.200"),
        *("localhost", "a.localhost", "1.2.3.4.5", "models.1"),
    ],
)
async def test_an_address_is_checked_before_the_proxy_is_told(proxied: ProxiedRig, host: str) -> None:
    await proxied.rig.guard.stop()
    address = local_address()
    proxied.rig.guard.more = {"INTERLOCK_DIALABLE": address}
    await proxied.rig.guard.start()
    proxied.proxy.names[host] = proxied.rig.provider.port
    await proxied.use(host)
    status, said = await proxied.call()
    assert (status, "may not be dialled" in said) == (502, True), said
    assert proxied.proxy.heads == []
    assert f"{host} may not be reached through a proxy" in proxied.rig.guard.log()


def local_address() -> str:
    """Return an address that is exempt and that no test uses."""
    return "127.9.9.9"


@requirement("proxy.checked")
async def test_a_proxy_at_an_address_that_may_not_be_dialled_is_not_dialled(proxied: ProxiedRig) -> None:
    await proxied.rig.guard.stop()
    proxied.rig.guard.may_dial_loopback = False
    await proxied.rig.guard.start()
    await proxied.use()
    status, said = await proxied.call()
    assert (status, "that of the egress proxy, may not be dialled" in said) == (502, True), said
    assert "127.0.0.1 may not be dialled: it is loopback" in proxied.rig.guard.log()
    assert proxied.proxy.heads == []


@requirement("proxy.used")
@pytest.mark.parametrize(("refusal", "may_retry"), [("403 Forbidden", False), ("503 Busy", True), ("407 No", False)])
async def test_a_proxy_that_refuses_is_named(proxied: ProxiedRig, refusal: str, may_retry: bool) -> None:  # noqa: FBT001
    proxied.proxy.refusal = refusal
    await proxied.use()
    async with proxied.rig.http.post(proxied.rig.url(CHAT), json=chat(), headers=BEARER) as response:
        answer = await response.json()
        assert (response.status, reason_of(answer)) == (502, "ServerUnavailable")
        assert f"the egress proxy answered with HTTP {refusal[:3]}; nothing was sent" in answer["error"]["message"]
        assert ("x-should-retry" in response.headers) is not may_retry
    assert refusal[4:] in proxied.rig.guard.log()


@requirement("proxy.used")
async def test_a_proxy_that_is_down_is_named_and_nothing_goes_past_it(proxied: ProxiedRig) -> None:
    await proxied.use()
    await proxied.proxy.stop()
    status, said = await proxied.call()
    assert (status, "the egress proxy does not answer" in said) == (502, True), said
    assert proxied.rig.provider.seen == []
    await proxied.proxy.start()
    assert await proxied.call() == ANSWERED


@requirement("proxy.used")
async def test_a_proxy_that_answers_without_end_costs_little_and_is_given_up(proxied: ProxiedRig) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
                await writer.drain()
        except OSError:
            writer.close()

    await proxied.proxy.stop()
    async with await asyncio.start_server(flood, "127.0.0.1", proxied.proxy.port):
        await proxied.use()
        assert (await proxied.call())[0] == 502


@asynccontextmanager
async def a_proxy_that_says(proxied: ProxiedRig, said: bytes | None, *, is_open: bool) -> AsyncIterator[None]:
    """Put a proxy in the place of the other, which answers each CONNECT with these bytes.

    Args:
        proxied: The rig.
        said: The answer; None for none at all.
        is_open: Whether a tunnel follows.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if said is None:
                await reader.read()
            writer.write(said or b"")
            if is_open:
                there, back = await asyncio.open_connection("127.0.0.1", proxied.rig.provider.port)
                await asyncio.gather(pass_on(reader, back), pass_on(there, writer))
        writer.close()

    await proxied.proxy.stop()
    async with await asyncio.start_server(serve, "127.0.0.1", proxied.proxy.port):
        await proxied.use()
        yield


@requirement("proxy.used")
@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nVia: 1.1 squid\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\nProxy-Agent: tinyproxy/1.11\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.0 200 OK\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
async def test_a_tunnel_is_one_however_the_proxy_says_so(proxied: ProxiedRig, said: bytes) -> None:
    async with a_proxy_that_says(proxied, said, is_open=True):
        assert await proxied.call() == ANSWERED


PAGE = b"Content-Type: text/html\r\n\r\n<html>" + b"x" * 200_000


@requirement("proxy.used")
@pytest.mark.parametrize(
    ("said", "expected", "may_retry"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n" + PAGE, "the egress proxy answered with HTTP 403", False),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n" + PAGE, "the egress proxy answered with HTTP 407", False),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n", "the egress proxy answered with HTTP 302", False),
        (b"HTTP/1.1 502 Bad Gateway\r\n" + PAGE, "the egress proxy answered with HTTP 502", True),
        (b"", "the egress proxy does not answer", True),
        (b"HTTP/1.1 200 O", "the egress proxy does not answer", True),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the egress proxy does not answer", True),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", "the egress proxy does not answer", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "cannot be reached", True),
        (None, "the egress proxy made no connection within 10 s", True),
    ],
    ids=["403", "407", "302", "502", "ends", "half an answer", "no HTTP", "large", "a page as the tunnel", "silent"],
)
async def test_a_proxy_without_a_tunnel_is_named_and_nothing_was_sent(
    proxied: ProxiedRig,
    said: bytes | None,
    expected: str,
    may_retry: bool,  # noqa: FBT001 - a row of the table
) -> None:
    async with (
        a_proxy_that_says(proxied, said, is_open=False),
        proxied.rig.http.post(proxied.rig.url(CHAT), json=chat(), headers=BEARER) as response,
    ):
        answer = await response.json()
        assert (response.status, reason_of(answer)) == (502, "ServerUnavailable")
        assert expected in answer["error"]["message"]
        assert "nothing was sent to it" in answer["error"]["message"]
        assert ("x-should-retry" in response.headers) is not may_retry
    assert proxied.rig.provider.seen == []


@requirement("proxy.used")
@requirement("models.kill")
async def test_a_kill_cuts_a_stream_through_the_proxy(proxied: ProxiedRig) -> None:
    proxied.rig.provider.answer = endless_stream
    await proxied.use()
    body = chat(stream=True)
    async with proxied.rig.http.post(proxied.rig.url(CHAT), json=body, headers=BEARER) as response:
        assert await response.content.readany() == b"data: 1\n\n"
        assert proxied.proxy.tunnels == 1
        proxied.rig.api.kill("data leak")
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(response.content.read(), 5)
    await until(lambda: proxied.proxy.tunnels == 0, "the tunnel is closed")


@requirement("proxy.used")
async def test_tinyproxy_is_such_a_proxy(proxied: ProxiedRig, tmp_path: Path) -> None:
    program, host = await asyncio.to_thread(find_tinyproxy, tmp_path), socket.gethostname()
    if program is None or "localhost" in host:
        pytest.skip("tinyproxy is not installed, and its package cannot be had")
    await proxied.proxy.stop()
    port = proxied.rig.provider.port
    configuration = write_configuration(tmp_path, proxied.proxy.port, port)
    running = await asyncio.create_subprocess_exec(
        *(program, "-d", "-c", configuration),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=end_with_parent,
    )
    try:
        await proxied.use(f"{host}:{port}")

        async def is_answered() -> bool:
            return await proxied.call() == ANSWERED

        await until(is_answered, lambda: f"the call is answered: {proxied.rig.guard.log()[-500:]}")
    finally:
        running.kill()
        await running.wait()
    assert f"CONNECT {host}:{port} HTTP/1.1" in (tmp_path / "log").read_text()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[FakeHttpServer, ConnectProxy, HttpTarget, bytes]]:
    """Return an MCP server behind a proxy."""
    authority, mcp = an_authority(), FakeHttpServer(free_port(), "session-based")
    await mcp.start(authority.server_context(tmp_path, "mcp.example.com"))
    proxy = ConnectProxy(free_port(), {"mcp.example.com": mcp.port})
    await proxy.start()
    way = ProxyTarget(f"http://127.0.0.1:{proxy.port}")
    yield mcp, proxy, HttpTarget("https://mcp.example.com/mcp", "Public", (), "ca", way), authority.pem
    await proxy.stop()
    await mcp.stop()


@requirement("proxy.used")
async def test_a_guard_reaches_an_mcp_server_through_the_proxy(api: FakeApiServer, guard: Guard, server: Any) -> None:
    mcp, proxy, target, pem = server
    (guard.secrets / "ca").write_bytes(pem)
    api.set_bundle(a_bundle_over_http(["echo"], target))
    await guard.source_ready()
    async with aiohttp.ClientSession() as session:
        assert (await Client(session, guard.url).call("echo", name="Ada")).reason is None
    assert mcp.executed() == ["echo"]
    assert {head.split(" ")[1] for head in proxy.heads} == {"mcp.example.com:443"}


@requirement("proxy.used")
async def test_the_verifier_reaches_an_mcp_server_through_the_proxy(
    api: FakeApiServer, tmp_path: Path, server: Any
) -> None:
    mcp, proxy, target, pem = server
    (tmp_path / "token").write_text("a-token\n")
    (tmp_path / "secrets" / SOURCE).mkdir(parents=True)
    (tmp_path / "secrets" / SOURCE / "ca").write_bytes(pem)
    (tmp_path / "bundle.json").write_text(a_bundle_over_http(["echo"], target))
    (tmp_path / PLAN_KEY).write_text(dump_plan(VerificationPlan("run-1", SOURCE, ())))
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "INTERLOCK_NAMESPACE": NAMESPACE,
        "INTERLOCK_RESULT": RESULT,
        "INTERLOCK_SOURCE": SOURCE,
        "INTERLOCK_API_SERVER": api.url,
        "INTERLOCK_CREDENTIALS": str(tmp_path),
        "INTERLOCK_PLAN": str(tmp_path),
        "INTERLOCK_PIPES": str(tmp_path / "pipes"),
        "INTERLOCK_SECRETS": str(tmp_path / "secrets"),
        "INTERLOCK_DIALABLE": "127.0.0.1",
    }
    with (tmp_path / "verifier.log").open("wb") as log:
        verifier = fork_server("interlock_guard").start(environment, log.fileno(), log.fileno(), ("verify",))
    async with asyncio.timeout(50):
        assert await verifier.wait() == 0, (tmp_path / "verifier.log").read_text()
    assert "echo" in [tool.name for tool in parse_result(api.result).tools]
    assert mcp.seen
    assert {head.split(" ")[1] for head in proxy.heads} == {"mcp.example.com:443"}
