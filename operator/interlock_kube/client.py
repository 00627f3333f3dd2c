"""A thin client on plain JSON: the official one's typed models cost 100 MB and drop fields that they do not know."""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

Json = dict[str, Any]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

CONNECT_SECONDS = 5
REQUEST_SECONDS = 10
CONNECTIONS = 32
"""Most connections of one client, watches included. Python keeps a third of a megabyte for each that is encrypted."""
OK = 200
REDIRECT = 300  # the API server sends nobody elsewhere: from here on it is a refusal
NOT_FOUND = 404
CONFLICT = 409
GONE = 410


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: The HTTP status code.
        message: The API server's own words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


OnAnswer = Callable[[str, int, float], None]
"""Called for each answer with the HTTP method, the status code and the seconds that the request took."""


class KubeClient:
    """Requests to one API server, on the event loop that made the client."""

    def __init__(self, api: ApiClient, on_answer: OnAnswer = lambda _method, _code, _seconds: None) -> None:
        self._api = api
        self._on_answer = on_answer

    @classmethod
    async def connect(
        cls, kubeconfig: Path | None, on_answer: OnAnswer = lambda _method, _code, _seconds: None
    ) -> "KubeClient":
        """Return a client for the kubeconfig's current context, or for the cluster that we run in.

        Raises:
            kubernetes.aio.config.ConfigException: Neither is usable.
        """
        configuration = Configuration()
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), client_configuration=configuration
            )
        configuration.connection_pool_maxsize = CONNECTIONS
        configuration.retries = False  # level-triggered: the next look repeats what failed
        # Looking for proxies and .netrc costs a thread and files for each request; a proxy can stand in the kubeconfig.
        configuration.client_session_kwargs = {"trust_env": False}
        return cls(ApiClient(configuration), on_answer)

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON) -> Json:
        """Return an object, or a list of them."""
        return await self._answer(_Request("GET", path, query or {}, accept=accept))

    async def create(self, path: str, body: Json) -> Json:
        """Create an object."""
        return await self._answer(_Request("POST", path, body=body))

    async def apply(self, path: str, manifest: Json, manager: str) -> Json:
        """Apply a manifest on the server's side and take over the fields that others own; return what stands then."""
        query = {"fieldManager": manager, "force": "true"}
        return await self._answer(_Request("PATCH", path, query, manifest, APPLY_PATCH))

    async def patch(self, path: str, body: Any, manager: str, *, content_type: str = MERGE_PATCH) -> Json:
        """Patch an object."""
        return await self._answer(_Request("PATCH", path, {"fieldManager": manager}, body, content_type))

    async def delete(self, path: str, options: Json) -> None:
        """Delete an object; one that is gone already is as good as deleted."""
        try:
            await self._answer(_Request("DELETE", path, body=options))
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise

    async def delete_all(self, path: str, selector: str, options: Json) -> None:
        """Delete all objects of a collection that the label selector matches."""
        await self._answer(_Request("DELETE", path, {"labelSelector": selector}, options))

    async def lines(self, path: str, query: Mapping[str, str], *, accept: str, silence: float) -> AsyncIterator[Json]:
        """Yield the events of a watch until the server ends it.

        Args:
            path: The path of a collection.
            query: `watch=1` and the rest.
            accept: The representation wanted.
            silence: Seconds without a byte after which the stream counts as dead.

        Raises:
            TimeoutError: The stream was silent for too long.
            ApiError: The API server refused the watch.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        response = await self._send(_Request("GET", path, query, accept=accept), timeout)
        try:
            if response.status != OK:
                raise ApiError(response.status, _message(await response.read()))
            async for line in response.content:
                yield json.loads(line)
        finally:
            response.close()

    async def _answer(self, request: "_Request") -> Json:
        started = time.perf_counter()
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        response = await self._send(request, timeout)
        data = await response.read()
        self._on_answer(request.method, response.status, time.perf_counter() - started)
        if response.status >= REDIRECT:
            raise ApiError(response.status, _message(data))
        loaded: Json = json.loads(data)
        return loaded

    async def _send(self, request: "_Request", limit: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        headers = {"Accept": request.accept, "Content-Type": request.content_type, "User-Agent": "interlock"}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], request.path, request.method, request.body)
        url = f"{self._api.configuration.host}{request.path}{'?' + urlencode(request.query) if request.query else ''}"
        answer = await self._api.rest_client.request(  # type: ignore[no-untyped-call]
            request.method, url, headers=headers, body=request.body, _request_timeout=limit
        )
        response: aiohttp.ClientResponse = answer.response
        return response


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = JSON
    accept: str = JSON


def _message(data: bytes) -> str:
    try:
        loaded = json.loads(data)
    except ValueError:
        return data[:200].decode(errors="replace")
    return str(loaded.get("message", loaded))
