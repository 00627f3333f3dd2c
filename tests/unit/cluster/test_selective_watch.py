"""A watch of metadata that reads objects of known owners, against a fake of the Client."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from interlock.cluster import selective_watch
from interlock.cluster.selective_watch import SelectiveWatch, WaitingObjects
from interlock_kube import object_reader
from interlock_kube.client import JSON, AnswerTooLarge, ApiError, Json
from interlock_kube.object_reader import ObjectName
from interlock_kube.resource_types import CONFIG_MAP, Key, key_of
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.watched_objects import EVERYWHERE, FakeServer, an_event


def an_object(name: str, version: int = 1, owner: str = "known", namespace: str = "agents") -> Json:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version), "labels": {"owner": owner}}
    return {"metadata": metadata, "data": {"x": name}}


@dataclass
class FakeSelection:
    """Keeps the objects whose label names a known owner."""

    known: set[Hashable] = field(default_factory=lambda: {"known"})
    kept: dict[Key, Json] = field(default_factory=dict)

    def owner_of(self, _kind: str, found: Json) -> Hashable | None:
        return str(found["metadata"]["labels"]["owner"]) or None

    def is_known(self, owner: Hashable) -> bool:
        return owner in self.known

    def is_newer(self, _kind: str, found: Json) -> bool:
        kept = self.kept.get(key_of(found))
        return kept is None or version_of(found) > version_of(kept)

    def put(self, kind: str, found: Json) -> None:
        assert (kind, found["kind"], found["apiVersion"]) == ("ConfigMap", "ConfigMap", "v1")
        assert "data" in found, "objects are kept whole"
        self.kept[key_of(found)] = found

    def drop(self, _kind: str, key: Key, version: int, _found: Json | None) -> None:
        if key in self.kept and version_of(self.kept[key]) <= version:
            del self.kept[key]

    def held(self, _kind: str) -> Iterator[Key]:
        yield from list(self.kept)

    def names(self) -> set[str]:
        return {name for _, name in self.kept}


def version_of(found: Json) -> int:
    return int(found["metadata"]["resourceVersion"])


@dataclass
class Watched:
    server: FakeServer
    selection: FakeSelection
    watch: SelectiveWatch

    async def hear(self, kind: str, found: Json) -> None:
        await self.server.events.put(an_event(kind, found))

    async def until_kept(self, *names: str) -> None:
        await until(lambda: self.selection.names() == set(names), f"kept: {names}")


@asynccontextmanager
async def watching(server: FakeServer, selection: FakeSelection | None = None) -> AsyncIterator[Watched]:
    selection = selection or FakeSelection()
    client: Any = server
    watch = SelectiveWatch(client, (CONFIG_MAP,), "app=x", selection)
    running = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(5):
            await watch.synced()
        yield Watched(server, selection, watch)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@requirement("operator.memory")
async def test_of_a_list_only_what_has_a_known_owner_is_read() -> None:
    server = FakeServer()
    server.add(an_object("mine"), *(an_object(f"junk-{number}", owner="stranger") for number in range(20)))
    server.add(*(an_object(f"none-{number}", owner="") for number in range(20)))
    async with watching(server) as watched:
        assert watched.selection.names() == {"mine"}
        assert server.reads == ["mine"]


@requirement("operator.memory")
async def test_a_page_that_is_mostly_wanted_is_read_at_once_and_its_strangers_are_not_kept() -> None:
    server = FakeServer(page=10)
    server.add(*(an_object(f"mine-{number}") for number in range(9)), an_object("junk", owner="stranger"))
    server.add(*(an_object(f"junk-{number}", owner="stranger") for number in range(10)), an_object("last"))
    async with watching(server) as watched:
        assert watched.selection.names() == {*(f"mine-{number}" for number in range(9)), "last"}
        assert server.reads == ["page 0", "last"]


@requirement("operator.memory")
async def test_the_objects_of_a_page_that_is_too_large_are_read_one_by_one() -> None:
    server = FakeServer()
    server.add(*(an_object(f"mine-{number}") for number in range(6)))
    get = server.get

    async def too_large(path: str, query: Any = None, *, accept: str = JSON, most: int = 0) -> Json:
        if path == EVERYWHERE and accept == JSON:
            assert most == selective_watch.PAGE_BYTES
            raise AnswerTooLarge("too large")
        return await get(path, query, accept=accept, most=most)

    server.get = too_large  # type: ignore[method-assign]
    async with watching(server) as watched:
        assert watched.selection.names() == {f"mine-{number}" for number in range(6)}
        assert sorted(server.reads) == sorted(f"mine-{number}" for number in range(6))


@requirement("operator.memory")
async def test_a_change_of_a_strangers_object_is_not_read_and_one_of_ours_is() -> None:
    server = FakeServer()
    async with watching(server) as watched:
        server.add(junk := an_object("junk", 5, owner="stranger"), mine := an_object("mine", 6))
        await watched.hear("ADDED", junk)
        await watched.hear("ADDED", mine)
        await watched.until_kept("mine")
        await watched.hear("MODIFIED", mine)  # of the version that is kept already: the answer to our own write
        server.add(again := an_object("again", 7))
        await watched.hear("ADDED", again)
        await watched.until_kept("mine", "again")
        assert server.reads == ["mine", "again"]


async def test_what_is_deleted_or_loses_its_owner_is_dropped() -> None:
    server = FakeServer()
    server.add(one := an_object("one"), two := an_object("two"))
    async with watching(server) as watched:
        await watched.hear("DELETED", {"metadata": {**one["metadata"], "resourceVersion": "110"}})
        await watched.until_kept("two")
        two["metadata"] |= {"labels": {"owner": ""}, "resourceVersion": "111"}
        await watched.hear("MODIFIED", two)
        await watched.until_kept()


@requirement("operator.late-events")
async def test_an_answer_that_is_older_than_the_deletion_is_not_kept() -> None:
    server, asked, answer = FakeServer(), asyncio.Event(), asyncio.Event()
    get = server.get

    async def slow(path: str, query: Any = None, *, accept: str = JSON, most: int = 0) -> Json:
        found = await get(path, query, accept=accept, most=most)
        if path.endswith("/ghost"):
            asked.set()
            await answer.wait()
        return found

    server.get = slow  # type: ignore[method-assign]
    async with watching(server) as watched:
        server.add(ghost := an_object("ghost", 10))
        await watched.hear("ADDED", ghost)
        await asyncio.wait_for(asked.wait(), 5)
        await watched.hear("DELETED", {"metadata": {**ghost["metadata"], "resourceVersion": "11"}})
        server.add(marker := an_object("marker", 12))
        await watched.hear("ADDED", marker)
        await watched.until_kept("marker")
        answer.set()
        server.add(second := an_object("second", 13))
        await watched.hear("ADDED", second)
        await watched.until_kept("marker", "second")


async def test_objects_of_an_owner_that_comes_later_are_read_when_it_comes() -> None:
    server, selection = FakeServer(), FakeSelection()
    server.add(an_object("early", owner="late"))
    async with watching(server, selection) as watched:
        server.add(later := an_object("later", 5, owner="late"))
        await watched.hear("ADDED", later)
        server.add(gone := an_object("gone", 6, owner="late"))
        await watched.hear("ADDED", gone)
        await watched.hear("DELETED", gone)
        server.add(mine := an_object("mine", 7))
        await watched.hear("ADDED", mine)
        await watched.until_kept("mine")
        selection.known.add("late")
        watched.watch.adopt("late")
        await watched.until_kept("mine", "early", "later")
        assert "gone" not in server.reads


async def test_a_new_list_drops_what_is_gone_unless_it_was_written_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock_kube.watch.BACKOFF_SECONDS", (0,))
    server = FakeServer()
    server.add(an_object("gone"), an_object("stays"))
    async with watching(server) as watched:
        del server.objects["agents", "gone"]
        watched.selection.kept["agents", "written"] = {"kind": "ConfigMap", **an_object("written", 101)}
        await server.events.put({"type": "ERROR", "object": {"code": 410, "message": "too old"}})
        await watched.until_kept("stays", "written")


@requirement("operator.defects")
async def test_an_object_that_cannot_be_read_holds_up_no_other_and_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_reader, "BACKOFF_SECONDS", (0,))
    server = FakeServer()
    server.add(an_object("broken"), an_object("mine"))
    path = CONFIG_MAP.path("agents", "broken")
    server.failures[path] = [ValueError("no JSON"), RecursionError(), ApiError(403, "refused")]
    async with watching(server) as watched:
        await watched.until_kept("mine", "broken")


async def test_one_object_that_no_code_expects_is_skipped_and_the_others_are_handled() -> None:
    server, odd, unkept = FakeServer(), an_object("odd"), an_object("unkept")
    del odd["metadata"]["labels"]
    del unkept["data"]
    server.add(odd, unkept, an_object("mine"))
    async with watching(server) as watched:
        assert watched.selection.names() == {"mine"}
        await watched.hear("MODIFIED", odd)
        server.add(again := an_object("again", 7))
        await watched.hear("ADDED", again)
        await watched.until_kept("mine", "again")


async def test_an_api_server_that_is_away_is_waited_for_before_what_is_missing_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_reader, "BACKOFF_SECONDS", (0,))
    server = FakeServer()
    server.add(an_object("mine"))
    path = CONFIG_MAP.path("agents", "mine")
    server.failures[path] = [ApiError(503, "starting"), ConnectionResetError(), TimeoutError()]
    async with watching(server) as watched:
        assert watched.selection.names() == {"mine"}, "known as soon as the watch is synced"


@requirement("operator.memory")
def test_names_without_a_known_owner_are_bounded_in_each_namespace_alone() -> None:
    waiting = WaitingObjects(most=3)
    for number in range(10):
        waiting.add("a", ObjectName("ConfigMap", "hostile", f"junk-{number}"))
    waiting.add("a", ObjectName("ConfigMap", "agents", "mine"))

    assert len(waiting.pop("a")) == 4
    assert waiting.pop("a") == []
    waiting.add("b", ObjectName("ConfigMap", "hostile", "now there is room"))
    assert len(waiting.pop("b")) == 1


def test_a_name_waits_for_the_owner_that_it_named_last() -> None:
    waiting, name = WaitingObjects(), ObjectName("ConfigMap", "agents", "one")
    waiting.add("a", name)
    waiting.add("b", name)
    assert (waiting.pop("a"), waiting.pop("b")) == ([], [name])
    waiting.add("a", name)
    waiting.add(None, name)
    assert waiting.pop("a") == []
    waiting.add("a", name)
    waiting.forget("Service")
    waiting.forget("ConfigMap")
    assert waiting.pop("a") == []
