"""The users of pods by namespace, followed by annotations, against a fake of the Client."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from interlock.cluster.namespace_users import NamespaceUsers
from interlock.deployment.pod_users import DEFAULT_USERS, UID_RANGE, users_of
from interlock_contract.names import HOLD_GUARD_UPDATES
from interlock_kube.client import METADATA_LIST, Json
from tests.requirements import requirement
from tests.support.bounds import until

RANGE = {UID_RANGE: "1000680000/10000"}


def a_namespace(name: str, annotations: Json | None = None, version: int = 1) -> Json:
    return {"metadata": {"name": name, "resourceVersion": str(version), "annotations": annotations}}


class FakeServer:
    """A list of namespaces and the events of one watch."""

    def __init__(self, *namespaces: Json) -> None:
        self.namespaces = list(namespaces)
        self.events: asyncio.Queue[Json] = asyncio.Queue()

    async def get(self, path: str, _query: Any = None, *, accept: str = "", most: int = 0) -> Json:
        assert (path, accept) == ("/api/v1/namespaces", METADATA_LIST), "their specs are not needed"
        assert most > 0
        return {"items": self.namespaces, "metadata": {"resourceVersion": "100"}}

    async def lines(self, _path: str, _query: Any, **_: Any) -> AsyncIterator[Json]:
        while True:
            yield await self.events.get()


class Scene:
    def __init__(self, *namespaces: Json) -> None:
        self.server, self.changed = FakeServer(*namespaces), list[str]()
        self.users = NamespaceUsers(self.server, self.changed.append)  # type: ignore[arg-type]

    @contextmanager
    def running(self) -> Iterator[None]:
        task = asyncio.create_task(self.users.run())
        try:
            yield
        finally:
            task.cancel()

    def send(self, kind: str, found: Json) -> None:
        self.server.events.put_nowait({"type": kind, "object": found})


@requirement("pods.users")
async def test_the_users_of_a_namespace_follow_its_annotation_and_a_change_is_reported_once() -> None:
    scene = Scene(a_namespace("team-a", RANGE), a_namespace("team-b"), a_namespace("team-c", {"x": "y"}))
    with scene.running():
        await scene.users.synced()
        assert scene.users.of("team-a") == users_of(RANGE) != DEFAULT_USERS
        assert scene.users.of("team-b") == scene.users.of("unknown") == DEFAULT_USERS
        assert scene.changed == ["team-a"]

        scene.send("MODIFIED", a_namespace("team-a", {**RANGE, "x": "y"}, 101))
        scene.send("MODIFIED", a_namespace("team-b", RANGE, 102))
        scene.send("MODIFIED", a_namespace("team-a", {}, 103))
        await until(lambda: len(scene.changed) == 3, "three changes")
        assert scene.changed == ["team-a", "team-b", "team-a"]
        assert scene.users.of("team-a") == DEFAULT_USERS


@requirement("pods.users")
async def test_a_namespace_that_is_gone_is_forgotten_and_one_that_cannot_be_read_harms_no_other() -> None:
    scene = Scene(a_namespace("team-a", RANGE), a_namespace("team-b", {UID_RANGE: ["no", "text"]}))
    with scene.running():
        await scene.users.synced()
        scene.send("DELETED", a_namespace("team-a", RANGE, 101))
        scene.send("ADDED", a_namespace("team-d", RANGE, 102))
        await until(lambda: "team-d" in scene.changed, "the last change")
        assert scene.users.of("team-a") == scene.users.of("team-b") == DEFAULT_USERS


async def test_a_namespace_holds_its_guards_by_any_value_but_off_and_a_change_is_reported_once() -> None:
    scene, reported = Scene(a_namespace("team-a", {HOLD_GUARD_UPDATES: "on"}), a_namespace("team-b")), list[str]()
    scene.users.on_hold = reported.append
    with scene.running():
        await scene.users.synced()
        assert (scene.users.holds_guards("team-a"), scene.users.holds_guards("team-b")) == (True, False)
        assert reported == ["team-a"]

        scene.send("MODIFIED", a_namespace("team-a", {HOLD_GUARD_UPDATES: "until Monday"}, 101))
        scene.send("MODIFIED", a_namespace("team-b", {HOLD_GUARD_UPDATES: ""}, 102))
        scene.send("MODIFIED", a_namespace("team-a", {HOLD_GUARD_UPDATES: "off"}, 103))
        scene.send("DELETED", a_namespace("team-b", {HOLD_GUARD_UPDATES: ""}, 104))
        await until(lambda: len(reported) == 4, "all changes")
        assert reported == ["team-a", "team-b", "team-a", "team-b"]
        assert not scene.users.holds_guards("team-a")
        assert not scene.users.holds_guards("team-b")
