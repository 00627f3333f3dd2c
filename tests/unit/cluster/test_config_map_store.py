"""The ConfigMaps that Agents and MCPBindings refer to: only those are read, and each change wakes only its users."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from interlock.cluster.config_map_store import ConfigMapStore, User, names_in
from interlock.deployment.config_maps import LiveConfigMap
from interlock_kube import object_reader
from interlock_kube.client import AnswerTooLarge, ApiError, Json
from interlock_kube.resource_types import CONFIG_MAP
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.watched_objects import FakeServer, an_event

TRIAGE: User = ("Agent", ("agents", "triage"))
OTHER: User = ("Agent", ("agents", "other"))
CRM: User = ("MCPBinding", ("agents", "crm"))


def a_config_map(name: str, version: int = 1, namespace: str = "agents", **members: Any) -> Json:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version), **members.pop("metadata", {})}
    return {"metadata": metadata, "data": {"key": name}, **members}


@dataclass
class Stored:
    server: FakeServer
    store: ConfigMapStore
    changed: list[User] = field(default_factory=list)

    def found(self, *names: str) -> dict[str, LiveConfigMap | None]:
        return dict(self.store.of("agents", names))

    async def until_known(self, name: str) -> LiveConfigMap | None:
        await until(lambda: name in self.found(name), f"{name} is known")
        return self.found(name)[name]

    async def hear(self, kind: str, found: Json) -> None:
        await self.server.events.put(an_event(kind, found))

    async def until_text(self, name: str, text: str) -> None:
        def has_text() -> bool:
            live = self.found(name).get(name)
            return live is not None and live.content.data.get("key") == text

        await until(has_text, f"{name} has {text}")


@asynccontextmanager
async def stored(
    server: FakeServer, *users: tuple[User, str], most: int = 10_000, parsed: int = 10_000
) -> AsyncIterator[Stored]:
    """Run a store to which each user refers by one name before it begins."""
    changed: list[User] = []
    client: Any = server
    store = ConfigMapStore(client, changed.append, most=most, parsed=parsed)
    for user, name in users:
        store.refer(user, frozenset((name,)))
    running = asyncio.create_task(store.run())
    try:
        async with asyncio.timeout(5):
            await store.synced()
        changed.clear()
        yield Stored(server, store, changed)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@requirement("operator.memory")
async def test_only_what_is_referred_to_is_read_among_thousands() -> None:
    server = FakeServer()
    server.add(a_config_map("mine"), *(a_config_map(f"junk-{number}") for number in range(2000)))
    server.add(a_config_map("mine", namespace="elsewhere"))
    async with stored(server, (TRIAGE, "mine")) as known:
        assert server.reads == ["mine"]
        assert known.found("mine", "junk-1") == {"mine": known.found("mine")["mine"]}
        server.add(junk := a_config_map("junk-1", 5), mine := a_config_map("mine", 6, data={"key": "new"}))
        await known.hear("MODIFIED", junk)
        await known.hear("MODIFIED", mine)
        await known.until_text("mine", "new")
        assert server.reads == ["mine", "mine"]


@pytest.mark.parametrize(
    "name",
    [
        "../configmaps?watch=true",
        "x?watch=true",
        "../../elsewhere/configmaps/mine",
        "a/b",
        ".",
        "..",
        "x#y",
        "%2e",
        "X",
    ],
)
async def test_no_request_is_sent_for_a_text_that_names_no_object(name: str) -> None:
    server = FakeServer()
    server.add(a_config_map("mine", namespace="elsewhere"))
    async with stored(server, (TRIAGE, name)) as known:
        known.store.refer(OTHER, frozenset((name,)))
        assert known.found(name) == {name: None}
        known.store.refer(TRIAGE, frozenset())
        known.store.refer(OTHER, frozenset())
        assert known.found(name) == {}
    assert server.reads == []


async def test_a_change_wakes_its_users_alone_and_one_of_labels_wakes_nobody() -> None:
    server = FakeServer()
    server.add(a_config_map("shared"), a_config_map("own"))
    async with stored(server, (TRIAGE, "shared"), (CRM, "shared"), (OTHER, "own")) as known:
        server.add(labelled := a_config_map("shared", 5, metadata={"labels": {"team": "a"}}))
        await known.hear("MODIFIED", labelled)
        server.add(changed := a_config_map("shared", 6, data={"key": "new"}))
        await known.hear("MODIFIED", changed)
        await known.until_text("shared", "new")
        assert sorted(known.changed) == [TRIAGE, CRM]


async def test_a_content_is_parsed_once_until_it_changes_or_others_need_the_room() -> None:
    server = FakeServer()
    server.add(a_config_map("one"), a_config_map("two"))
    async with stored(server, (TRIAGE, "one"), (OTHER, "two"), parsed=60) as known:
        first, again = (known.found("one")["one"] for _ in range(2))
        assert first is not None
        assert again is not None
        assert again.content is first.content
        known.found("two")  # takes the room of the first one
        other = known.found("one")["one"]
        assert other is not None
        assert other.content == first.content
        assert other.content is not first.content
        server.add(changed := a_config_map("one", 5, data={"key": "new"}))
        await known.hear("MODIFIED", changed)
        await known.until_text("one", "new")


async def test_one_that_does_not_exist_is_known_as_missing_and_its_creation_wakes() -> None:
    server = FakeServer()
    async with stored(server, (TRIAGE, "late")) as known:
        assert known.found("late") == {"late": None}, "known before the first reconcile"
        server.add(late := a_config_map("late", 5))
        await known.hear("ADDED", late)
        await known.until_text("late", "late")
        await known.hear("DELETED", {"metadata": {**late["metadata"], "resourceVersion": "6"}})
        await until(lambda: known.found("late") == {"late": None}, "it is missing again")
        assert known.changed == [TRIAGE, TRIAGE]


async def test_a_new_reference_is_read_immediately_and_the_last_one_lost_forgets_it() -> None:
    server = FakeServer()
    server.add(a_config_map("one"))
    async with stored(server) as known:
        assert known.found("one") == {}, "not known is not missing"
        known.store.refer(TRIAGE, frozenset(("one", "two")))
        await known.until_known("two")
        await known.until_text("one", "one")
        assert known.changed.count(TRIAGE) == 2
        known.store.refer(OTHER, frozenset(("one",)))
        known.store.refer(TRIAGE, frozenset(("two",)))
        assert known.found("one", "two").keys() == {"one", "two"}
        known.store.refer(OTHER, frozenset())
        assert known.found("one", "two") == {"two": None}


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"app.kubernetes.io/managed-by": "interlock"}},
        {"ownerReferences": [{"apiVersion": "interlock.dev/v1alpha1", "kind": "Agent", "name": "other", "uid": "1"}]},
    ],
)
async def test_the_content_of_interlocks_own_is_not_even_kept(metadata: Json) -> None:
    server = FakeServer()
    server.add(a_config_map("bundle", metadata=metadata))
    async with stored(server, (TRIAGE, "bundle")) as known:
        found = known.found("bundle")["bundle"]
        assert found is not None
        assert "belongs to Interlock" in found.refusal
        assert found.content.keys == frozenset()


@requirement("operator.memory")
async def test_a_namespace_over_its_budget_says_so_and_has_room_again_after_a_deletion() -> None:
    server = FakeServer()
    large = a_config_map("large", 2, data={"key": "x" * 600})
    server.add(large, a_config_map("late", 3, data={"key": "y" * 600}))
    async with stored(server, (TRIAGE, "large"), most=1000) as known:
        known.store.refer(OTHER, frozenset(("late",)))
        refused = await known.until_known("late")
        assert refused is not None
        assert "take more than" in refused.refusal
        await known.hear("DELETED", {"metadata": {**large["metadata"], "resourceVersion": "9"}})
        await known.until_text("late", "y" * 600)


@pytest.mark.parametrize("error", [ApiError(403, "forbidden"), AnswerTooLarge("more than 16 MiB")])
async def test_one_that_cannot_be_read_says_why_and_is_read_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_reader, "BACKOFF_SECONDS", (0.05,))
    server = FakeServer()
    server.add(a_config_map("mine"))
    server.failures[CONFIG_MAP.path("agents", "mine")] = [error]
    async with stored(server) as known:
        known.store.refer(TRIAGE, frozenset(("mine",)))
        found = await known.until_known("mine")
        assert found is not None
        assert found.refusal == f"cannot be read: {error}"
        await known.until_text("mine", "mine")


def test_the_names_in_a_container_of_any_shape_are_found() -> None:
    container = {
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "k"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "not-this", "key": "k"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": 7}}},
        ],
        "envFrom": [{"configMapRef": {"name": "b"}}, "odd", None],
        "volumes": [{"configMap": {"name": "c"}}, {"projected": {"sources": [{"configMap": {"name": "d"}}]}}],
    }
    assert names_in(container) == {"a", "b", "c", "d"}
    assert names_in({"spec": {"template": container}}, "spec", "template") == {"a", "b", "c", "d"}
    assert names_in({"spec": "odd"}, "spec", "template") == frozenset()
    assert names_in(None) == names_in("odd") == names_in([[{}]]) == frozenset()
