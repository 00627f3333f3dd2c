"""What the runtime does with what the watches tell: which agents are asked for, and what stays known."""

import asyncio
from typing import Any

import pytest

from interlock.cluster.resource_cache import Key
from interlock.runtime.app import App
from interlock.runtime.loop import WorkQueue
from interlock.settings import OperatorSettings
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, an_agent

TRIAGE = ("agents", "triage")


class Asked(WorkQueue[Key]):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Key] = []
        self.forgotten: list[Key] = []

    def add(self, key: Key) -> None:
        self.asked.append(key)

    def add_within(self, key: Key, seconds: float) -> None:
        assert 0 < seconds <= 2
        self.add(key)

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)

    def taken(self) -> list[Key]:
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
async def runtime() -> App:
    runtime = App(OperatorSettings())
    runtime.queue, runtime.policies = Asked(), Asked()
    runtime.take(AGENT, an_agent().at_version(10).to_kubernetes(), is_deleted=False)
    runtime.take(AGENT_POLICY, a_policy().at_version(11).to_kubernetes(), is_deleted=False)
    runtime.take(MCP_BINDING, a_binding().at_version(12).to_kubernetes(), is_deleted=False)
    asked(runtime)
    return runtime


def asked(runtime: App) -> list[Key]:
    queue: Any = runtime.queue
    taken: list[Key] = queue.taken()
    return taken


def reviewed(runtime: App) -> set[Key]:
    """Return the policies whose tables were asked for."""
    queue: Any = runtime.policies
    return set(queue.taken())


async def test_news_of_an_agent_its_policy_and_its_binding_ask_for_a_look(runtime: App) -> None:
    runtime.take(AGENT, an_agent().at_version(20).to_kubernetes(), is_deleted=False)
    runtime.take(AGENT_POLICY, a_policy().at_version(21).giving_nothing().to_kubernetes(), is_deleted=False)
    changed = a_binding().permitting(read=["contacts"])
    runtime.take(MCP_BINDING, changed.at_version(22).to_kubernetes(), is_deleted=False)
    runtime.take(MCP_BINDING, changed.unproven().at_version(23).to_kubernetes(), is_deleted=False)

    assert asked(runtime) == [TRIAGE] * 4


@requirement("operator.idle")
async def test_a_run_of_a_verification_asks_for_no_look_at_agents(runtime: App) -> None:
    told = a_binding().at_version(22).to_kubernetes()
    told["status"]["verification"]["run"] = {"number": 1, "plan": "x", "startedAt": "2026-03-02T08:00:00Z"}
    runtime.take(MCP_BINDING, told, is_deleted=False)

    assert asked(runtime) == []


@requirement("operator.idle")
async def test_a_policys_own_status_and_labels_ask_for_no_look_at_its_agents(runtime: App) -> None:
    told = a_policy().at_version(21).labelled(touched="yes").to_kubernetes() | {"status": {"observedGeneration": 1}}
    runtime.take(AGENT_POLICY, told, is_deleted=False)

    assert asked(runtime) == []
    known = runtime.primaries.policy_status(("agents", "support"))
    assert known is not None
    assert known.observed_generation == 1


@requirement("access.told")
async def test_an_agent_whose_spec_or_labels_change_asks_for_the_tables_that_it_was_and_is_in(runtime: App) -> None:
    reviewed(runtime)
    runtime.take(AGENT, an_agent().at_version(20).labelled(team="a").to_kubernetes(), is_deleted=False)
    assert reviewed(runtime) == {("agents", "support")}
    moved = an_agent().at_version(21).labelled(team="a").under("strict")
    runtime.take(AGENT, moved.to_kubernetes(), is_deleted=False)
    assert reviewed(runtime) == {("agents", "support"), ("agents", "strict")}
    grown = moved.at_version(22).to_kubernetes()
    grown["metadata"]["generation"] += 1
    runtime.take(AGENT, grown, is_deleted=False)
    assert reviewed(runtime) == {("agents", "strict")}
    runtime.take(AGENT, moved.at_version(23).to_kubernetes(), is_deleted=True)
    assert reviewed(runtime) == {("agents", "strict")}


@requirement("access.told", "operator.idle")
async def test_an_agents_status_and_annotations_ask_for_no_table(runtime: App) -> None:
    reviewed(runtime)
    told = an_agent().at_version(20).killed().to_kubernetes() | {"status": {"observedGeneration": 1}}
    runtime.take(AGENT, told, is_deleted=False)
    assert reviewed(runtime) == set()


@requirement("access.told")
async def test_a_policy_and_a_binding_ask_for_the_tables_that_they_are_in(runtime: App) -> None:
    reviewed(runtime)
    runtime.take(AGENT_POLICY, a_policy("lonely").at_version(20).to_kubernetes(), is_deleted=False)
    assert reviewed(runtime) == {("agents", "lonely")}
    changed = a_binding().permitting(read=["contacts"])
    runtime.take(MCP_BINDING, changed.at_version(21).to_kubernetes(), is_deleted=False)
    assert reviewed(runtime) == {("agents", "support")}
    runtime.take(MCP_BINDING, a_binding().at_version(22).to_kubernetes(), is_deleted=True)
    assert reviewed(runtime) == {("agents", "support")}
    runtime.take(
        MCP_BINDING, a_binding("mail").serving("mail", "development").at_version(23).to_kubernetes(), is_deleted=False
    )
    assert reviewed(runtime) == set()


@requirement("operator.late-news")
async def test_what_is_known_already_asks_for_no_look(runtime: App) -> None:
    runtime.take(AGENT, an_agent().at_version(10).to_kubernetes(), is_deleted=False)
    runtime.take(AGENT_POLICY, a_policy().at_version(9).to_kubernetes(), is_deleted=False)

    assert asked(runtime) == []


async def test_a_policy_or_binding_that_goes_asks_for_a_look_at_whoever_stood_on_it(runtime: App) -> None:
    runtime.take(AGENT_POLICY, a_policy().at_version(21).to_kubernetes(), is_deleted=True)
    runtime.take(MCP_BINDING, a_binding().at_version(22).to_kubernetes(), is_deleted=True)

    assert asked(runtime) == [TRIAGE] * 2


async def test_an_agent_that_goes_is_forgotten(runtime: App) -> None:
    runtime.take(AGENT, an_agent().at_version(20).to_kubernetes(), is_deleted=True)

    assert runtime.primaries.agents() == set()
    assert TRIAGE in runtime.queue.forgotten  # type: ignore[attr-defined]


@requirement("operator.late-news")
async def test_an_agent_made_anew_is_kept_when_the_end_of_the_old_one_is_told_late(runtime: App) -> None:
    runtime.take(AGENT, an_agent().at_version(30).to_kubernetes(), is_deleted=False)

    runtime.take(AGENT, an_agent().at_version(20).to_kubernetes(), is_deleted=True)

    assert runtime.primaries.agents() == {TRIAGE}
    assert TRIAGE not in runtime.queue.forgotten  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", [20, None])
async def test_what_the_kill_paths_watch_saw_go_is_forgotten(runtime: App, version: int | None) -> None:
    runtime._gone_elsewhere("Agent", TRIAGE, version)  # noqa: SLF001 - called from the kill path's thread
    await asyncio.sleep(0)

    assert runtime.primaries.agents() == set()
