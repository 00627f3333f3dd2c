"""A client of one API server on aiohttp and plain JSON.

The official client's typed models cost 100 MB and drop fields that they do not know. So the operator and the guard
share this one, which knows neither.
"""

import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from interlock_kube.credentials import ApiAccess, ApiCredentials
from interlock_kube.go_json import to_go_json
from interlock_kube.metadata import parse_metadata

Json = dict[str, Any]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"

CONNECT_SECONDS = 5
REQUEST_SECONDS = 10
CONNECTIONS = 32
"""Most connections of one client, watches included. Python keeps a third of a megabyte for each that is encrypted."""
MAX_EVENT: Final = 16 * 1024 * 1024
"""Most bytes of one watch event. etcd takes objects of 1.5 MiB, and JSON has up to six bytes for one that it stores."""
MAX_ANSWER: Final = 64 * 1024 * 1024
"""Most bytes of one answer where the caller names no other bound."""
OK = 200
REDIRECT = 300  # the API server redirects no request: such an answer is a refusal, and the token goes nowhere else
UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404
CONFLICT = 409
GONE = 410
INVALID = 422


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: The HTTP status code.
        message: The API server's own words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.message = message


def says_exists(error: ApiError) -> bool:
    """Return True if an object was not created because one of its name exists, which is not just being deleted.

    Other conflicts have the same status, such as that of two requests with one ResourceQuota.
    """
    return (
        error.status == CONFLICT and error.message.endswith("already exists") and "being deleted" not in error.message
    )


UNREACHABLE: Final = (aiohttp.ClientError, TimeoutError, OSError)
"""What a request raises where the API server does not answer; a file of credentials that cannot be read is one, too."""


class AnswerTooLarge(Exception):  # noqa: N818 - says what is wrong with an answer
    """The answer has more bytes than its reader takes; the rest of it was not read."""


OnAnswer = Callable[[str, int, float], None]
"""Called for each answer with the HTTP method, the status code and the seconds that the request took."""
OnDate = Callable[[str, float], None]
"""Called as soon as the head of an answer has come, with its header `Date`, empty without one, and the seconds since
the request was sent."""


class KubeClient:
    """Requests to one API server, on the event loop of the first request.

    Args:
        credentials: Asked at each request. A request that is refused with 401 is sent once more with renewed ones.
        on_answer: Called for each answer.
        on_date: Called for each answer with the time of the API server.
        parse: Parses JSON; raises ValueError where the text is none. Answers without specs are parsed without
            `managedFields` in any case.
    """

    def __init__(
        self,
        credentials: ApiCredentials,
        on_answer: OnAnswer = lambda _method, _code, _seconds: None,
        *,
        on_date: OnDate = lambda _date, _took: None,
        parse: Callable[[bytes], Any] = json.loads,
    ) -> None:
        self._credentials, self._on_answer, self._parse = credentials, on_answer, parse
        self._on_date = on_date
        self._session: aiohttp.ClientSession | None = None
        self._trusted: tuple[ApiAccess, ssl.SSLContext] | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON, most: int = MAX_ANSWER
    ) -> Json:
        """Return an object, or a list of objects.

        Raises:
            ApiError: The API server refused.
            AnswerTooLarge: The answer has more bytes than `most`.
        """
        return await self._answer("GET", path, query, accept=accept, most=most)

    async def create(self, path: str, body: Json, *, is_dry_run: bool = False, accept: str = JSON) -> Json:
        """Create an object in a collection.

        Args:
            path: The path of the collection.
            body: The object.
            is_dry_run: Whether the API server only checks the object and returns it as it would be.
            accept: The representation wanted.
        """
        return await self._answer("POST", path, {"dryRun": "All"} if is_dry_run else None, body=body, accept=accept)

    async def patch(self, path: str, body: Any, manager: str, *, content_type: str = MERGE_PATCH) -> Json:
        """Patch an object."""
        return await self._answer("PATCH", path, {"fieldManager": manager}, body=body, content_type=content_type)

    async def update(self, path: str, body: Json, manager: str) -> Json:
        """Replace an object, or its status. The body's `metadata.resourceVersion` says which version it replaces.

        Args:
            path: The path of the object or its status.
            body: The object.
            manager: The field manager, next to whose name the API server writes its time.

        Raises:
            ApiError: The API server refused; its status is `CONFLICT` where the object has another version now.
        """
        return await self._answer("PUT", path, {"fieldManager": manager}, body=body)

    async def delete(self, path: str, options: Json, *, accept: str = JSON) -> None:
        """Delete an object; success also where the object does not exist."""
        try:
            await self._answer("DELETE", path, body=options, accept=accept)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise

    async def delete_all(self, path: str, selector: str, options: Json) -> None:
        """Delete all objects of a collection that the label selector matches.

        Raises:
            ValueError: The selector is empty, and would match the objects of everyone.
        """
        if not selector:
            raise ValueError(f"nothing is deleted from {path} without a label selector")
        await self._answer("DELETE", path, {"labelSelector": selector}, body=options)

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
            ValueError: An event is no JSON, or has more than `MAX_EVENT` bytes.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        parse = self._parser(accept)
        async with self._send("GET", path, query, accept=accept, limits=limits) as response:
            if response.status != OK:
                raise ApiError(response.status, _message(await response.read()))
            # aiohttp's own iterator of lines refuses a line of more than 128 KiB, and an Agent can be larger.
            buffer = bytearray()
            async for chunk in response.content.iter_any():
                *ends, rest = chunk.split(b"\n")
                for end in ends:
                    line = bytes(buffer + end)
                    buffer.clear()
                    if line.strip():
                        yield parse(line)
                buffer += rest
                if len(buffer) > MAX_EVENT:
                    raise ValueError(f"an event of the watch has more than {MAX_EVENT} bytes")

    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
        most: int = MAX_ANSWER,
    ) -> Json:
        started = time.perf_counter()
        limits = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._send(
            method, path, query, body=body, content_type=content_type, accept=accept, limits=limits
        ) as response:
            data = await _read_bounded(response, most)
        self._on_answer(method, response.status, time.perf_counter() - started)
        if response.status >= REDIRECT:
            raise ApiError(response.status, _message(data))
        loaded: Json = self._parser(accept)(data)
        return loaded

    def _parser(self, accept: str) -> Callable[[bytes], Any]:
        """Return what parses a representation: without a spec, `managedFields` is as large as what it mirrors."""
        return parse_metadata if accept in (METADATA_ONLY, METADATA_LIST) else self._parse

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        *,
        limits: aiohttp.ClientTimeout,
        accept: str,
        body: Any = None,
        content_type: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, and once more with renewed credentials where the API server does not accept them."""
        data = None if body is None else to_go_json(body)
        headers = {"Accept": accept, "User-Agent": "interlock"}
        if data is not None:
            headers["Content-Type"] = content_type
        access = await self._credentials.current()
        sent = time.perf_counter()
        response = await self._request(access, method, path, params=query, headers=headers, data=data, timeout=limits)
        if response.status == UNAUTHORIZED:
            renewed = await self._credentials.renew(access)
            if renewed != access:
                response.close()
                sent = time.perf_counter()
                response = await self._request(
                    renewed, method, path, params=query, headers=headers, data=data, timeout=limits
                )
        async with response:
            self._on_date(response.headers.get("Date", ""), time.perf_counter() - sent)
            yield response

    async def _request(
        self, access: ApiAccess, method: str, path: str, *, headers: Mapping[str, str], **more: Any
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            # No proxy from the environment and no cookies: this session speaks to the API server alone. Looking for
            # proxies and .netrc would cost a thread and files for each request.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        if access.authorization:
            headers = {**headers, "Authorization": access.authorization}
        if access.server.startswith("https://"):
            more["ssl"] = self._trust(access)
        return await self._session.request(
            method,
            access.server + path,
            headers=headers,
            allow_redirects=False,
            server_hostname=access.server_name,
            proxy=access.proxy,
            **more,
        )

    def _trust(self, access: ApiAccess) -> ssl.SSLContext:
        """Return the TLS context; the same one until the certificates change, since connections are kept by it."""
        if self._trusted is None or _certificates(self._trusted[0]) != _certificates(access):
            self._trusted = access, access.build_ssl_context()
        return self._trusted[1]


async def _read_bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > most:
            response.close()
            raise AnswerTooLarge(f"the answer has more than {most} bytes")
    return bytes(data)


def _certificates(access: ApiAccess) -> tuple[Any, ...]:
    return access.ca_file, access.ca_version, access.certificate_file, access.key_file, access.is_verified


def _message(data: bytes) -> str:
    try:
        loaded = json.loads(data)
    except ValueError:
        return data[:200].decode(errors="replace")
    return str(loaded.get("message", loaded)) if isinstance(loaded, dict) else str(loaded)[:200]
