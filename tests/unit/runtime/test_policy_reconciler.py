"""A policy's access table is written where it has changed, and nowhere else."""

from typing import Any

import pytest

from interlock.api.policy import AgentPolicy, AgentPolicyStatus
from interlock.cluster.applier import Applier
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.status_writer import StatusWriter
from interlock.runtime.policies import NotifierApplier, PolicyReconciler
from interlock.runtime.router import Router
from interlock.settings import OperatorSettings
from interlock_kube.client import ApiError
from interlock_kube.resource_types import AGENT_POLICY
from tests.requirements import requirement
from tests.support.builders import (
    API_SERVER,
    GUARD_IMAGE,
    NOW,
    AgentBuilder,
    PolicyBuilder,
    a_binding,
    a_policy,
    an_agent,
)
from tests.support.computing import compute
from tests.support.enqueued import Enqueued
from tests.support.fake_client import FakeClient

KEY = ("agents", "support")
PATH = "/apis/interlock.dev/v1alpha1/namespaces/agents/agentpolicies/support"


class Tables:
    """The parts that one reconcile needs, against an API server in memory."""

    def __init__(self, client: FakeClient | None = None) -> None:
        self.client = client or FakeClient()
        self.resources = ResourceCache()
        self.resources.put_binding(a_binding().to_kubernetes())
        self.woken, self.tables_woken = Enqueued(), Enqueued()
        router = Router(self.resources, self.woken, self.tables_woken, Enqueued(), Enqueued())
        writer = StatusWriter(self.client)  # type: ignore[arg-type]
        self.children = ChildCache(AGENT_POLICY.kind)
        notifiers = NotifierApplier(
            self.children,
            Applier(self.client, self.children),  # type: ignore[arg-type]
            settings=OperatorSettings(guard_image=GUARD_IMAGE),
            api_server=lambda: API_SERVER,
        )
        self.tables = PolicyReconciler(self.resources, notifiers, writer, router.handle_answer, compute, lambda: NOW)

    def apply(self, policy: PolicyBuilder) -> None:
        raw = policy.to_kubernetes()
        if PATH in self.client.objects:
            raw["status"] = self.client.objects[PATH].get("status")
        self.resources.put_policy(self.client.put(PATH, raw))

    def put(self, agent: AgentBuilder) -> None:
        self.resources.put_agent(agent.to_kubernetes())

    async def reconcile_policy(self) -> None:
        await self.tables.reconcile(KEY)

    @property
    def status(self) -> AgentPolicyStatus:
        return AgentPolicyStatus.model_validate(self.client.objects[PATH]["status"])


@pytest.fixture
def tables() -> Tables:
    tables = Tables()
    tables.apply(a_policy())
    tables.put(an_agent())
    tables.tables_woken.taken()
    return tables


@requirement("access.reported")
async def test_what_a_policy_comes_to_stands_in_its_status(tables: Tables) -> None:
    await tables.reconcile_policy()

    assert tables.client.writes() == [("PATCH", f"{PATH}/status")]
    assert {row.agent for row in tables.status.access} == {"triage"}
    assert tables.status.agents_omitted == 0


async def test_a_stricter_class_in_another_policy_ends_mode_audit_in_the_table(tables: Tables) -> None:
    lab = {"name": "lab", "class": "development", "mode": "Audit"}
    tables.resources.put_binding(a_binding().serving("crm", "lab").at_version(20).to_kubernetes())
    tables.apply(a_policy().declaring(lab).giving_nothing())
    tables.put(an_agent().in_environment("lab").at_version(21))
    await tables.reconcile_policy()
    assert {row.decision for row in tables.status.access} == {"WouldDeny"}
    tables.resources.put_policy(a_policy("other").declaring({"name": "lab", "class": "staging"}).to_kubernetes())
    await tables.reconcile_policy()
    assert {row.decision for row in tables.status.access} == {"Deny"}


@requirement("access.reported", "operator.idle")
async def test_what_stands_already_is_not_written_again_after_a_restart_either(tables: Tables) -> None:
    await tables.reconcile_policy()
    tables.client.forget_requests()

    await tables.reconcile_policy()
    restarted = Tables(tables.client)
    restarted.resources.put_policy(tables.client.objects[PATH])
    restarted.put(an_agent())
    await restarted.reconcile_policy()

    assert tables.client.writes() == []


@requirement("access.reported")
async def test_a_row_that_goes_and_an_agent_that_comes_or_goes_change_the_table(tables: Tables) -> None:
    await tables.reconcile_policy()
    tables.put(an_agent("answer"))
    await tables.reconcile_policy()
    assert {row.agent for row in tables.status.access} == {"answer", "triage"}
    assert {row.reason for row in tables.status.access if row.agent == "answer"} == {
        "NotGrantedByBinding",
        "NotGrantedByMatrix",
    }
    tables.resources.drop_agent(("agents", "answer"))
    await tables.reconcile_policy()
    assert {row.agent for row in tables.status.access} == {"triage"}
    tables.apply(a_policy().giving_nothing())
    await tables.reconcile_policy()
    assert {row.decision for row in tables.status.access} == {"Deny"}


async def test_an_agent_that_is_being_deleted_or_cannot_be_read_has_no_rows(tables: Tables) -> None:
    going = an_agent("going").to_kubernetes()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    tables.resources.put_agent(going)
    tables.put(an_agent("broken").with_replicas(-1))

    await tables.reconcile_policy()

    assert {row.agent for row in tables.status.access} == {"triage"}


async def test_a_status_that_cannot_be_read_is_replaced(tables: Tables) -> None:
    spoilt = tables.client.objects[PATH] | {"status": {"access": [{"agent": 5}]}}
    tables.resources.put_policy(tables.client.put(PATH, spoilt))

    await tables.reconcile_policy()

    assert {row.agent for row in tables.status.access} == {"triage"}


async def test_a_policy_that_cannot_be_read_gets_conditions_alone_and_one_that_is_gone_nothing(tables: Tables) -> None:
    tables.apply(a_policy().requiring(minStaging=5))
    await tables.reconcile_policy()
    assert len(tables.client.writes()) == 1
    assert tables.client.bodies[-1]["status"].keys() == {"conditions", "observedGeneration"}
    tables.resources.drop_policy(KEY)
    await tables.reconcile_policy()
    assert len(tables.client.writes()) == 1


async def test_a_policy_that_was_deleted_during_its_reconcile_is_no_failure(tables: Tables) -> None:
    del tables.client.objects[PATH]

    await tables.reconcile_policy()


@requirement("operator.woken")
async def test_a_later_spec_under_the_written_status_enqueues_the_policy_and_its_agents(tables: Tables) -> None:
    """The answer to the write updates the cache, so that its own event is no change any more."""
    write = tables.client.patch

    async def onto_a_later_spec(*arguments: Any, **keywords: Any) -> Any:
        later = a_policy().giving_nothing().to_kubernetes()
        later["metadata"]["generation"] = 2
        tables.client.put(PATH, later)
        return await write(*arguments, **keywords)

    tables.client.patch = onto_a_later_spec  # type: ignore[method-assign]

    await tables.reconcile_policy()

    assert tables.woken.taken() == [("agents", "triage")]
    assert set(tables.tables_woken.taken()) == {KEY}, "its conditions are still those of the earlier spec"
    known = tables.resources.policy(KEY)
    assert isinstance(known, AgentPolicy)
    assert known.spec.data_access == ()


async def test_a_status_that_was_written_onto_what_was_known_enqueues_nothing(tables: Tables) -> None:
    await tables.reconcile_policy()
    assert (tables.woken.taken(), tables.tables_woken.taken()) == ([], [])


async def test_a_refused_write_is_retried(tables: Tables) -> None:
    tables.client.refuse("PATCH", PATH)

    with pytest.raises(ApiError):
        await tables.reconcile_policy()
    await tables.reconcile_policy()
    assert {row.agent for row in tables.status.access} == {"triage"}
