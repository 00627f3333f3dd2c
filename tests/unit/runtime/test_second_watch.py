"""The second watch: what it says of switches, versions and deletions, from events that a test writes."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from interlock.runtime.second_watch import SecondWatch
from interlock_kube import watch
from interlock_kube.resource_types import AGENT, AGENT_POLICY, ResourceType
from interlock_kube.watch import ChangeEvent, ListEvent
from tests.requirements import requirement
from tests.support.builders import an_agent

KEY = ("agents", "triage")
Event = ListEvent | ChangeEvent


class Scene:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.saw: list[tuple[Any, ...]] = []
        self.gone: list[tuple[Any, ...]] = []
        self.switched: list[tuple[str, str]] = []
        self.watch = SecondWatch(
            None,
            saw=lambda *what: self.saw.append(what),
            gone=lambda *what: self.gone.append(what),
            switched=self.switched.append,
            ended=lambda: None,
        )

    async def follow(self, *events: Event, kind: ResourceType = AGENT) -> None:
        """Let the watch say this, and end."""

        async def follow(*_: Any) -> AsyncIterator[Event]:
            for event in events:
                yield event

        self.monkeypatch.setattr(watch, "follow", follow)
        client: Any = None
        await self.watch._follow(client, kind)  # noqa: SLF001 - one of the tasks of its thread


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def changed(**parts: Any) -> ChangeEvent:
    agent = an_agent()
    if "switch" in parts:
        agent = agent.killed(parts["switch"])
    manifest = agent.to_kubernetes()
    manifest["metadata"] |= {"resourceVersion": "7"} | parts.get("metadata", {})
    return ChangeEvent(parts.get("type", "MODIFIED"), manifest)


async def test_a_switch_is_seen_until_it_is_off(scene: Scene) -> None:
    await scene.follow(changed(switch="runaway"))
    assert scene.watch.kill_seen(KEY) == "runaway"

    await scene.follow(changed(switch="off"))
    assert scene.watch.kill_seen(KEY) is None


@requirement("kill.latched")
async def test_a_switch_that_was_taken_away_is_still_seen(scene: Scene) -> None:
    await scene.follow(changed(switch="runaway"), changed())

    assert scene.watch.kill_seen(KEY) == "runaway"


async def test_the_switch_of_an_agent_is_not_that_of_the_next_one_of_its_name(scene: Scene) -> None:
    await scene.follow(changed(switch="runaway"), changed(metadata={"uid": "another uid"}))

    assert scene.watch.kill_seen(KEY) is None


async def test_an_annotation_of_a_policy_is_no_switch(scene: Scene) -> None:
    await scene.follow(changed(switch="runaway"), kind=AGENT_POLICY)

    assert scene.watch.kill_seen(KEY) is None
    assert scene.saw == [("AgentPolicy", KEY, 7)]


async def test_a_deletion_is_reported_with_its_version(scene: Scene) -> None:
    await scene.follow(changed(switch="runaway"), changed(type="DELETED", metadata={"resourceVersion": "9"}))

    assert scene.gone == [("Agent", KEY, 9)]
    assert scene.watch.kill_seen(KEY) is None


async def test_a_list_reports_what_was_deleted_while_the_watch_was_disconnected(scene: Scene) -> None:
    other = changed().object
    other["metadata"] = other["metadata"] | {"name": "other"}

    await scene.follow(changed(), ListEvent((other,), is_first=True, is_last=False), ListEvent((), is_first=False))

    assert scene.gone == [("Agent", KEY, None)]


async def test_an_object_that_no_code_expects_is_skipped(scene: Scene) -> None:
    odd = {"metadata": {"name": "odd", "namespace": "agents"}}

    await scene.follow(ListEvent((odd, changed(switch="runaway").object)))

    assert scene.watch.kill_seen(KEY) == "runaway"


async def test_a_kill_and_a_release_are_reported_and_nothing_else(scene: Scene) -> None:
    await scene.follow(changed(), changed(switch="runaway"), changed(switch="runaway"), changed(switch="off"))

    assert scene.switched == [KEY, KEY]
