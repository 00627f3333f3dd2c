import pytest

from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.cluster.resource_cache import ResourceCache
from interlock.reconcile.snapshot import Unreadable
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, an_agent

TRIAGE, OTHER, ELSEWHERE = ("agents", "triage"), ("agents", "other"), ("elsewhere", "triage")


@pytest.fixture
def known() -> ResourceCache:
    resources = ResourceCache()
    resources.put_agent(an_agent().to_kubernetes())
    resources.put_agent(an_agent("other").under("strict").using("mail").to_kubernetes())
    resources.put_agent(an_agent().in_namespace("elsewhere").to_kubernetes())
    return resources


@requirement("operator.late-events")
def test_an_older_agent_never_wins(known: ResourceCache) -> None:
    assert known.put_agent(an_agent().at_version(20).for_purpose("new").to_kubernetes())

    assert not known.put_agent(an_agent().at_version(19).for_purpose("old").to_kubernetes())
    assert not known.put_agent(an_agent().at_version(20).for_purpose("same").to_kubernetes())
    found = known.agent(TRIAGE)
    assert found is not None
    assert found["spec"]["purpose"] == "new"


def test_versions_are_compared_as_numbers(known: ResourceCache) -> None:
    known.put_agent(an_agent().at_version(9).to_kubernetes())

    assert known.put_agent(an_agent().at_version(10).to_kubernetes())


@requirement("governance.selector")
def test_a_change_of_labels_alone_is_a_change_of_an_agent(known: ResourceCache) -> None:
    assert known.put_agent(an_agent().labelled(team="support").at_version(2).to_kubernetes())


def test_an_older_policy_or_binding_never_wins_and_enqueues_no_agent(known: ResourceCache) -> None:
    assert known.put_policy(a_policy().at_version(20).to_kubernetes()) == {TRIAGE}
    assert known.put_policy(a_policy().at_version(19).giving_nothing().to_kubernetes()) == set()
    assert known.put_binding(a_binding().at_version(20).to_kubernetes()) == {TRIAGE}
    assert known.put_binding(a_binding().at_version(19).with_tools().to_kubernetes()) == set()

    policy = known.policy(("agents", "support"))
    assert isinstance(policy, AgentPolicy)
    assert policy.spec.data_access
    (binding,) = known.bindings("agents")
    assert isinstance(binding, MCPBinding)
    assert binding.spec.tools


def test_a_late_delete_event_does_not_remove_what_was_recreated(known: ResourceCache) -> None:
    known.put_agent(an_agent().at_version(20).to_kubernetes())
    known.put_policy(a_policy().at_version(20).to_kubernetes())
    known.put_binding(a_binding().at_version(20).to_kubernetes())

    assert not known.drop_agent(TRIAGE, 19)
    assert known.drop_policy(("agents", "support"), 19) == set()
    assert known.drop_binding(("agents", "crm"), 19) == set()

    assert known.agent(TRIAGE) is not None
    assert known.policy(("agents", "support")) is not None
    assert len(known.bindings("agents")) == 1


@pytest.mark.parametrize("version", [20, 21, None])
def test_what_was_deleted_is_forgotten_and_its_dependents_are_named(known: ResourceCache, version: int | None) -> None:
    known.put_policy(a_policy().at_version(20).to_kubernetes())
    known.put_binding(a_binding().at_version(20).to_kubernetes())

    assert known.drop_policy(("agents", "support"), version) == {TRIAGE}
    assert known.drop_binding(("agents", "crm"), version) == {TRIAGE}
    assert known.drop_agent(TRIAGE, version)

    assert known.policy(("agents", "support")) is None
    assert known.bindings("agents") == ()
    assert known.agents() == {OTHER, ELSEWHERE}


def test_forgetting_what_is_not_known_enqueues_nothing(known: ResourceCache) -> None:
    assert known.drop_policy(("agents", "support"), 1) == set()
    assert known.drop_binding(("agents", "crm"), 1) == set()
    assert known.drop_agent(("agents", "nobody"), 1)


def test_a_policy_concerns_the_agents_of_its_namespace_that_name_it(known: ResourceCache) -> None:
    assert known.put_policy(a_policy("strict").to_kubernetes()) == {OTHER}
    assert known.put_policy(a_policy().in_namespace("elsewhere").to_kubernetes()) == {ELSEWHERE}
    assert known.put_policy(a_policy("unused").to_kubernetes()) == set()


def test_a_binding_concerns_the_agents_of_its_namespace_that_use_its_source(known: ResourceCache) -> None:
    assert known.put_binding(a_binding().to_kubernetes()) == {TRIAGE}
    assert known.put_binding(a_binding("mail").serving("mail", "staging").to_kubernetes()) == {OTHER}
    assert known.put_binding(a_binding("wiki").serving("wiki", "staging").to_kubernetes()) == set()


def test_a_binding_that_changes_its_source_concerns_the_users_of_both(known: ResourceCache) -> None:
    known.put_binding(a_binding().to_kubernetes())

    assert known.put_binding(a_binding().serving("mail", "staging").at_version(2).to_kubernetes()) == {TRIAGE, OTHER}


@requirement("operator.unreadable")
def test_what_cannot_be_read_is_kept_with_why_and_a_binding_of_that_kind_concerns_all(known: ResourceCache) -> None:
    policy, binding = a_policy().to_kubernetes(), a_binding().to_kubernetes()
    policy["spec"]["dataAccess"] = "everything"
    binding["spec"]["environments"] = ["moon"]

    assert known.put_policy(policy) == {TRIAGE}
    assert known.put_binding(binding) == {TRIAGE, OTHER}

    unreadable = known.policy(("agents", "support"))
    assert isinstance(unreadable, Unreadable)
    assert (unreadable.kind, unreadable.name) == ("AgentPolicy", "support")
    assert unreadable.message.startswith("spec.dataAccess: ")
    assert "'everything'" in unreadable.message
    assert isinstance(known.bindings("agents")[0], Unreadable)


def test_an_agent_of_whatever_shape_is_kept() -> None:
    resources = ResourceCache()
    raw = an_agent().to_kubernetes()
    for spec in (None, {}, {"policyRef": None, "bindings": None}):
        raw["spec"] = spec
        raw["metadata"]["resourceVersion"] = str(int(raw["metadata"]["resourceVersion"]) + 1)

        assert resources.put_agent(raw)
    assert resources.agents() == {TRIAGE}


def test_managed_fields_are_not_kept_and_nothing_that_was_given_is_changed() -> None:
    resources, raw = ResourceCache(), an_agent().to_kubernetes()
    raw["metadata"]["managedFields"] = [{"manager": "kubectl"}]

    resources.put_agent(raw)

    assert raw["metadata"]["managedFields"]
    found = resources.agent(TRIAGE)
    assert found is not None
    assert "managedFields" not in found["metadata"]


def test_bindings_come_in_the_order_of_their_names(known: ResourceCache) -> None:
    for name in ("b", "c", "a"):
        known.put_binding(a_binding(name).to_kubernetes())

    assert [found.metadata.name for found in known.bindings("agents") if isinstance(found, MCPBinding)] == [
        "a",
        "b",
        "c",
    ]
