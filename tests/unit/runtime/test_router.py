"""Which events wake whom: the table, and what the router makes of it; and what stays known."""

import asyncio
from typing import Any

import pytest

from interlock.cluster.resource_cache import ResourceCache
from interlock.runtime.app import App
from interlock.runtime.router import ROUTES, Event, Router, Target
from interlock.settings import OperatorSettings
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING, Key, ResourceType
from tests.requirements import requirement
from tests.support.builders import PolicyBuilder, a_binding, a_policy, an_agent
from tests.support.enqueued import Enqueued

TRIAGE = ("agents", "triage")
CRM = ("agents", "crm")
SUPPORT = ("agents", "support")


class Routed:
    """A router whose queues say what was added."""

    def __init__(self) -> None:
        self.cache = ResourceCache()
        self.agents, self.policies, self.bindings = Enqueued(), Enqueued(), Enqueued()
        self.ledgers = Enqueued()
        self.router = Router(self.cache, self.agents, self.policies, self.bindings, self.ledgers)
        self.router.ledgers_of = lambda agent: [(agent[0], f"{agent[1]}.staging")]

    def handle(self, kind: ResourceType, raw: dict[str, Any], *, is_deleted: bool) -> None:
        if is_deleted:
            metadata = raw["metadata"]
            key = metadata["namespace"], metadata["name"]
            self.router.handle_deletion(kind, key, int(metadata["resourceVersion"]))
        else:
            self.router.handle_object(kind, raw)

    def woken(self) -> dict[str, set[Key]]:
        queues = {"agents": self.agents, "policies": self.policies, "bindings": self.bindings, "ledgers": self.ledgers}
        return {name: keys for name, queue in queues.items() if (keys := set(queue.taken()))}


@pytest.fixture
def runtime() -> Routed:
    runtime = Routed()
    runtime.handle(AGENT, an_agent().at_version(10).to_kubernetes(), is_deleted=False)
    runtime.handle(AGENT_POLICY, a_policy().at_version(11).to_kubernetes(), is_deleted=False)
    runtime.handle(MCP_BINDING, a_binding().at_version(12).to_kubernetes(), is_deleted=False)
    runtime.woken()
    return runtime


def asked(runtime: Routed) -> list[Key]:
    return runtime.agents.taken()


def reviewed(runtime: Routed) -> set[Key]:
    """Return the policies whose tables were enqueued."""
    return set(runtime.policies.taken())


OTHER = ("agents", "other")
LEDGERS = {("agents", "triage.staging"), ("agents", "other.staging")}

WAKES: dict[Event, dict[str, set[Key]]] = {
    Event.AGENT_CHANGED: {"agents": {OTHER}, "ledgers": LEDGERS},
    Event.AGENT_SUMMARY_CHANGED: {"policies": {SUPPORT}},
    Event.AGENT_USES_CHANGED: {"bindings": {OTHER}},
    Event.AGENT_CLAIMS_CHANGED: {"agents": {TRIAGE}},
    Event.POLICY_CHANGED: {"policies": {OTHER}},
    Event.POLICY_SPEC_CHANGED: {"agents": {TRIAGE}, "policies": {SUPPORT}, "ledgers": LEDGERS},
    Event.BINDING_CHANGED: {"bindings": {OTHER}},
    Event.BINDING_GRANTS_CHANGED: {"agents": {TRIAGE}, "policies": {SUPPORT}},
    Event.CONFIG_MAP_OF_AGENT_CHANGED: {"agents": {OTHER}},
    Event.CONFIG_MAP_OF_BINDING_CHANGED: {"agents": {TRIAGE}, "bindings": {OTHER}},
    Event.AGENT_CHILD_CHANGED: {"agents": {OTHER}},
    Event.BINDING_CHILD_CHANGED: {"bindings": {OTHER}},
    Event.POLICY_CHILD_CHANGED: {"policies": {OTHER}},
    Event.AGENT_PODS_CHANGED: {"agents": {OTHER}, "ledgers": LEDGERS},
    Event.LEDGER_CHANGED: {"ledgers": {OTHER}},
    Event.DRIFT_REPORTED: {"bindings": {OTHER}},
    Event.EGRESS_PROXY_CHANGED: {"bindings": {CRM}},
    Event.USERS_CHANGED: {"agents": {TRIAGE}, "bindings": {CRM}, "policies": {SUPPORT}},
    Event.NODES_CHANGED: {},  # the policy of triage opens no addresses
    Event.API_SERVER_MOVED: {"agents": {TRIAGE}, "bindings": {CRM}, "policies": {("agents", "support")}},
}


@pytest.mark.parametrize("event", Event)
def test_each_event_of_the_table_wakes_whom_it_must(runtime: Routed, event: Event) -> None:
    """The event is one of an object "other", and concerns the known Agent triage, which is under the policy support."""
    runtime.router.wake(event, OTHER, agents=[TRIAGE])

    assert runtime.woken() == WAKES[event]


@pytest.mark.parametrize(("mode", "woken"), [("Audit", {TRIAGE}), ("Enforce", set())])
def test_a_policy_that_holds_an_environment_to_a_stricter_class_wakes_agents_of_policies_with_mode_audit(
    runtime: Routed, mode: str, woken: set[Key]
) -> None:
    lab = {"name": "lab", "class": "development"}
    auditing = a_policy().declaring(lab, {"name": "development", "mode": mode}).at_version(20)
    runtime.handle(AGENT_POLICY, auditing.to_kubernetes(), is_deleted=False)
    runtime.woken()

    def handle(policy: PolicyBuilder, version: int, *, is_deleted: bool = False) -> set[Key]:
        runtime.handle(AGENT_POLICY, policy.at_version(version).to_kubernetes(), is_deleted=is_deleted)
        return set(asked(runtime))

    other = a_policy("other")
    assert handle(other.declaring(lab), 21) == set()
    assert handle(other.declaring(lab | {"class": "production"}), 22) == woken
    assert handle(other.declaring(lab | {"class": "production", "dailyBudget": "7"}), 23) == set()
    assert handle(other, 24, is_deleted=True) == woken


def test_a_config_map_wakes_the_agent_that_refers_to_it_or_the_binding_and_the_agents_that_it_serves(
    runtime: Routed,
) -> None:
    runtime.router.handle_config_map(AGENT.kind, OTHER)
    assert runtime.woken() == {"agents": {OTHER}}
    runtime.router.handle_config_map(MCP_BINDING.kind, CRM)
    assert runtime.woken() == {"agents": {TRIAGE}, "bindings": {CRM}}


def test_the_cache_tells_which_config_maps_an_agent_or_a_binding_refers_to(runtime: Routed) -> None:
    told: dict[tuple[str, Key], frozenset[str]] = {}
    runtime.cache.on_config_maps = lambda kind, key, names: told.update({(kind, key): names})
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]
    agent, binding = an_agent().with_template(env=env).at_version(30), a_binding().with_server(env=env).at_version(31)
    runtime.handle(AGENT, agent.to_kubernetes(), is_deleted=False)
    runtime.handle(MCP_BINDING, binding.to_kubernetes(), is_deleted=False)
    assert told == dict.fromkeys(((AGENT.kind, TRIAGE), (MCP_BINDING.kind, CRM)), frozenset(("settings",)))
    runtime.handle(AGENT, agent.at_version(32).to_kubernetes(), is_deleted=True)
    runtime.handle(MCP_BINDING, binding.at_version(33).to_kubernetes(), is_deleted=True)
    assert set(told.values()) == {frozenset()}


def test_the_table_has_each_event_once_and_every_target_is_used() -> None:
    assert set(ROUTES) == set(Event)
    assert {target for targets in ROUTES.values() for target in targets} == set(Target)


def test_events_of_an_agent_its_policy_and_its_binding_enqueue_the_agent(runtime: Routed) -> None:
    runtime.handle(AGENT, an_agent().at_version(20).to_kubernetes(), is_deleted=False)
    runtime.handle(AGENT_POLICY, a_policy().at_version(21).giving_nothing().to_kubernetes(), is_deleted=False)
    changed = a_binding().permitting(read=["contacts"])
    runtime.handle(MCP_BINDING, changed.at_version(22).to_kubernetes(), is_deleted=False)
    runtime.handle(MCP_BINDING, changed.unverified().at_version(23).to_kubernetes(), is_deleted=False)

    assert asked(runtime) == [TRIAGE] * 4


def edited(raw: dict[str, Any], generation: int = 2) -> dict[str, Any]:
    """Return an object as a user has changed its spec."""
    return {**raw, "metadata": {**raw["metadata"], "generation": generation}}


POLICY_EDIT = edited(a_policy().giving_nothing().at_version(20).to_kubernetes())
BINDING_EDIT = edited(a_binding().permitting(read=["contacts"]).at_version(20).to_kubernetes())


@requirement("operator.woken")
@pytest.mark.parametrize(
    ("kind", "raw"), [(AGENT_POLICY, POLICY_EDIT), (MCP_BINDING, BINDING_EDIT)], ids=["policy", "binding"]
)
def test_an_edit_that_comes_with_the_answer_to_a_write_wakes_what_its_event_would(
    runtime: Routed, kind: ResourceType, raw: dict[str, Any]
) -> None:
    """The event of such an edit has a version that is known by then, so that its object is not read again."""
    other = Routed()
    for one, build in ((AGENT, an_agent), (AGENT_POLICY, a_policy), (MCP_BINDING, a_binding)):
        other.handle(one, build().at_version(10).to_kubernetes(), is_deleted=False)
    other.woken()
    other.handle(kind, raw, is_deleted=False)

    assert runtime.router.handle_answer(kind, raw)

    assert runtime.woken() == other.woken()
    assert not runtime.cache.is_newer(kind.kind, (raw["metadata"]["namespace"], raw["metadata"]["name"]), 20)


@requirement("operator.woken")
@pytest.mark.parametrize("kind", [AGENT_POLICY, MCP_BINDING])
def test_an_object_that_cannot_be_read_is_woken_by_the_edit_that_comes_with_the_answer_to_a_write(
    runtime: Routed, kind: ResourceType
) -> None:
    raw = POLICY_EDIT if kind is AGENT_POLICY else BINDING_EDIT
    runtime.handle(kind, {**edited(raw, 1), "spec": {}}, is_deleted=False)
    runtime.woken()
    later = {**edited(raw), "metadata": {**edited(raw)["metadata"], "resourceVersion": "21"}}

    runtime.router.handle_answer(kind, later)

    assert runtime.woken()["policies" if kind is AGENT_POLICY else "bindings"]


def test_the_answer_to_a_write_of_a_status_alone_wakes_nothing(runtime: Routed) -> None:
    assert runtime.router.handle_answer(AGENT_POLICY, a_policy().at_version(20).to_kubernetes())
    assert runtime.router.handle_answer(MCP_BINDING, a_binding().at_version(20).to_kubernetes())
    assert runtime.woken() == {}


@pytest.mark.parametrize("kind", [AGENT_POLICY, MCP_BINDING])
def test_the_answer_to_a_write_is_not_kept_where_the_object_was_deleted_meanwhile(kind: ResourceType) -> None:
    router = Routed()

    assert not router.router.handle_answer(kind, POLICY_EDIT if kind is AGENT_POLICY else BINDING_EDIT)

    assert router.woken() == {}
    assert (router.cache.policy_keys(), router.cache.binding_keys()) == (set(), set())


@requirement("pods.users")
def test_other_users_of_a_namespace_wake_all_of_it_and_nothing_else(runtime: Routed) -> None:
    elsewhere = an_agent().in_namespace("elsewhere").at_version(30).to_kubernetes()
    runtime.handle(AGENT, elsewhere, is_deleted=False)
    runtime.woken()

    runtime.router.wake_namespace(Event.USERS_CHANGED, "agents")

    assert runtime.woken() == {"agents": {TRIAGE}, "bindings": {CRM}, "policies": {SUPPORT}}


@requirement("proxy.verified")
def test_another_egress_proxy_wakes_the_bindings_and_other_changes_of_a_policy_do_not(runtime: Routed) -> None:
    def put(version: int, policy: Any) -> set[Key]:
        runtime.handle(AGENT_POLICY, policy.at_version(version).to_kubernetes(), is_deleted=False)
        return runtime.woken().get("bindings", set())

    proxied = a_policy().through_proxy()
    assert put(21, a_policy().requiring(minStaging="1h")) == set()
    assert put(22, proxied) == {CRM}
    assert put(23, proxied.requiring(minStaging="1h")) == set()
    assert put(24, proxied.giving("triage", "mail", read=["mails"])) == {CRM}
    assert put(25, a_policy().through_proxy("http://other.example.com:3128")) == {CRM}
    runtime.handle(AGENT_POLICY, a_policy().at_version(26).to_kubernetes(), is_deleted=True)
    assert runtime.woken()["bindings"] == {CRM}


def test_a_row_of_a_policy_that_withholds_nothing_wakes_the_bindings_that_others_may_withhold(runtime: Routed) -> None:
    given = a_policy().giving("triage", "mail", read=["mails"]).at_version(21).to_kubernetes()
    runtime.handle(AGENT_POLICY, given, is_deleted=False)
    assert runtime.woken()["bindings"] == {CRM}


@requirement("operator.idle")
def test_a_run_of_a_verification_enqueues_no_agent(runtime: Routed) -> None:
    observed = a_binding().at_version(22).to_kubernetes()
    observed["status"]["verification"]["run"] = {"number": 1, "plan": "x", "startedAt": "2026-03-02T08:00:00Z"}
    runtime.handle(MCP_BINDING, observed, is_deleted=False)

    assert asked(runtime) == []


@requirement("operator.idle")
def test_a_policys_own_status_and_labels_enqueue_none_of_its_agents(runtime: Routed) -> None:
    observed = a_policy().at_version(21).labelled(touched="yes").to_kubernetes() | {"status": {"observedGeneration": 1}}
    runtime.handle(AGENT_POLICY, observed, is_deleted=False)

    assert asked(runtime) == []
    known = runtime.cache.policy_status(("agents", "support"))
    assert known is not None
    assert known.observed_generation == 1


@requirement("access.reported")
def test_an_agent_whose_spec_or_labels_change_enqueues_its_old_and_new_access_tables(runtime: Routed) -> None:
    reviewed(runtime)
    runtime.handle(AGENT, an_agent().at_version(20).labelled(team="a").to_kubernetes(), is_deleted=False)
    assert reviewed(runtime) == {("agents", "support")}
    moved = an_agent().at_version(21).labelled(team="a").under("strict")
    runtime.handle(AGENT, moved.to_kubernetes(), is_deleted=False)
    assert reviewed(runtime) == {("agents", "support"), ("agents", "strict")}
    grown = moved.at_version(22).to_kubernetes()
    grown["metadata"]["generation"] += 1
    runtime.handle(AGENT, grown, is_deleted=False)
    assert reviewed(runtime) == {("agents", "strict")}
    runtime.handle(AGENT, moved.at_version(23).to_kubernetes(), is_deleted=True)
    assert reviewed(runtime) == {("agents", "strict")}


@requirement("access.reported", "operator.idle")
def test_an_agents_status_and_annotations_enqueue_no_access_table(runtime: Routed) -> None:
    reviewed(runtime)
    observed = an_agent().at_version(20).killed().to_kubernetes() | {"status": {"observedGeneration": 1}}
    runtime.handle(AGENT, observed, is_deleted=False)
    assert reviewed(runtime) == set()


@requirement("access.reported")
def test_a_policy_and_a_binding_enqueue_the_access_tables_that_they_are_in(runtime: Routed) -> None:
    reviewed(runtime)
    runtime.handle(AGENT_POLICY, a_policy("lonely").at_version(20).to_kubernetes(), is_deleted=False)
    assert reviewed(runtime) == {("agents", "lonely")}
    changed = a_binding().permitting(read=["contacts"])
    runtime.handle(MCP_BINDING, changed.at_version(21).to_kubernetes(), is_deleted=False)
    assert reviewed(runtime) == {("agents", "support")}
    runtime.handle(MCP_BINDING, a_binding().at_version(22).to_kubernetes(), is_deleted=True)
    assert reviewed(runtime) == {("agents", "support")}
    runtime.handle(
        MCP_BINDING, a_binding("mail").serving("mail", "development").at_version(23).to_kubernetes(), is_deleted=False
    )
    assert reviewed(runtime) == set()


@requirement("operator.late-events")
def test_what_is_known_already_enqueues_no_agent(runtime: Routed) -> None:
    runtime.handle(AGENT, an_agent().at_version(10).to_kubernetes(), is_deleted=False)
    runtime.handle(AGENT_POLICY, a_policy().at_version(9).to_kubernetes(), is_deleted=False)

    assert asked(runtime) == []


def test_a_policy_or_binding_that_is_deleted_enqueues_its_dependents(runtime: Routed) -> None:
    runtime.handle(AGENT_POLICY, a_policy().at_version(21).to_kubernetes(), is_deleted=True)
    runtime.handle(MCP_BINDING, a_binding().at_version(22).to_kubernetes(), is_deleted=True)

    assert asked(runtime) == [TRIAGE] * 2


def test_an_agent_that_goes_is_forgotten_and_its_reconcile_ends_its_back_off(runtime: Routed) -> None:
    runtime.handle(AGENT, an_agent().at_version(20).to_kubernetes(), is_deleted=True)

    assert runtime.cache.agents() == set()
    assert asked(runtime) == [TRIAGE]


def test_a_policy_and_a_binding_that_go_end_their_own_back_off(runtime: Routed) -> None:
    runtime.handle(AGENT_POLICY, a_policy().at_version(20).to_kubernetes(), is_deleted=True)
    assert SUPPORT in runtime.woken()["policies"]
    runtime.handle(MCP_BINDING, a_binding().at_version(20).to_kubernetes(), is_deleted=True)
    assert runtime.woken()["bindings"] == {CRM}


@requirement("operator.late-events")
def test_a_recreated_agent_is_kept_when_the_delete_event_of_the_old_one_is_late(runtime: Routed) -> None:
    runtime.handle(AGENT, an_agent().at_version(30).to_kubernetes(), is_deleted=False)
    asked(runtime)

    runtime.handle(AGENT, an_agent().at_version(20).to_kubernetes(), is_deleted=True)

    assert runtime.cache.agents() == {TRIAGE}
    assert asked(runtime) == []


@pytest.mark.parametrize("version", [20, None])
async def test_what_the_kill_paths_watch_saw_go_is_forgotten(version: int | None) -> None:
    app = App(OperatorSettings())
    app.handle(AGENT, an_agent().at_version(10).to_kubernetes(), is_deleted=False)

    app._gone_elsewhere("Agent", TRIAGE, version)  # noqa: SLF001 - called from the second watch's thread
    await asyncio.sleep(0)

    assert app._cache.agents() == set()  # noqa: SLF001 - what it knows
