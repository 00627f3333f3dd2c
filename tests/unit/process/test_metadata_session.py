"""kopf's session against an HTTP server: what it asks for, and what of the answers is left."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from interlock.handlers.metadata_session import MetadataSession, open_session
from interlock_kube.client import METADATA_LIST, METADATA_ONLY
from interlock_kube.credentials import ApiAccess
from tests.requirements import requirement

AGENTS = "/apis/interlock.dev/v1alpha1/agents"
DEEP = '{"x":' * 50_000 + "1" + "}" * 50_000


def an_object(name: str) -> str:
    """Return what the API server writes of an object with as much metadata as anyone can give it."""
    metadata = {"name": name, "namespace": "agents", "uid": f"uid-{name}", "resourceVersion": "5"}
    text = json.dumps({**metadata, "annotations": {"x": "y" * 1000}}, separators=(",", ":"))
    managed = f'"managedFields":[{{"manager":"x","fieldsV1":{DEEP}}}]'
    return f'{{"kind":"PartialObjectMetadata","metadata":{{{managed},{text[1:]}}}'


@pytest.fixture
async def asked() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def session(asked: list[tuple[str, str]]) -> AsyncIterator[MetadataSession]:
    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append((request.path_qs, request.headers["Accept"]))
        if "watch" not in request.query:
            items = "null" if "empty" in request.query else f"[{an_object('a')},{an_object('b')}]"
            text = f'{{"kind":"PartialObjectMetadataList","metadata":{{"resourceVersion":"9"}},"items":{items}}}'
            return web.Response(text=text, content_type="application/json")
        response = web.StreamResponse()
        await response.prepare(request)
        text = "".join(f'{{"type":"MODIFIED","object":{an_object(name)}}}\n' for name in "ab")
        for start in range(0, len(text), 100_000):  # lines end anywhere
            await response.write(text[start : start + 100_000].encode())
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    opened = open_session(ApiAccess(server=str(server.make_url("")).rstrip("/"), authorization="Bearer one"))
    yield opened
    await opened.aiohttp_session.close()
    await server.close()


async def get(session: MetadataSession, path: str) -> Any:
    async with await session.aiohttp_session.get(session.server + path) as response:
        return await response.json()


@requirement("operator.memory")
async def test_of_our_kinds_metadata_is_asked_for_and_cut(
    session: MetadataSession, asked: list[tuple[str, str]]
) -> None:
    page = await get(session, f"{AGENTS}?limit=10")

    assert asked == [(f"{AGENTS}?limit=10", METADATA_LIST)]
    assert page["metadata"] == {"resourceVersion": "9"}
    kept = {"name": "a", "namespace": "agents", "uid": "uid-a", "resourceVersion": "5"}
    assert page["items"][0] == {"kind": "PartialObjectMetadata", "metadata": kept}


async def test_an_empty_list_is_an_empty_list(session: MetadataSession) -> None:
    assert (await get(session, f"{AGENTS}?empty=1"))["items"] == []


async def test_discovery_is_asked_for_as_it_is(session: MetadataSession, asked: list[tuple[str, str]]) -> None:
    await get(session, "/apis/interlock.dev/v1alpha1")
    assert asked == [("/apis/interlock.dev/v1alpha1", "*/*")]


@requirement("operator.memory")
async def test_the_events_of_a_watch_can_be_parsed_however_deep_their_managed_fields_are(
    session: MetadataSession, asked: list[tuple[str, str]]
) -> None:
    lines = bytearray()
    async with await session.aiohttp_session.get(f"{session.server}{AGENTS}?watch=true") as response:
        content: Any = response.content
        async for chunk in content.iter_chunked(1024 * 1024):
            lines += chunk

    assert asked == [(f"{AGENTS}?watch=true", METADATA_ONLY)]
    events = [json.loads(line) for line in lines.splitlines()]
    assert [event["object"]["metadata"]["name"] for event in events] == ["a", "b"]
    assert {"annotations", "managedFields"} & set(events[0]["object"]["metadata"]) == set()
