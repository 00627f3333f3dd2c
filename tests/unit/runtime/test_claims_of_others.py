"""What an Agent learns of the claims of others in its namespace, and when their changes wake it."""

from typing import Any

import pytest

from interlock.cluster.resource_cache import ResourceCache
from interlock.orchestration.claim_checks import ClaimUse
from interlock.runtime.router import Router
from interlock_kube.resource_types import AGENT, Key
from tests.support.builders import NOW, AgentBuilder, an_agent
from tests.support.enqueued import Enqueued

TRIAGE, OTHER = ("agents", "triage"), ("agents", "other")
FILES = frozenset({"files"})


def naming(agent: AgentBuilder, claim: str = "files") -> AgentBuilder:
    return agent.created(NOW).with_claims(files={"development": claim})


def holding(agent: AgentBuilder, *claims: str) -> dict[str, Any]:
    return agent.to_kubernetes() | {"status": {"rollout": {"claims": list(claims)}}}


class Routed:
    """A router that says which Agents were woken, besides the one of the event."""

    def __init__(self) -> None:
        self.cache, self.agents, self._version = ResourceCache(), Enqueued(), 10
        self.router = Router(self.cache, self.agents, Enqueued(), Enqueued(), Enqueued())

    def put(self, agent: AgentBuilder | dict[str, Any]) -> set[Key]:
        raw = agent if isinstance(agent, dict) else agent.to_kubernetes()
        self._version += 1
        raw["metadata"]["resourceVersion"] = str(self._version)
        self.agents.taken()
        self.router.handle_object(AGENT, raw)
        return set(self.agents.taken()) - {(raw["metadata"]["namespace"], raw["metadata"]["name"])}


@pytest.fixture
def routed() -> Routed:
    routed = Routed()
    routed.put(naming(an_agent()))
    return routed


def test_an_agent_learns_who_names_or_holds_its_claims_in_its_namespace(routed: Routed) -> None:
    routed.put(naming(an_agent("other")))
    routed.put(naming(an_agent("elsewhere").in_namespace("elsewhere")))
    routed.put(naming(an_agent("another"), "index"))
    assert routed.cache.claims_of_others(TRIAGE) == (ClaimUse("other", NOW, named=FILES),)

    routed.put(holding(an_agent("other").created(NOW), "files", "more"))
    assert routed.cache.claims_of_others(TRIAGE) == (ClaimUse("other", NOW, held=frozenset({"files", "more"})),)
    assert routed.cache.claims_of_others(("agents", "another")) == ()
    assert routed.cache.claims_of_others(("agents", "nobody")) == ()


def test_an_agent_whose_pods_use_a_claim_that_it_names_no_longer_learns_of_others(routed: Routed) -> None:
    routed.put(holding(an_agent().created(NOW), "files"))
    routed.put(naming(an_agent("other")))
    assert [one.agent for one in routed.cache.claims_of_others(TRIAGE)] == ["other"]


def test_an_agent_is_woken_when_another_one_begins_or_ends_to_name_or_hold_its_claim(routed: Routed) -> None:
    assert routed.put(an_agent("other").created(NOW)) == set()
    assert routed.put(naming(an_agent("other"))) == {TRIAGE}
    assert routed.put(naming(an_agent("other")).labelled(touched="yes")) == set()
    assert routed.put(holding(naming(an_agent("other")), "files")) == {TRIAGE}
    assert routed.put(holding(an_agent("other").created(NOW), "files")) == {TRIAGE}
    assert routed.put(an_agent("other").created(NOW)) == {TRIAGE}
    assert routed.put(naming(an_agent("other"), "index")) == set()
    routed.put(naming(an_agent("other")))

    routed.agents.taken()
    routed.router.handle_deletion(AGENT, OTHER, None)
    assert TRIAGE in routed.agents.taken()


def test_an_agent_of_whatever_shape_names_and_holds_no_claim(routed: Routed) -> None:
    raw = an_agent("other").to_kubernetes()
    raw["spec"]["template"]["volumes"] = [{"persistentVolumeClaim": 3}, "x", {"persistentVolumeClaim": {"claims": [1]}}]
    raw["status"] = {"rollout": {"claims": "files"}}
    routed.put(raw)
    assert routed.cache.claims_of_others(TRIAGE) == ()


REFUSALS = [
    ("Governed", "PolicyMissing"),
    ("Governed", "OwnerMissing"),
    ("Governed", "TemplateNotAllowed"),
    ("Governed", "BeingDeleted"),
    ("Orchestrated", "ClaimNotSeparate"),
    ("ActionsBound", "TemplateNotAllowed"),
]
WAITS = [("Orchestrated", "ClaimShared"), ("ActionsBound", "BindingNotVerified"), ("Deployed", "QuotaExceeded")]


@pytest.mark.parametrize(("layer", "reason"), [*REFUSALS, *WAITS])
def test_an_agent_that_no_policy_lets_run_keeps_no_claim_from_others(routed: Routed, layer: str, reason: str) -> None:
    is_refused = (layer, reason) in REFUSALS
    routed.put(naming(an_agent("other")))
    condition = {"type": layer, "status": "False", "reason": reason}
    raw = naming(an_agent("other")).to_kubernetes() | {"status": {"conditions": [condition]}}
    assert routed.put(raw) == ({TRIAGE} if is_refused else set()), "those that wait for the claim learn of it"
    assert [one.is_refused for one in routed.cache.claims_of_others(TRIAGE)] == [is_refused]


def test_the_policies_of_the_agents_that_use_a_source_are_known(routed: Routed) -> None:
    routed.put(an_agent("other").under("audit"))
    routed.put(an_agent("elsewhere").in_namespace("elsewhere").under("foreign"))
    assert routed.cache.policies_of_users("agents", "crm") == {"support", "audit"}
    assert routed.cache.policies_of_users("agents", "mail") == frozenset()
