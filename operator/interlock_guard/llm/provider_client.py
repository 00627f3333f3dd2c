"""The way to a provider of models: one request, sent once, with the provider's key; its answer as it comes.

Addresses are checked as those of MCP servers over HTTP are (`dialer`), and no redirect is followed.
"""
# The guard's image has no `typing_extensions`, whose `override` `_Payload` would need.
# mypy: disable-error-code="explicit-override"

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import yarl
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDictProxy

from interlock_contract.agent_key import is_agent_key
from interlock_contract.bundle import Bundle
from interlock_contract.http_target import HttpTarget
from interlock_contract.model_access import Model, Provider, Shape
from interlock_contract.pod import MODEL_KEYS_FOLDER
from interlock_guard.decision.decide import check_terminated
from interlock_guard.llm.request_body import OutgoingBody
from interlock_guard.state import LiveState
from interlock_guard.upstream.credentials import Credentials
from interlock_guard.upstream.http_client import HttpSession
from interlock_http.dialer import Dialer
from interlock_kube.background import log_failure


class _Payload(aiohttp.Payload):
    """A body as aiohttp sends it. Its own form of an iterator would send the headers and the body apart."""

    def __init__(self, body: OutgoingBody) -> None:
        super().__init__(body, content_type="application/json")
        self._size = body.size

    async def write(self, writer: AbstractStreamWriter) -> None:
        async for portion in self._value.stream():
            await writer.write(portion)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - the interface's
        raise TypeError("a body is sent once, and not read again")


class ProviderClient(HttpSession):
    """Sends requests to one provider."""

    def __init__(self, provider: Provider, directory: Path, dialer: Dialer) -> None:
        super().__init__(Credentials(provider.target, directory), dialer)
        self.target: HttpTarget = provider.target
        self._shape: Shape = provider.shape

    @asynccontextmanager
    async def send(
        self, path: str, body: OutgoingBody, headers: Mapping[str, str], model: Model
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Post a body; once, whatever happens.

        Args:
            path: Behind the base URL, query included.
            body: The JSON; it is read once.
            headers: Those of the agent that may pass; the key is set here.
            model: Says which key.

        Raises:
            UpstreamError: Also while the answer is read.
        """
        try:
            with self.unsent():
                key = self.credentials.read_key(model.key_file)
            own = {"x-api-key": key} if self._shape == "Anthropic" else {"Authorization": f"Bearer {key}"}
            url = yarl.URL(f"{self.target.url.rstrip('/')}/{path}", encoded=True)
            async with self.request("POST", url, _Payload(body), {**headers, **own}) as response:
                yield response
        finally:
            body.drop()


class ProviderClients:
    """One client per provider of the bundle; follows every change of the state immediately."""

    def __init__(self, live: LiveState, secrets: Path, dialable: frozenset[str], log: Callable[[str], None]) -> None:
        self._live, self._directory, self._dialable = live, secrets / MODEL_KEYS_FOLDER, dialable
        self.log = log
        self._closing: set[asyncio.Task[None]] = set()
        self._clients: dict[str, ProviderClient] = {}

    def get(self, provider: Provider) -> ProviderClient:
        """Return the client of a provider of the bundle in force."""
        return self._clients[provider.name]

    async def close(self) -> None:
        """Close every client, also where closing one of them fails."""
        async with AsyncExitStack() as stack:
            for client in self._clients.values():
                stack.push_async_callback(client.close)
            await asyncio.gather(*self._closing, return_exceptions=True)

    def _retire(self, client: ProviderClient) -> None:
        client.reset()
        task = asyncio.get_running_loop().create_task(client.close(), name="close a provider's connections")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(partial(log_failure, log=self.log))

    def follow(self) -> None:
        """Bring the clients in line with state and bundle; called at each of their changes."""
        if check_terminated(self._live.bundle, self._live.state) is not None:
            for client in self._clients.values():
                client.reset()
            return
        bundle = self._live.bundle
        if bundle is None:
            return
        wanted = {provider.name: provider for provider in (bundle.models.providers if bundle.models else ())}
        for name, client in list(self._clients.items()):
            if name not in wanted or wanted[name].target != client.target:
                self._retire(self._clients.pop(name))
        for name in wanted.keys() - self._clients.keys():
            dialer = Dialer.for_target(wanted[name].target, self._dialable)
            self._clients[name] = ProviderClient(wanted[name], self._directory, dialer)


_BETA_HEADERS: Final = ("anthropic-beta", "openai-beta")
_REQUEST: Final = ("accept", *_BETA_HEADERS, "anthropic-version", "idempotency-key", "user-agent")
_RESPONSE: Final = (
    "cache-control",
    "content-type",
    "openai-processing-ms",
    "openai-version",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-request-id",
    "x-should-retry",
)
_REQUEST_PREFIX: Final = "x-stainless-"
_RESPONSE_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")
_OWN: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
_BEARER: Final = "bearer "


def request_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what of an agent's headers goes to the provider, and the guard's own."""
    return {**_select(headers, _REQUEST, (_REQUEST_PREFIX,)), **_OWN}


def read_betas(headers: CIMultiDictProxy[str]) -> tuple[str, ...]:
    """Return the values of all headers that switch on features in beta."""
    texts = (text for name in _BETA_HEADERS for text in headers.getall(name, []))
    return tuple(value.strip() for text in texts for value in text.split(",") if value.strip())


def response_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what of a provider's headers goes to the agent."""
    return _select(headers, _RESPONSE, _RESPONSE_PREFIXES)


def shows_key(bundle: Bundle, headers: CIMultiDictProxy[str]) -> bool:
    """Say whether a request shows the key that the agent was given, in each place where it shows one, and once."""
    shown = headers.getall("X-Api-Key", [])
    for value in headers.getall("Authorization", []):
        shown.append(value[len(_BEARER) :] if value.lower().startswith(_BEARER) else "")
    return bool(shown) and all(is_agent_key(value, bundle.agent_key_digest) for value in shown)


def _select(headers: Mapping[str, str], names: tuple[str, ...], prefixes: tuple[str, ...]) -> dict[str, str]:
    """Return the headers that pass. Several lines of one name are one list (RFC 9110, section 5.3), equal ones one."""
    passing = [(name.lower(), name, value) for name, value in headers.items()]
    passing = [one for one in passing if one[0] in names or one[0].startswith(prefixes)]
    lines: dict[str, tuple[str, list[str]]] = {}
    for lowered, name, value in passing:
        lines.setdefault(lowered, (name, []))[1].append(value)
    return {name: ", ".join(filter(None, dict.fromkeys(values))) for name, values in lines.values()}
