"""The client of the API server, against a server that a test writes."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from interlock_kube import retry, watch
from interlock_kube.client import AnswerTooLarge, ApiError, KubeClient
from interlock_kube.credentials import CredentialsUnavailable, MountedCredentials
from interlock_kube.resource_types import AGENT
from interlock_kube.watch import ListEvent, WatchOptions, follow, list_objects, read_pages

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def a_client(
    handler: Handler, folder: Path, *, on_date: Callable[[str, float], None] = lambda _date, _took: None
) -> AsyncIterator[KubeClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    (folder / "token").write_text("one\n")
    async with TestServer(app) as server:
        client = KubeClient(MountedCredentials(str(server.make_url("")), folder), on_date=on_date)
        yield client
        await client.close()


async def test_a_token_is_read_again_when_the_kubelet_has_replaced_it(tmp_path: Path) -> None:
    seen: list[str] = []

    async def handle(http: web.Request) -> web.Response:
        seen.append(http.headers["Authorization"])
        return web.json_response({})

    async with a_client(handle, tmp_path) as client:
        await client.get("/version")
        (tmp_path / "next").write_text("two\n")
        (tmp_path / "next").rename(tmp_path / "token")
        await client.get("/version")
    assert seen == ["Bearer one", "Bearer two"]


async def test_nothing_is_deleted_by_an_empty_selector(tmp_path: Path) -> None:
    seen: list[str] = []

    async def handle(http: web.Request) -> web.Response:
        seen.append(http.path_qs)
        return web.json_response({})

    async with a_client(handle, tmp_path) as client:
        with pytest.raises(ValueError, match="without a label selector"):
            await client.delete_all("/api/v1/namespaces/agents/pods", "", {})
    assert seen == []


async def test_a_request_that_is_refused_with_401_is_sent_again_with_other_credentials_only(tmp_path: Path) -> None:
    seen: list[str] = []

    async def handle(http: web.Request) -> web.Response:
        seen.append(http.headers["Authorization"])
        if len(seen) == 1:
            (tmp_path / "token").write_text("two\n")
        return web.json_response({"message": "who?"}, status=401 if "two" not in seen[-1] else 200)

    async with a_client(handle, tmp_path) as client:
        assert await client.get("/version") == {"message": "who?"}
        (tmp_path / "token").write_text("three\n")
        with pytest.raises(ApiError, match="401: who\\?"):
            await client.get("/version")
    assert seen == ["Bearer one", "Bearer two", "Bearer three"]


async def test_an_update_names_the_version_that_it_replaces_and_its_field_manager(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def handle(http: web.Request) -> web.Response:
        seen.append((http.method, http.path_qs, await http.json()))
        return web.json_response({"message": "the object has been modified"}, status=409)

    body = {"metadata": {"resourceVersion": "7"}, "status": {}}
    async with a_client(handle, tmp_path) as client:
        with pytest.raises(ApiError) as error:
            await client.update("/ledgers/a/status", body, "guard")
    assert error.value.status == 409
    assert seen == [("PUT", "/ledgers/a/status?fieldManager=guard", body)]


async def test_every_answer_tells_the_time_of_the_api_server(tmp_path: Path) -> None:
    dates: list[tuple[str, float]] = []

    async def handle(_: web.Request) -> web.Response:
        return web.json_response({}, headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})

    async with a_client(handle, tmp_path, on_date=lambda *told: dates.append(told)) as client:
        began = time.perf_counter()
        await client.get("/version")
        spent = time.perf_counter() - began
    [(date, took)] = dates
    assert date == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert 0 < took <= spent


async def test_a_redirect_is_a_refusal_and_the_token_goes_nowhere(tmp_path: Path) -> None:
    seen: list[str] = []

    async def handle(http: web.Request) -> web.Response:
        seen.append(http.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with a_client(handle, tmp_path) as client:
        with pytest.raises(ApiError, match="307"):
            await client.get("/version")
    assert seen == ["/version"]


async def test_an_event_of_a_watch_may_be_as_large_as_an_object(tmp_path: Path) -> None:
    async def handle(_: web.Request) -> web.Response:
        event = {"type": "ADDED", "object": {"x": "y" * 1_000_000}}
        return web.Response(body=json.dumps(event).encode() + b"\n")

    async with a_client(handle, tmp_path) as client:
        events = [one async for one in client.lines("/x", {"watch": "1"}, accept="*/*", silence=5)]
    assert [len(one["object"]["x"]) for one in events] == [1_000_000]


async def test_credentials_that_cannot_be_read_are_a_connection_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(CredentialsUnavailable, match="token"):
        await MountedCredentials("http://127.0.0.1:1", tmp_path).current()
    with pytest.raises(CredentialsUnavailable, match="KUBERNETES_SERVICE_HOST"):
        await MountedCredentials.of_pod({}).current()
    of_pod = MountedCredentials.of_pod({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"})
    assert of_pod._server == "https://[fd00::1]:443"  # noqa: SLF001 - its files are those of a pod


class PagedServer:
    """A kind with many objects, whose `continue` tokens can expire once."""

    def __init__(self, count: int, *, expires_at: int | None = None) -> None:
        self.count, self.expires_at = count, expires_at
        self.largest = 0
        self.pages = 0

    async def handle(self, http: web.Request) -> web.Response:
        if http.query.get("watch"):
            return web.Response(body=b"")
        begin, limit = int(http.query.get("continue", 0)), int(http.query.get("limit", self.count))
        if begin and begin == self.expires_at:
            self.expires_at = None
            return web.json_response({"message": "The provided continue parameter is too old", "code": 410}, status=410)
        end = min(begin + limit, self.count)
        self.largest, self.pages = max(self.largest, end - begin), self.pages + 1
        items: list[dict[str, Any]] = [
            {"metadata": {"name": f"a-{number}", "resourceVersion": "5"}} for number in range(begin, end)
        ]
        more = {"continue": str(end)} if end < self.count else {}
        return web.json_response({"items": items, "metadata": {"resourceVersion": "9", **more}})


@pytest.mark.parametrize("expires_at", [None, 1500])
async def test_ten_thousand_objects_are_listed_in_pages_that_start_again_when_their_token_expires(
    expires_at: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BACKOFF_SECONDS", (0,))
    monkeypatch.setattr(retry, "PAUSE_SECONDS", 0)
    server = PagedServer(10_000, expires_at=expires_at)
    async with a_client(server.handle, tmp_path) as client:
        listed = [found["metadata"]["name"] async for found in list_objects(client, AGENT)]
        assert set(listed) == {f"a-{number}" for number in range(10_000)}
        assert len(listed) == 10_000 + (expires_at or 0)
        server.expires_at = expires_at
        names: set[str] = set()
        async for event in follow(client, AGENT, WatchOptions()):
            assert isinstance(event, ListEvent)
            names = (set() if event.is_first else names) | {found["metadata"]["name"] for found in event.objects}
            if event.is_last:
                break
        assert len(names) == 10_000
    assert server.largest == 500


async def test_objects_of_a_list_say_what_they_are(tmp_path: Path) -> None:
    async with a_client(PagedServer(1).handle, tmp_path) as client:
        found = [one async for one in list_objects(client, AGENT)]
    assert (found[0]["apiVersion"], found[0]["kind"]) == ("interlock.dev/v1alpha1", "Agent")


async def test_a_page_that_is_too_large_is_asked_for_again_with_fewer_objects(tmp_path: Path) -> None:
    asked: list[int] = []

    async def handle(http: web.Request) -> web.Response:
        begin, limit = int(http.query.get("continue", 0)), int(http.query["limit"])
        asked.append(limit)
        items = [
            {"metadata": {"name": str(number), "x": "x" * 1000}} for number in range(begin, min(begin + limit, 20))
        ]
        more = {"continue": str(begin + limit)} if begin + limit < 20 else {}
        return web.json_response({"items": items, "metadata": more})

    async with a_client(handle, tmp_path) as client:
        pages = [page async for page in read_pages(client, "/agents", {}, limit=16, most=5000)]

    assert [item["metadata"]["name"] for page in pages for item in page["items"]] == [str(n) for n in range(20)]
    assert asked[:4] == [16, 4, 8, 2], "a quarter after a page that was too large, twice as many after one that was not"


async def test_a_single_object_that_is_too_large_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_EVENT", 500)

    async def handle(_: web.Request) -> web.Response:
        return web.json_response({"items": [{"x": "x" * 1000}], "metadata": {}})

    async with a_client(handle, tmp_path) as client:
        with pytest.raises(AnswerTooLarge, match="more than 500 bytes"):
            _ = [page async for page in read_pages(client, "/agents", {}, limit=4, most=100)]


async def test_an_event_that_cannot_be_read_starts_a_new_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BACKOFF_SECONDS", (0,))
    lists = 0

    async def handle(http: web.Request) -> web.Response:
        nonlocal lists
        if http.query.get("watch"):
            return web.Response(body=b"no JSON\n")
        lists += 1
        return web.json_response({"items": [], "metadata": {"resourceVersion": "9"}})

    async with a_client(handle, tmp_path) as client:
        async for _ in follow(client, AGENT, WatchOptions()):
            if lists == 3:
                break
