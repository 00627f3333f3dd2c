"""The HTTP session of kopf's client: of Agents, AgentPolicies and MCPBindings it asks for metadata alone.

kopf reads whole objects, whole pages and whole events, however large they are. Here it only learns which object has
changed. The operator then reads that object itself, within its own bounds.
"""

import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import kopf
from typing_extensions import override

from interlock_contract.names import API_PATH
from interlock_kube.client import MAX_EVENT, METADATA_LIST, METADATA_ONLY
from interlock_kube.credentials import ApiAccess
from interlock_kube.metadata import parse_metadata

_KEPT = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MetadataSession(kopf.AiohttpSession):
    """A session of kopf's client, equal to another one with the same credentials: kopf takes no refused ones twice.

    Attributes:
        access: The way to the API server.
    """

    access: ApiAccess

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, MetadataSession) and self.access == other.access

    @override
    def __hash__(self) -> int:
        return hash(self.access)


def open_session(access: ApiAccess) -> MetadataSession:
    """Return a session for one way to the API server; kopf closes it."""
    tls: Any = access.build_ssl_context() if access.server.startswith("https://") else True
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls),
        headers={"Authorization": access.authorization} if access.authorization else {},
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=access.proxy,
        trust_env=False,
        middlewares=(_ask_for_metadata,),
        response_class=_MetadataResponse,
    )
    return MetadataSession(server=access.server, expiration=access.expires, aiohttp_session=session, access=access)


async def _ask_for_metadata(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    if request.url.path.startswith(f"{API_PATH}/"):
        request.headers["Accept"] = METADATA_ONLY if "watch" in request.url.query else METADATA_LIST
    return await send(request)


class _MetadataResponse(aiohttp.ClientResponse):
    """An answer whose metadata is cut to what tells one object and version from another."""

    @override
    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read the head of the answer; the lines of a watch are cut from then on."""
        await super().start(connection)
        if "watch" in self.url.query:
            self.content = _MetadataLines(self.content)  # type: ignore[assignment]
        return self

    @override
    async def json(self, **_: Any) -> Any:
        """Return the whole answer."""
        answer = parse_metadata(await self.read())
        if isinstance(answer, dict) and "items" in answer:
            answer["items"] = [_cut(found) for found in answer["items"] or ()]  # an empty list of metadata is null
        return answer


class _MetadataLines:
    """The lines of a watch. kopf holds the last event of each object for some seconds."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        """Yield whole lines."""
        buffer = bytearray()
        async for chunk in self._content.iter_any():
            *ends, rest = chunk.split(b"\n")
            for end in ends:
                line = bytes(buffer + end)
                buffer.clear()
                yield _cut_event(line) + b"\n"
            buffer += rest
            if len(buffer) > MAX_EVENT:
                raise aiohttp.ClientPayloadError(f"an event of the watch has more than {MAX_EVENT} bytes")


def _cut_event(line: bytes) -> bytes:
    """Return an event whose object is cut. One that cannot be parsed is kopf's to report."""
    if not line.strip():
        return line
    try:
        event = parse_metadata(line)
        return json.dumps({**event, "object": _cut(event.get("object") or {})}, separators=(",", ":")).encode()
    except ValueError:
        return line


def _cut(found: dict[str, Any]) -> dict[str, Any]:
    """Return an object with what kopf's handlers need of its metadata."""
    metadata = found.get("metadata") or {}
    return {**found, "metadata": {name: metadata[name] for name in _KEPT if name in metadata}}
