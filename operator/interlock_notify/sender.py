"""One attempt to post a notification to a webhook.

The URL is a secret, and it is read again at each attempt, as are the signing keys and the CA certificates: the kubelet
replaces their files. It must be https. Only addresses that were checked are dialled (`interlock_http.dialer`), and no
redirect is followed, since its target was not checked. No message names the URL, or repeats what a receiver answered
unless that is one plain word.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import yarl

from interlock_contract.egress_proxy import is_proxied
from interlock_contract.http_target import URL, HttpTarget, matches
from interlock_contract.version import VERSION
from interlock_contract.webhooks import Webhook, WebhookPlan
from interlock_http.client import explain_head
from interlock_http.dialer import CONNECT_SECONDS, AddressRefused, Dialer, TrustCache
from interlock_kube.mounted_file import FileTooLarge, MountedFile
from interlock_notify.alerts import Alert
from interlock_notify.delivery_queue import read_retry_after
from interlock_notify.messages import build_body
from interlock_notify.signature import SigningKeyInvalid, build_headers, parse_keys

ATTEMPT_SECONDS: Final = 15.0
"""Seconds that one attempt may take, with the look-up of the name, the connection and the answer."""
_MOST_URL: Final = 2048
_MOST_ANSWER: Final = 1024
"""Bytes of an answer that are read, for the word that says what was wrong."""
_WORD: Final = re.compile(r"[a-z0-9_]{1,64}")
"""What Slack answers, such as `channel_is_archived`."""
_SUCCESS, _REDIRECTS = range(200, 300), range(300, 400)
_REQUEST_TIMEOUT, _TOO_MANY, _SERVER_ERROR = 408, 429, 500
_OWN: Final = {
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"interlock-notifier/{VERSION}",
}


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """Why an attempt failed.

    Attributes:
        reason: A sentence without secrets.
        is_away: Whether the receiver would take no other notification either.
        retry_after: Seconds that it asked for; None where it did not.
    """

    reason: str
    is_away: bool = True
    retry_after: float | None = None


class _NotSent(Exception):  # noqa: N818 - says what became of a notification
    """Nothing was sent; the message says why."""


class WebhookSender:
    """Posts notifications to one webhook.

    Args:
        webhook: The webhook.
        plan: The plan that it is in, for the egress proxy.
        secrets: The folder with its files.
        dialable: Addresses that are dialled whatever they are, for tests.
        seconds: Returns the time in seconds since the epoch.
    """

    def __init__(
        self, webhook: Webhook, plan: WebhookPlan, secrets: Path, dialable: frozenset[str], seconds: Callable[[], float]
    ) -> None:
        self._webhook, self._plan = webhook, plan
        self._folder = secrets / webhook.name
        self._dialable, self._seconds = dialable, seconds
        self._files: dict[str, MountedFile] = {}
        self._trust = TrustCache()

    def check(self) -> str | None:
        """Return why nothing could be posted, whatever the receiver says: a file is missing or wrong. Else None."""
        try:
            target = self._read_target()
            self._read_keys()
            self._read_trust(target.ca_file)
            self._read_proxy_trust(target)
        except _NotSent as error:
            return str(error)
        return None

    async def send(self, alert: Alert) -> FailedAttempt | None:
        """Post an alert once; return why the receiver has not taken it, None where it has."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                return await self._post(alert)
        except _NotSent as error:
            return FailedAttempt(str(error))
        except TimeoutError:
            return FailedAttempt(f"the receiver gave no answer within {ATTEMPT_SECONDS:g} s")
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            return FailedAttempt(_explain(error))

    async def _post(self, alert: Alert) -> FailedAttempt | None:
        target, keys = self._read_target(), self._read_keys()
        dialer = Dialer.for_target(target, self._dialable)
        dialer.proxy_trust = self._read_proxy_trust(target)
        context = self._read_trust(target.ca_file)
        if target.proxy is not None:
            dialer.check_proxied(yarl.URL(target.url, encoded=True).host or "")
        body = build_body(alert, self._webhook.format)
        headers = {**_OWN, **build_headers(alert.id, int(self._seconds()), body, keys)}
        async with (
            aiohttp.ClientSession(
                connector=dialer.build_connector(),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            ) as session,
            session.post(
                yarl.URL(target.url, encoded=True),
                data=body,
                headers=headers,
                ssl=context,
                allow_redirects=False,
                proxy=None if target.proxy is None else target.proxy.url,
            ) as response,
        ):
            return await _judge(response)

    def _read_target(self) -> HttpTarget:
        """Return what the receiver is reached with, from the URL in its file.

        Raises:
            _NotSent: The file cannot be read, or holds no https URL.
        """
        webhook, plan = self._webhook, self._plan
        content = self._read(webhook.url_file, "its URL")
        try:
            url = content.decode("ascii").strip()  # a Secret made from a file or with echo ends with a line end
        except UnicodeDecodeError:
            url = ""
        if not url.startswith("https://") or len(url) > _MOST_URL or not matches(URL, url):
            raise _NotSent("the Secret holds no https:// URL without user and fragment; nothing was sent")
        proxy = plan.proxy if is_proxied(url, webhook.network, plan.no_proxy) else None
        return HttpTarget(url=url, network=webhook.network, headers=(), ca_file=webhook.ca_file, proxy=proxy)

    def _read_keys(self) -> tuple[bytes, ...]:
        if self._webhook.key_file is None:
            return ()
        try:
            return parse_keys(self._read(self._webhook.key_file, "its signing key"))
        except SigningKeyInvalid as error:
            raise _NotSent(f"{error}; nothing was sent") from None

    def _read_proxy_trust(self, target: HttpTarget) -> ssl.SSLContext | None:
        proxy = target.proxy
        return self._read_trust(proxy.ca_file) if proxy is not None and proxy.url.startswith("https:") else None

    def _read_trust(self, file: str | None) -> ssl.SSLContext:
        found = None if file is None else self._read(file, "its CA certificates")
        try:
            return self._trust.find(file, found)
        except (ssl.SSLError, ValueError):
            raise _NotSent("its CA certificates are no certificates in PEM; nothing was sent") from None

    def _read(self, file: str, what: str) -> bytes:
        found = self._files.setdefault(file, MountedFile(self._folder / file))
        try:
            return found.read()
        except (OSError, FileTooLarge):
            raise _NotSent(f"the file with {what} cannot be read: the Secret or its key is missing") from None


async def _judge(response: aiohttp.ClientResponse) -> FailedAttempt | None:
    """Return what an answer means."""
    status = response.status
    if status in _SUCCESS:
        return None
    if status in _REDIRECTS:
        return FailedAttempt(f"the receiver answered with a redirect (HTTP {status}), which is not followed")
    is_away = status in (_REQUEST_TIMEOUT, _TOO_MANY) or status >= _SERVER_ERROR
    said = await response.content.read(_MOST_ANSWER)
    text = said.decode("ascii", "replace").strip()
    why = f": {text}" if _WORD.fullmatch(text) else ""
    retry_after = read_retry_after(response.headers.get("Retry-After", ""))
    return FailedAttempt(
        f"the receiver answered with HTTP {status}{why}", is_away or retry_after is not None, retry_after
    )


_UNREACHED: Final[dict[type[Exception], str]] = {
    aiohttp.ClientConnectorCertificateError: "the receiver's certificate is not trusted",
    aiohttp.ClientProxyConnectionError: "the egress proxy does not answer",
    aiohttp.ClientConnectorDNSError: "the name of the receiver cannot be resolved",
    aiohttp.ClientConnectorError: "the receiver cannot be reached",
    aiohttp.InvalidURL: "the URL of the receiver is none",
}
"""What failed before anything was sent, the more special class first."""


def _explain(error: Exception) -> str:
    """Return what went wrong without the URL, which some of aiohttp's messages repeat."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, AddressRefused):
        return f"{cause}; nothing was sent. For an address in the cluster or company set network: Private"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the egress proxy answered with HTTP {error.status}; nothing was sent"
    for kind, what in _UNREACHED.items():
        if isinstance(error, kind):
            return f"{what} ({type(cause).__name__}); nothing was sent"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"the receiver answered with {explain_head(error) or 'something that is not HTTP'}"
    return f"the connection to the receiver broke ({type(error).__name__})"
