"""The guard's HTTP towards servers, in this process, on real sockets: what it dials, follows, trusts and takes."""

import asyncio
import gc
import gzip
import json
import socket
import ssl
import tracemalloc
from asyncio import selector_events
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from interlock_contract.addresses import Network
from interlock_contract.http_target import HttpTarget, TargetHeader
from interlock_guard.upstream.credentials import Credentials
from interlock_guard.upstream.http_client import HttpClient, UpstreamError
from interlock_guard.wire.streams import EventParser
from interlock_http.dialer import AddressRefused, Dialer
from tests.requirements import requirement
from tests.support.bounds import until_count
from tests.support.certificates import Authority, an_authority
from tests.support.ssrf_corpus import ANSWERS, LISTENER_NAMES, LOCATIONS, REDIRECTS

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
LOCAL = "127.0.0.1"


@dataclass
class Listener:
    """A server that records everything that reaches it and answers with what a test says: `answers`, then `answer`."""

    answer: bytes = OK
    answers: list[bytes] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    port_v6: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0
                )
                self.requests.append(head + await reader.readexactly(length))
                writer.write(self.answers.pop(0) if self.answers else self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """A listener on every address of loopback, of both families where there are two."""
    found = Listener()
    server = await asyncio.start_server(found.serve, "0.0.0.0", 0)  # noqa: S104 - 127.0.0.2 and 0.0.0.0 lead here, too
    found.port = server.sockets[0].getsockname()[1]
    servers = [server]
    if socket.has_ipv6:
        with suppress(OSError):  # the machine may have none all the same
            servers.append(await asyncio.start_server(found.serve, "::1", found.port))
    yield found
    for one in servers:
        one.close()


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that a connection is tried to, whether a server listens there or not."""
    seen: list[Any] = []
    connect = selector_events.BaseSelectorEventLoop.sock_connect

    async def sock_connect(self: Any, sock: socket.socket, address: Any) -> None:
        seen.append(address)
        await connect(self, sock, address)

    monkeypatch.setattr(selector_events.BaseSelectorEventLoop, "sock_connect", sock_connect)
    return seen


class FakeNames(AbstractResolver):
    """A name server that gives one answer after another, the last for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, _: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in answer
        ]

    async def close(self) -> None:
        pass


Links = Callable[..., HttpClient]


@pytest.fixture
async def links(tmp_path: Path) -> AsyncIterator[Links]:
    made: list[HttpClient] = []

    def make(
        url: str, *headers: TargetHeader, network: Network = "Private", ca_file: str | None = None, **more: Any
    ) -> HttpClient:
        target = HttpTarget(url, network, headers, ca_file)
        made.append(HttpClient(url, Credentials(target, tmp_path), Dialer(network, **more)))
        return made[-1]

    yield make
    for link in made:
        await link.close()


@dataclass(frozen=True)
class Reach:
    """Who could be reached, how it is tried, and what was dialled."""

    listener: Listener
    links: Links
    dialled: list[Any]


@pytest.fixture
def reach(listener: Listener, links: Links, dialled: list[Any]) -> Reach:
    return Reach(listener, links, dialled)


async def post(link: HttpClient) -> bytes:
    async with asyncio.timeout(20), link.send("POST", b'{"a": 1}', {"Mcp-Session-Id": "s"}) as answer:
        return await answer.read(16 * 1024 * 1024)


async def failure(link: HttpClient) -> UpstreamError:
    with pytest.raises(UpstreamError) as failed:
        await post(link)
    return failed.value


async def test_the_listener_can_be_reached_at_all(listener: Listener, links: Links) -> None:
    assert await post(links(f"http://localhost:{listener.port}/", exempt=["127.0.0.1", "::1"])) == b"{}"
    assert listener.requests[0].endswith(b'{"a": 1}')


@pytest.mark.parametrize(("scheme", "network"), [("http", "Private"), ("https", "Private"), ("https", "Public")])
@pytest.mark.parametrize("name", LISTENER_NAMES)
@requirement("http.ssrf")
async def test_no_notation_of_loopback_is_dialled(reach: Reach, name: str, scheme: str, network: Network) -> None:
    failed = await failure(reach.links(f"{scheme}://{name}:{reach.listener.port}/", network=network))
    assert (failed.is_sent, reach.dialled, reach.listener.connections) == (False, [], 0)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@requirement("http.ssrf")
async def test_one_forbidden_address_spoils_the_whole_answer(
    listener: Listener, links: Links, dialled: list[Any], answer: list[str]
) -> None:
    link = links(f"http://crm.example.com:{listener.port}/", network="Public", resolver=FakeNames(answer))
    failed = await failure(link)
    assert (failed.is_sent, dialled, listener.connections) == (False, [], 0)
    assert "its address is none that its binding allows" in str(failed)
    assert not any(address in str(failed) for address in answer), "the agent learns no address"


@requirement("http.ssrf")
async def test_a_name_with_changing_addresses_is_resolved_once_per_connection_and_checked_each_time(
    listener: Listener, links: Links, dialled: list[Any]
) -> None:
    listener.answer = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    names = FakeNames(["127.0.0.3"], ["127.0.0.4"], ["127.0.0.3", "127.0.0.4"])
    link = links(f"http://crm.example.com:{listener.port}/", resolver=names, exempt=["127.0.0.3"])

    assert await post(link) == b"{}"
    for _ in range(2):
        await failure(link)

    assert (names.asked, dialled, listener.connections) == (3, [("127.0.0.3", listener.port)], 1)


@requirement("http.ssrf")
async def test_what_is_dialled_is_checked_once_more_whatever_resolved_it(listener: Listener) -> None:
    connector = Dialer("Private").build_connector()
    make_socket: Any = connector._socket_factory  # noqa: SLF001 - the last check, without the one before it
    for address in ("127.0.0.1", "169.254.169.254"):
        with pytest.raises(AddressRefused):
            make_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, listener.port)))
    await connector.close()


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("status", REDIRECTS)
@requirement("http.ssrf")
async def test_no_redirect_is_followed(
    listener: Listener, links: Links, dialled: list[Any], status: int, location: str
) -> None:
    there = location.format(port=listener.port)
    listener.answer = f"HTTP/1.1 {status} X\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode()
    failed = await failure(links(f"http://127.0.0.5:{listener.port}/", exempt=["127.0.0.5"]))
    assert f"answered with a redirect (HTTP {status}), which the guard does not follow" in str(failed)
    assert dialled == [("127.0.0.5", listener.port)]
    assert len(listener.requests) == 1


SLASHES = [
    ("/mcp", "/mcp/", "/mcp/"),
    ("/mcp/", "/mcp", "/mcp"),
    ("/mcp", "mcp/", "/mcp/"),
    ("/mcp?a=1", "/mcp/?a=1", "/mcp/?a=1"),
    ("/mcp", "http://crm.example.com/mcp/", "/mcp/"),
    ("/mcp", "https://crm.example.com:1/mcp/", "/mcp/"),
    ("/mcp", "//CRM.example.com/mcp/", "/mcp/"),
]
"""The binding's path, a redirect to it with or without a slash at its end, and where the guard goes then."""
ELSEWHERE = [
    ("/mcp", "/mcp"),
    ("/mcp", "/"),
    ("/mcp", "/mcp//"),
    ("/mcp", "/mcp/v1/"),
    ("/mcp", "/mcp/%2e%2e/"),
    ("/mcp", "/MCP/"),
    ("/mcp", "/mcp/?a=1"),
    ("/mcp?a=1", "/mcp/"),
    ("/mcp", "http://other.example.com/mcp/"),
    ("/mcp", "http://crm.example.com.evil.example/mcp/"),
    ("/mcp", "http://crm.example.com@127.0.0.1/mcp/"),
    ("/mcp", "http://[/mcp/"),
    ("/mcp", ""),
    ("/", ""),
]


@requirement("http.habits")
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(("path", "location", "expected"), SLASHES)
async def test_a_redirect_to_the_same_path_but_for_a_slash_is_followed_on_the_same_connection(
    listener: Listener, links: Links, dialled: list[Any], *, path: str, location: str, expected: str, status: int
) -> None:
    names = FakeNames(["127.0.0.5"])
    link = links(f"http://crm.example.com:{listener.port}{path}", resolver=names, exempt=["127.0.0.5"])
    redirect = f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    listener.answers = [redirect]
    assert await post(link) == b"{}"
    assert await post(link) == b"{}"
    assert [request.split(b" ")[1].decode() for request in listener.requests] == [path, expected, expected]
    assert dialled == [("127.0.0.5", listener.port)]
    bodies = [request.partition(b"\r\n\r\n")[2] for request in listener.requests]
    assert bodies[0] == bodies[1] != b""


@requirement("http.ssrf")
@pytest.mark.parametrize(
    ("status", "path", "location"),
    [*((307, *pair) for pair in ELSEWHERE), *((status, "/mcp", "/mcp/") for status in (300, 301, 302, 303, 305))],
)
async def test_no_other_redirect_is_followed_on_the_same_host(
    listener: Listener, links: Links, status: int, path: str, location: str
) -> None:
    names = FakeNames(["127.0.0.5"])
    link = links(f"http://crm.example.com:{listener.port}{path}", resolver=names, exempt=["127.0.0.5"])
    listener.answer = f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    assert "which the guard does not follow" in str(await failure(link))
    assert len(listener.requests) == 1


@requirement("http.ssrf")
async def test_a_redirect_back_and_forth_is_followed_once(listener: Listener, links: Links) -> None:
    names = FakeNames(["127.0.0.5"])
    link = links(f"http://crm.example.com:{listener.port}/mcp", resolver=names, exempt=["127.0.0.5"])
    listener.answers = [
        f"HTTP/1.1 307 X\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode() for there in ("/mcp/", "/mcp")
    ]
    assert "which the guard does not follow" in str(await failure(link))
    assert len(listener.requests) == 2


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"])
@requirement("http.ssrf")
async def test_no_proxy_of_the_environment_is_used(
    listener: Listener, links: Links, dialled: list[Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, f"http://127.0.0.1:{listener.port}")
    for scheme in ("http", "https"):
        await failure(links(f"{scheme}://crm.example.com/", resolver=FakeNames(["127.0.0.9"])))
    assert (dialled, listener.connections) == ([], 0)


async def test_an_address_of_the_machine_itself_is_not_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock_http.dialer.refuse_address", lambda *_: None)
    with pytest.raises(AddressRefused, match="this pod's own"):
        Dialer("Private").check("127.0.0.1")


async def test_only_our_headers_and_the_bindings_go_out(listener: Listener, links: Links, tmp_path: Path) -> None:
    (tmp_path / "0").write_text("Bearer first-token\n")
    headers = (TargetHeader("Authorization", None, "0"), TargetHeader("user-agent", "us", None))
    headers += (TargetHeader("accept", "text/html", None), TargetHeader("mcp-session-id", "another", None))
    # By a name: aiohttp's jar takes no cookies from addresses anyway.
    link = links(
        f"http://crm.example.com:{listener.port}/mcp?a=1", *headers, exempt=[LOCAL], resolver=FakeNames([LOCAL])
    )
    listener.answer = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n")
    await post(link)
    (tmp_path / "0").write_text("Bearer second-token")
    await post(link)

    heads = [request.partition(b"\r\n\r\n")[0].decode().split("\r\n") for request in listener.requests]
    assert listener.connections == 1, "a rotated secret is used on the connection that is there"
    for head, token, cookies in zip(heads, ("first", "second"), ([], ["Cookie: a=b"]), strict=True):
        assert head[0] == "POST /mcp?a=1 HTTP/1.1"
        assert sorted(head[1:]) == [
            "Accept-Encoding: identity",
            "Accept: application/json, text/event-stream",
            f"Authorization: Bearer {token}-token",
            "Content-Length: 8",
            "Content-Type: application/json",
            *cookies,
            f"Host: crm.example.com:{listener.port}",
            "Mcp-Session-Id: s",
            "user-agent: us",
        ]


@pytest.mark.parametrize("content", [None, b"", b" \n", b"a\r\nX: y", b"a\x00b", "\u00fc".encode(), b"x" * 8193])
async def test_a_secret_that_is_no_header_value_is_not_sent(
    listener: Listener, links: Links, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "0").write_bytes(content)
    failed = await failure(
        links(f"http://127.0.0.1:{listener.port}/", TargetHeader("Authorization", None, "0"), exempt=[LOCAL])
    )
    assert "its credentials cannot be read; nothing was sent to it" in str(failed)
    assert content is None or content.strip() == b"" or content.decode("latin-1") not in failed.detail
    assert listener.connections == 0


@pytest.mark.parametrize("is_stream", [False, True])
async def test_answers_that_break_off_are_not_kept_until_the_gc_runs(links: Links, *, is_stream: bool) -> None:
    body = b"data: " + b"x" * (8 * 1024 * 1024)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * len(body)))
        writer.write(body)
        await writer.drain()
        writer.close()

    async def read_all() -> None:
        async with link.send("POST", b"{}", {}) as answer:
            if is_stream:
                assert [one async for one in answer.events(EventParser(16 * 1024 * 1024))] == []
            else:
                await answer.read(16 * 1024 * 1024)

    failures = []
    async with await asyncio.start_server(serve, LOCAL, 0) as server:
        link = links(f"http://{LOCAL}:{server.sockets[0].getsockname()[1]}/", exempt=[LOCAL])
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(4):
                with pytest.raises(UpstreamError) as failed:
                    await read_all()
                failures.append(failed)  # with its frames
            assert tracemalloc.get_traced_memory()[0] < len(body)
        finally:
            tracemalloc.stop()
            gc.enable()


async def test_a_cookie_of_the_binding_takes_the_place_of_the_servers(listener: Listener, links: Links) -> None:
    link = links(f"http://127.0.0.1:{listener.port}/", TargetHeader("cookie", "login=1", None), exempt=[LOCAL])
    listener.answer = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: login=2\r\n\r\n")
    for _ in range(2):
        await post(link)
        assert b"\r\ncookie: login=1\r\n" in listener.requests[-1]
        assert b"login=2" not in listener.requests[-1]


async def test_a_secret_is_recognised_in_what_a_server_says(listener: Listener, links: Links, tmp_path: Path) -> None:
    (tmp_path / "0").write_text("Bearer canary-123456\n")
    (tmp_path / "1").write_text("short")
    (tmp_path / "2").write_text('quoted"\\secret')
    headers = tuple(
        TargetHeader(name, None, file) for file, name in enumerate_files("Authorization", "X-Short", "X-Odd")
    )
    link = links(f"http://127.0.0.1:{listener.port}/", *headers, exempt=[LOCAL])
    await post(link)
    assert link.shows_secret(b'{"error": "no such token: canary-123456"}')
    assert link.shows_secret(json.dumps({"error": 'quoted"\\secret'}).encode())
    assert not link.shows_secret(b'{"text": "Bearer of short news"}')


def enumerate_files(*names: str) -> list[tuple[str, str]]:
    return [(str(index), name) for index, name in enumerate(names)]


# TLS


@pytest.fixture(scope="module")
def authority() -> Authority:
    return an_authority()


async def tls_listener(listener: Listener, context: ssl.SSLContext) -> tuple[asyncio.Server, str]:
    server = await asyncio.start_server(listener.serve, LOCAL, 0, ssl=context)
    return server, f"https://localhost:{server.sockets[0].getsockname()[1]}/"


@requirement("http.trust")
async def test_a_server_of_the_own_authority_is_trusted(
    listener: Listener, links: Links, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "ca").write_bytes(authority.pem)
    server, url = await tls_listener(listener, authority.server_context(tmp_path, "localhost"))
    async with server:
        assert await post(links(url, ca_file="ca", exempt=[LOCAL, "::1"])) == b"{}"


Untrusted = dict[str, Callable[[Authority, Path], ssl.SSLContext]]


def _old_tls(authority: Authority, folder: Path) -> ssl.SSLContext:
    context = authority.server_context(folder, "localhost")
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.minimum_version = ssl.TLSVersion.TLSv1
    return context


UNTRUSTED: Untrusted = {
    "another authority": lambda _, folder: an_authority().server_context(folder, "localhost"),
    "another name": lambda authority, folder: authority.server_context(folder, "crm.example.com"),
    "another address": lambda authority, folder: authority.server_context(folder, "10.0.0.1"),
    "expired": lambda authority, folder: authority.server_context(folder, "localhost", age=timedelta(days=400)),
    "TLS 1.1": _old_tls,
}


@pytest.mark.parametrize("make", UNTRUSTED.values(), ids=UNTRUSTED)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@requirement("http.trust")
async def test_a_server_that_cannot_authenticate_its_name_gets_no_request(
    listener: Listener, links: Links, authority: Authority, tmp_path: Path, make: Callable[[Authority, Path], Any]
) -> None:
    (tmp_path / "ca").write_bytes(authority.pem)
    server, url = await tls_listener(listener, make(authority, tmp_path))
    async with server:
        failed = await failure(links(url, ca_file="ca", exempt=[LOCAL, "::1"]))
    assert (failed.is_sent, listener.requests) == (False, [])


@requirement("http.trust")
async def test_the_own_authority_alone_is_trusted_and_without_one_the_usual_ones(
    listener: Listener, links: Links, authority: Authority, tmp_path: Path
) -> None:
    server, url = await tls_listener(listener, authority.server_context(tmp_path, "localhost"))
    async with server:
        failed = await failure(links(url, exempt=[LOCAL, "::1"]))
        assert "its certificate is not trusted" in str(failed)
        for content in (b"", b"no certificate", b"\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n"):
            (tmp_path / "ca").write_bytes(content)
            failed = await failure(links(url, ca_file="ca", exempt=[LOCAL, "::1"]))
            assert "its credentials cannot be read" in str(failed), content
    assert listener.requests == []


@requirement("http.trust")
async def test_a_new_authority_is_trusted_without_a_restart_and_the_old_one_no_longer(
    listener: Listener, links: Links, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "ca").write_bytes(an_authority().pem)
    server, url = await tls_listener(listener, authority.server_context(tmp_path, "localhost"))
    async with server:
        link = links(url, ca_file="ca", exempt=[LOCAL, "::1"])
        await failure(link)
        (tmp_path / "ca").write_bytes(authority.pem)
        assert await post(link) == b"{}"
        (tmp_path / "ca").write_bytes(an_authority().pem)
        await failure(link)


# What is taken


def body(content: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


BOMB = gzip.compress(b" " * 64 * 1024 * 1024)
UNUSABLE = {
    "larger than the bound": (body(b" " * (16 * 1024 * 1024 + 1)), "answered with more than 16777216 bytes"),
    "a gzip bomb": (body(BOMB, "Content-Encoding: gzip"), "answered with a compressed body"),
    "another encoding": (body(b"{}", "Content-Encoding: br"), "answered with a compressed body"),
    "a second encoding": (
        body(b"{}", "Content-Encoding: identity", "Content-Encoding: br"),
        "answered with a compressed body",
    ),
    "another protocol": (b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "answered with HTTP 101"),
    "a status of no class": (body(b"{}").replace(b"200", b"600"), "answered with HTTP 600"),
    "a header too long": (
        body(b"{}", "X-Long: " + "x" * 100_000),
        "answered with a header field of more than 16384 bytes",
    ),
    "headers without end": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "answered with something that is not HTTP"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "answered with something that is not HTTP"),
    "provisional responses without end": (
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000,
        "answered with something that is not HTTP",
    ),
    "two lengths": (body(b"{}", "Content-Length: 40"), "answered with something that is not HTTP"),
}


@pytest.mark.parametrize(("answer", "words"), UNUSABLE.values(), ids=UNUSABLE)
async def test_an_unusable_answer_is_an_error_that_says_so(
    listener: Listener, links: Links, answer: bytes, words: str
) -> None:
    listener.answer = answer
    failed = await failure(links(f"http://127.0.0.1:{listener.port}/", exempt=[LOCAL]))
    assert failed.is_sent
    assert words in str(failed)


@pytest.mark.parametrize("count", [0, 15])
async def test_a_few_provisional_responses_are_no_answer_and_no_error(
    listener: Listener, links: Links, count: int
) -> None:
    listener.answer = b"HTTP/1.1 103 Early Hints\r\n\r\n" * count + OK
    link = links(f"http://127.0.0.1:{listener.port}/", exempt=[LOCAL])
    assert [await post(link) for _ in range(3)] == [b"{}"] * 3


FLOODS = {
    "provisional responses": (b"", b"HTTP/1.1 103 E\r\n\r\n"),
    "more responses": (OK, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_responses_that_nothing_asked_for_are_not_kept(listener: Listener, links: Links, flood: str) -> None:
    answer, more = FLOODS[flood]
    listener.answer = answer + more * (1024 * 1024 // len(more))
    link = links(f"http://127.0.0.1:{listener.port}/", exempt=[LOCAL])
    tracemalloc.start()
    try:
        sent = tracemalloc.get_traced_memory()[0]
        if answer:
            assert await post(link) == b"{}"
        else:
            await failure(link)
        await asyncio.sleep(0)
        assert tracemalloc.get_traced_memory()[1] - sent < 1024 * 1024
    finally:
        tracemalloc.stop()


async def test_a_request_is_sent_once_although_its_connection_breaks(listener: Listener, links: Links) -> None:
    link = links(f"http://127.0.0.1:{listener.port}/", exempt=[LOCAL])
    await post(link)
    listener.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    async with asyncio.timeout(20):
        task = asyncio.create_task(failure(link))
        await until_count(lambda: len(listener.requests), 2, "the request has arrived")
        link.reset()
        failed = await task
    assert "broke the connection off; the call may have been executed or not" in str(failed)
    assert len(listener.requests) == 2
    listener.answer = OK
    assert await post(link) == b"{}", "after a cut the next request makes a connection of its own"


async def test_an_event_beyond_the_bound_breaks_the_stream_off(listener: Listener, links: Links) -> None:
    text = b"data: {}\n\ndata: " + b"x" * 2000 + b"\n\n"
    listener.answer = body(text).replace(b"application/json", b"text/event-stream")
    seen = []
    link = links(f"http://127.0.0.1:{listener.port}/", exempt=[LOCAL])
    with pytest.raises(UpstreamError, match="an event of more than 1000 bytes"):
        async with link.send("GET", None, {}) as answer:
            seen = [event async for event in answer.events(EventParser(1000))]
    assert seen == []
    assert b"Content-Type" not in listener.requests[0]


def test_the_corpus_is_as_large_as_promised() -> None:
    count = len(LISTENER_NAMES) + len(ANSWERS) + len(LOCATIONS) * len(REDIRECTS)
    assert count >= 60, json.dumps(count)
