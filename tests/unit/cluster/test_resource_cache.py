import json
import secrets
from typing import Any

import pytest

from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.cluster import resource_cache
from interlock.cluster.object_parser import parse_agent
from interlock.cluster.resource_cache import ResourceCache
from interlock.reconcile.snapshot import Unreadable
from interlock_kube.resource_types import Key
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


@pytest.mark.parametrize("field", ["tools", "prompts", "instructions"])
@requirement("drift.accepted")
def test_an_accept_of_any_definition_concerns_the_agents_that_use_the_binding(known: ResourceCache, field: str) -> None:
    raw = a_binding().to_kubernetes()
    versions = (10 + number for number in range(3))

    def put(digest: str) -> set[Key]:
        definition = {"name": "one", "state": "Verified", "digest": digest, "pinnedDigest": digest}
        raw["metadata"]["resourceVersion"] = str(next(versions))
        raw["status"]["verification"][field] = definition if field == "instructions" else [definition]
        return known.put_binding(json.loads(json.dumps(raw)))

    assert put("1" * 64) == {TRIAGE}
    assert put("1" * 64) == set()
    assert put("2" * 64) == {TRIAGE}


def test_the_judgement_of_a_new_spec_of_a_binding_concerns_the_agents_that_wait_for_it(known: ResourceCache) -> None:
    raw = a_binding().to_kubernetes()
    known.put_binding(json.loads(json.dumps(raw)))
    raw["metadata"] |= {"generation": raw["metadata"]["generation"] + 1, "resourceVersion": "11"}
    raw["spec"]["environments"] = [*raw["spec"]["environments"], "another"]
    assert known.put_binding(json.loads(json.dumps(raw))) == {TRIAGE}
    raw["metadata"]["resourceVersion"] = "12"
    raw["status"]["observedGeneration"] = raw["metadata"]["generation"]
    assert known.put_binding(json.loads(json.dumps(raw))) == {TRIAGE}, "all else of its status is as before"


def test_a_binding_that_changes_its_source_concerns_the_users_of_both(known: ResourceCache) -> None:
    known.put_binding(a_binding().to_kubernetes())

    assert known.put_binding(a_binding().serving("mail", "staging").at_version(2).to_kubernetes()) == {TRIAGE, OTHER}


@requirement("operator.unreadable")
def test_what_cannot_be_read_is_kept_with_why_and_concerns_the_agents_that_depend_on_it(known: ResourceCache) -> None:
    policy, binding = a_policy().to_kubernetes(), a_binding().to_kubernetes()
    policy["spec"]["dataAccess"] = "everything"
    binding["spec"]["environments"] = ["The Moon"]

    assert known.put_policy(policy) == {TRIAGE}
    assert known.put_binding(binding) == {TRIAGE}
    nameless = a_binding("nameless").to_kubernetes()
    nameless["spec"]["source"] = 1
    assert known.put_binding(nameless) == {TRIAGE, OTHER}

    unreadable = known.policy(("agents", "support"))
    assert isinstance(unreadable, Unreadable)
    assert (unreadable.kind, unreadable.name) == ("AgentPolicy", "support")
    assert unreadable.message.startswith("spec.dataAccess: ")
    assert "'everything'" in unreadable.message
    assert isinstance(known.bindings("agents")[0], Unreadable)


@requirement("operator.unreadable")
def test_what_can_be_read_of_a_policy_or_binding_concerns_its_agents_and_its_status_does_not(
    known: ResourceCache,
) -> None:
    def put(raw: dict[str, Any], version: int, **spec: Any) -> set[Key]:
        raw = json.loads(json.dumps({**raw, "spec": {**raw["spec"], **spec}}))
        raw["metadata"]["resourceVersion"] = str(version)
        return known.put_policy(raw) if raw["kind"] == "AgentPolicy" else known.put_binding(raw)

    policy = a_policy().with_resources(default={"memory": 0}).to_kubernetes()
    binding = a_binding().with_server(envFrom=[{"prefix": "=", "configMapRef": {"name": "a"}}]).to_kubernetes()
    for raw, changed in ((policy, {"dataAccess": []}), (binding, {"tools": []})):
        assert put(raw, 21) == {TRIAGE}
        found = known.policy(("agents", "support")) if raw is policy else known.bindings("agents")[0]
        assert isinstance(found, Unreadable)
        assert found.rest is not None
        assert put(raw, 22) == set(), "no more than its status has changed"
        assert put(raw, 23, **changed) == {TRIAGE}


def test_an_agent_of_whatever_shape_is_kept() -> None:
    resources = ResourceCache()
    raw = an_agent().to_kubernetes()
    for spec in (None, {}, {"policyRef": None, "bindings": None}):
        raw["spec"] = spec
        raw["metadata"]["resourceVersion"] = str(int(raw["metadata"]["resourceVersion"]) + 1)

        assert resources.put_agent(raw)
    assert resources.agents() == {TRIAGE}


def an_entry(manager: str, time: str, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"f:spec": {"f:purpose": {}}}
    return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields, **more}


@pytest.mark.parametrize(
    ("managed", "kept"),
    [
        ([an_entry("argocd", "2026-03-02T09:00:00Z"), an_entry("kubectl", "2026-03-02T08:00:00Z")], "argocd"),
        ([an_entry("argocd", "2026-03-02T08:00:00Z"), an_entry("kubectl", "2026-03-02T09:00:00Z")], "kubectl"),
        ([an_entry("argocd", "x"), an_entry("interlock", "y", subresource="status")], "argocd"),
        ([an_entry("argocd", "x"), an_entry("kubectl-annotate", "y", fieldsV1={"f:metadata": {}})], "argocd"),
        ([an_entry("a" * 2000, "x")], "a" * 1024),
        ([{"manager": "kubectl"}, an_entry("kubectl", "y", fieldsV1=1), "x"], None),
        ({}, None),
    ],
)
def test_of_managed_fields_the_manager_is_kept_that_changed_the_spec_last(managed: Any, kept: str | None) -> None:
    resources, raw = ResourceCache(), an_agent().to_kubernetes()
    raw["metadata"]["managedFields"] = managed

    resources.put_agent(raw)

    assert raw["metadata"]["managedFields"] is managed  # nothing that was given is changed
    found = resources.agent(TRIAGE)
    assert found is not None
    assert found["metadata"].get("managedFields") == (None if kept is None else [{"manager": kept}])


def test_bindings_come_in_the_order_of_their_names(known: ResourceCache) -> None:
    for name in ("b", "c", "a"):
        known.put_binding(a_binding(name).to_kubernetes())

    assert [found.metadata.name for found in known.bindings("agents") if isinstance(found, MCPBinding)] == [
        "a",
        "b",
        "c",
    ]


@requirement("operator.memory")
@pytest.mark.parametrize("name", ["example.com/x", "interlock.dev/x", "interlock.dev/kill-switch-by"])
def test_annotations_that_the_operator_does_not_read_are_not_kept(name: str) -> None:
    resources, raw = ResourceCache(), an_agent().to_kubernetes()
    raw["metadata"]["annotations"] = {"interlock.dev/kill-switch": "off", name: "y" * 1000}

    resources.put_agent(raw)

    found = resources.agent(TRIAGE)
    assert found is not None
    assert found["metadata"]["annotations"] == {"interlock.dev/kill-switch": "off"}


@requirement("operator.memory")
def test_what_is_kept_of_an_agent_beyond_the_budget_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack: thousands of Agents whose reason for a kill has 190 KiB, which no compression makes smaller."""
    monkeypatch.setattr(resource_cache, "AGENT_BYTES", 3_000)
    resources, reason = ResourceCache(), secrets.token_hex(95_000)
    for number in range(10):
        raw = an_agent().named(f"a{number}").killed(reason).to_kubernetes()
        raw["metadata"]["labels"] = {f"example.com/{label}": secrets.token_hex(30) for label in range(64)}
        resources.put_agent(raw)

    kept = resources._agents.get(("agents", "a9"))  # noqa: SLF001 - memory is what is tested
    assert kept is not None
    assert len(kept.data) < 2_000
    assert kept.facts.summary.labels == ()
    raw = resources.agent(("agents", "a9")) or {}
    assert raw["metadata"]["annotations"] == {"interlock.dev/kill-switch": reason[:1024]}


class UntouchedKey(tuple[str, str]):
    """A key that no lookup for another namespace compares."""

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        raise AssertionError(f"{self} was compared with {other}")


@requirement("operator.fair")
def test_no_lookup_for_one_namespace_touches_the_objects_of_another(known: ResourceCache) -> None:
    """The attack: 10 000 MCPBindings of one namespace made each reconcile of all others 84 ms longer."""
    key: Any = UntouchedKey(("strangers", "x"))
    for objects in (known._agents, known._policies, known._bindings):  # noqa: SLF001 - what is kept
        objects.put(key, None)  # type: ignore[attr-defined]  # reading an attribute of it fails

    assert known.agents_under(("agents", "support")) == {TRIAGE}
    assert known.put_binding(a_binding().to_kubernetes()) == {TRIAGE}
    assert len(known.bindings("agents")) == 1
    changed = a_binding().at_version(2).serving("crm", "production").to_kubernetes()
    assert known.put_binding(changed) == {TRIAGE}


@requirement("operator.memory")
def test_bindings_and_policies_beyond_the_budget_of_their_namespace_grant_nothing_there_and_cost_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource_cache, "POLICY_BYTES", 20_000)
    again: list[tuple[str, Key]] = []
    resources = ResourceCache(lambda kind, key: again.append((kind, key)))
    resources.put_agent(an_agent().to_kubernetes())
    for number in range(50):
        resources.put_binding(a_binding(f"b{number:02}").to_kubernetes())
    other = a_binding().in_namespace("elsewhere").to_kubernetes()
    resources.put_binding(other)

    found = resources.bindings("agents")
    unread = [one for one in found if isinstance(one, Unreadable)]
    assert 0 < len(unread) < len(found) == 50
    assert unread[0].kind == "MCPBinding"
    assert "the AgentPolicies and MCPBindings of namespace agents take more than" in unread[0].message
    assert isinstance(resources.bindings("elsewhere")[0], MCPBinding)
    policy = a_policy().to_kubernetes()
    policy["spec"]["dataAccess"] *= 500
    assert resources.put_policy(policy) == {TRIAGE}
    assert isinstance(resources.policy(("agents", "support")), Unreadable)

    for number in range(20):
        resources.drop_binding(("agents", f"b{number:02}"))
    assert again, "there is room now"
    kind, key = again[0]
    assert (kind, resources.is_newer(kind, key, 1)) == ("MCPBinding", True), "the same version is taken now"
    assert resources.put_binding(a_binding(key[1]).at_version(1).to_kubernetes()) == {TRIAGE}
    assert isinstance(resources.binding(key), MCPBinding)


@requirement("operator.memory")
def test_agents_beyond_the_budget_of_their_namespace_are_refused_and_can_be_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource_cache, "AGENT_BYTES", 3_000)
    resources = ResourceCache()
    for number in range(10):
        resources.put_agent(an_agent().named(f"a{number}").killed("runaway").to_kubernetes())

    raw = resources.agent(("agents", "a9"))
    assert raw is not None
    assert "spec" not in raw
    assert raw["metadata"]["annotations"] == {"interlock.dev/kill-switch": "runaway"}
    parsed = parse_agent(raw)
    assert isinstance(parsed, Unreadable)
    assert parsed.message.startswith("the Agents of namespace agents take more than ")
    assert resources.uid("Agent", ("agents", "a9"))
    first = resources.agent(("agents", "a0"))
    assert first is not None
    assert "spec" in first
