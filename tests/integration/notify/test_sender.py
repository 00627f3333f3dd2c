"""One attempt to post an alert, on real sockets and with real TLS."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from interlock_contract.http_target import ProxyTarget
from interlock_contract.webhooks import Webhook, WebhookPlan
from interlock_notify import sender
from interlock_notify.sender import FailedAttempt, WebhookSender
from tests.integration.notify.receiver import HOST, KEY, Receiver, answering, receiving
from tests.support.bounds import limit
from tests.support.certificates import Authority, an_authority
from tests.unit.notify.ledgers import an_alert

ALERT = an_alert()
SECONDS = 1_772_460_301

Senders = Callable[..., WebhookSender]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return an_authority()


@pytest.fixture
async def receiver(authority: Authority, tmp_path: Path) -> AsyncIterator[Receiver]:
    async with receiving(authority, tmp_path) as found:
        yield found


@pytest.fixture
def to_receiver(receiver: Receiver, authority: Authority, tmp_path: Path) -> Senders:
    """Build a sender to the receiver, or to another URL, with the files of its Secret."""

    def build(
        url: str | None = None,
        *,
        dialable: tuple[str, ...] = (HOST,),
        proxy: ProxyTarget | None = None,
        is_signed: bool = True,
        **changed: Any,
    ) -> WebhookSender:
        folder = tmp_path / "secrets" / "chat"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "0a").write_text(f"{receiver.url if url is None else url}\n")
        (folder / "0b").write_bytes(b"whsec_" + base64.b64encode(KEY) + b"\n")
        (folder / "0c").write_bytes(authority.pem)
        fields: dict[str, Any] = {
            "name": "chat",
            "url_file": "0a",
            "network": "Public",
            "format": "Slack",
            "key_file": "0b" if is_signed else None,
            "ca_file": "0c",
            **changed,
        }
        plan = WebhookPlan(1, "support", (Webhook(**fields),), proxy)
        return WebhookSender(plan.webhooks[0], plan, tmp_path / "secrets", frozenset(dialable), lambda: SECONDS)

    return build


async def refused(found: WebhookSender) -> FailedAttempt:
    failed = await found.send(ALERT)
    assert failed is not None
    assert "secret-part" not in failed.reason
    return failed


async def test_an_alert_arrives_signed_under_its_key(to_receiver: Senders, receiver: Receiver) -> None:
    assert await to_receiver().send(ALERT) is None

    (post,) = receiver.posts
    assert post.path == "/services/T0/B0/secret-part"
    assert post.id == ALERT.id
    assert post.headers["webhook-timestamp"] == str(SECONDS)
    assert post.headers["content-type"] == "application/json"
    assert post.is_signed_with(KEY)
    assert not post.is_signed_with(b"x" * 32)
    assert post.json.keys() == {"text"}


async def test_each_attempt_has_the_same_key_and_body(to_receiver: Senders, receiver: Receiver) -> None:
    found = to_receiver(format="Standard")
    receiver.answers = [answering(500)]

    await refused(found)
    assert await found.send(ALERT) is None

    first, second = receiver.posts
    assert (first.id, first.body) == (second.id, second.body)


async def test_a_webhook_without_a_signing_key_gets_no_signature(to_receiver: Senders, receiver: Receiver) -> None:
    assert await to_receiver(is_signed=False).send(ALERT) is None

    assert "webhook-signature" not in receiver.posts[0].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int, to_receiver: Senders, receiver: Receiver) -> None:
    receiver.answers = [answering(status, Location=receiver.url.replace("services", "elsewhere"))]

    failed = await refused(to_receiver())

    assert "redirect" in failed.reason
    assert len(receiver.posts) == 1


@pytest.mark.parametrize(
    ("status", "is_away"),
    [(400, False), (403, False), (404, False), (410, False), (408, True), (429, True), (500, True), (503, True)],
)
async def test_an_answer_without_success_is_a_failure(
    *, status: int, is_away: bool, to_receiver: Senders, receiver: Receiver
) -> None:
    receiver.answers = [answering(status, "channel_is_archived")]

    failed = await refused(to_receiver())

    assert failed == FailedAttempt(f"the receiver answered with HTTP {status}: channel_is_archived", is_away)


async def test_what_a_receiver_says_is_repeated_only_if_it_is_one_plain_word(
    to_receiver: Senders, receiver: Receiver
) -> None:
    receiver.answers = [answering(400, f"{receiver.url} is wrong"), answering(400, "x" * 5000)]
    found = to_receiver()

    assert (await refused(found)).reason == (await refused(found)).reason == "the receiver answered with HTTP 400"


async def test_the_pause_that_a_receiver_asks_for_is_passed_on(to_receiver: Senders, receiver: Receiver) -> None:
    receiver.answers = [answering(429, Retry_After="30"), answering(403, Retry_After="7")]
    found = to_receiver()

    assert (await refused(found)).retry_after == 30
    assert await refused(found) == FailedAttempt("the receiver answered with HTTP 403", is_away=True, retry_after=7.0)


async def test_a_receiver_that_does_not_answer_is_given_up_after_a_while(
    to_receiver: Senders, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "ATTEMPT_SECONDS", 0.3)
    receiver.answers_at_all.clear()

    async with limit(20, "the attempt ends"):
        failed = await refused(to_receiver())

    assert failed.reason == "the receiver gave no answer within 0.3 s"


async def test_an_answer_without_end_is_not_read(to_receiver: Senders, authority: Authority, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"400\r\n" + b"x" * 0x400 + b"\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    context = authority.server_context(tmp_path, HOST)
    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    async with limit(20, "the attempt ends"):
        failed = await refused(to_receiver(f"https://{HOST}:{server.sockets[0].getsockname()[1]}/"))
    server.close()

    assert failed.reason == "the receiver answered with HTTP 400"


async def test_a_receiver_that_is_down_got_nothing(to_receiver: Senders, receiver: Receiver) -> None:
    await receiver.stop()

    failed = await refused(to_receiver())

    assert failed.is_away
    assert failed.reason.startswith("the receiver cannot be reached")


@pytest.mark.parametrize("url", ["https://127.0.0.1:{port}/", "https://localhost:{port}/", "https://[::1]:{port}/"])
@pytest.mark.parametrize("network", ["Public", "Private"])
async def test_nothing_is_sent_to_the_own_machine(
    url: str, network: str, to_receiver: Senders, receiver: Receiver
) -> None:
    failed = await refused(to_receiver(url.format(port=receiver.port), dialable=(), network=network))

    assert "nothing was sent" in failed.reason
    assert receiver.posts == []


@pytest.mark.parametrize(
    ("address", "network", "why"),
    [
        ("10.0.0.1", "Public", "it is private"),
        ("192.168.1.1", "Public", "it is private"),
        ("100.64.0.1", "Public", "it is shared by carriers"),
        ("169.254.169.254", "Public", "it is a metadata service"),
        ("169.254.169.254", "Private", "it is a metadata service"),
    ],
)
async def test_an_address_is_dialled_only_in_the_network_of_the_webhook(
    address: str, network: str, why: str, to_receiver: Senders
) -> None:
    failed = await refused(to_receiver(f"https://{address}/", network=network))

    assert f"{address} may not be dialled: {why}; nothing was sent" in failed.reason


async def test_a_certificate_that_is_not_trusted_ends_the_attempt(
    to_receiver: Senders, receiver: Receiver, tmp_path: Path
) -> None:
    found = to_receiver()
    (tmp_path / "secrets" / "chat" / "0c").write_bytes(an_authority().pem)

    assert "certificate is not trusted" in (await refused(found)).reason
    assert receiver.posts == []


async def test_without_own_authorities_those_of_the_image_are_trusted(to_receiver: Senders, receiver: Receiver) -> None:
    assert "certificate is not trusted" in (await refused(to_receiver(ca_file=None))).reason
    assert receiver.posts == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "https://user:password@127.0.0.1:{port}/",
        "https://127.0.0.1:{port}/#part",
        "https://127.0.0.1:{port}/ {port}",
        "ftp://127.0.0.1:{port}/",
        "https://127.0.0.1:{port}/" + "x" * 2048,
        "https://\u00fc:{port}/",
        "",
    ],
)
async def test_a_secret_without_a_plain_https_url_is_refused(
    url: str, to_receiver: Senders, receiver: Receiver
) -> None:
    failed = await refused(to_receiver(url.format(port=receiver.port)))

    assert failed.reason == "the Secret holds no https:// URL without user and fragment; nothing was sent"
    assert receiver.posts == []


@pytest.mark.parametrize("file", ["0a", "0b", "0c"])
async def test_a_file_that_is_missing_is_named_by_its_use(
    file: str, to_receiver: Senders, receiver: Receiver, tmp_path: Path
) -> None:
    found = to_receiver()
    (tmp_path / "secrets" / "chat" / file).unlink()

    assert "cannot be read: the Secret or its key is missing" in (await refused(found)).reason
    assert receiver.posts == []


async def test_an_alert_is_never_sent_unsigned_where_the_key_is_none(
    to_receiver: Senders, receiver: Receiver, tmp_path: Path
) -> None:
    found = to_receiver()
    (tmp_path / "secrets" / "chat" / "0b").write_text("too-short")

    assert "signing key" in (await refused(found)).reason
    assert receiver.posts == []


async def test_a_new_url_and_a_new_key_are_used_by_the_next_attempt(
    to_receiver: Senders, receiver: Receiver, tmp_path: Path
) -> None:
    found = to_receiver()
    assert await found.send(ALERT) is None
    to_receiver(receiver.url.replace("secret-part", "rotated"))
    (tmp_path / "secrets" / "chat" / "0b").write_bytes(base64.b64encode(b"n" * 32))

    assert await found.send(ALERT) is None

    assert receiver.posts[1].path.endswith("/rotated")
    assert receiver.posts[1].is_signed_with(b"n" * 32)


async def test_a_public_webhook_goes_through_the_egress_proxy(to_receiver: Senders, receiver: Receiver) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    proxy = ProxyTarget(f"http://{HOST}:{server.sockets[0].getsockname()[1]}")
    failed = await refused(to_receiver("https://hooks.example.com/services/secret-part", proxy=proxy))
    server.close()

    assert failed.reason == "the egress proxy answered with HTTP 403; nothing was sent"
    assert seen[0].startswith(b"CONNECT hooks.example.com:443 ")
    assert receiver.posts == []


async def test_the_egress_proxy_is_never_told_a_private_address(to_receiver: Senders) -> None:
    proxy = ProxyTarget(f"http://{HOST}:9")

    failed = await refused(to_receiver("https://169.254.169.254/secret-part", proxy=proxy))

    assert "may not be reached through a proxy" in failed.reason
