"""A change of an Agent whose objects the API server refuses: what it replaces ends, and guards obey nothing older."""

from datetime import timedelta
from unittest.mock import AsyncMock

import pytest

from interlock.api.status import MAX_MANAGED_OBJECTS
from interlock.cluster.applier import Applier, ApplyFailed
from interlock.reconcile.snapshot import BudgetSnapshot
from interlock_contract.budget.ledger import Ledger
from interlock_kube.resource_types import DEPLOYMENT
from tests.requirements import requirement
from tests.support.builders import a_policy, an_agent, prices_of, seconds
from tests.unit.runtime.test_agent_reconciler import PATH, Operator, a_ready_agent, bundle_of, named, narrow

DEPLOYMENTS = DEPLOYMENT.within("agents")
CONFIG_MAPS = "/api/v1/namespaces/agents/configmaps"
MODEL = "openai/gpt-4o-mini"
EARLIER_BUNDLE = "guard.confirmed-bundle"


def change(operator: Operator, number: int) -> None:
    """Give the Agent another image, and so another revision."""
    operator.apply(an_agent().with_template(image=f"example/agent:{number}").at_version(operator.client.version + 1))


async def withdraw_grants_in_vain(operator: Operator, before: str) -> None:
    """Withdraw grants, and check that ten seconds later no guard obeys the bundle of before."""
    narrow(operator)

    assert not await operator.reconcile_agent()
    operator.now += seconds(10)
    assert not await operator.reconcile_agent()

    assert before not in named(operator)
    assert operator.condition("Ready").reason == "EnforcementLost"


@requirement(EARLIER_BUNDLE)
async def test_guards_obey_no_earlier_bundle_even_if_their_pods_cannot_be_ended() -> None:
    """The attack, or the accident: a webhook refuses every write of managed objects."""
    operator = await a_ready_agent(an_agent())
    path, before = bundle_of(operator)
    operator.client.refuse("PATCH", path, times=99)
    operator.client.refuse("DELETE", DEPLOYMENTS, times=99)

    await withdraw_grants_in_vain(operator, before)
    assert "cannot be deleted: no DELETE today" in operator.condition("Ready").message


@requirement("rollout.replaced")
async def test_a_revision_that_cannot_be_applied_leaves_the_last_good_one_running() -> None:
    """An example: a quota for Deployments has no room for two revisions."""
    operator = await a_ready_agent(an_agent())
    [old] = operator.client.of_kind("Deployment")
    before = bundle_of(operator)[1]
    change(operator, 2)
    operator.client.refuse("POST", DEPLOYMENTS, status=403, times=2)

    assert not await operator.reconcile_agent()
    operator.now += seconds(60)
    assert not await operator.reconcile_agent()
    assert old in operator.client.objects
    assert before in named(operator)

    await operator.converge()
    [new] = operator.client.of_kind("Deployment")
    assert new != old
    assert len(operator.client.of_kind("ConfigMap")) == 2


@requirement("rollout.replaced")
async def test_a_failure_that_replaces_nothing_ends_no_pod() -> None:
    operator = await a_ready_agent(an_agent())
    service = next(iter(operator.client.of_kind("Service")))
    operator.client.add_foreign(service, {"spec": {"type": "LoadBalancer"}})
    operator.watch()
    operator.client.refuse("PATCH", service, times=99)

    for _ in range(3):
        assert not await operator.reconcile_agent()
        operator.now += seconds(10)

    assert operator.client.of_kind("Deployment")


@requirement("rollout.replaced")
@pytest.mark.parametrize("are_kept", [False, True], ids=["", "and cannot be deleted"])
async def test_many_revisions_that_cannot_be_applied_fill_no_status(
    are_kept: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The attack: an author takes a name of each new revision. The last good one runs on, and obeys its own bundle."""
    most = MAX_MANAGED_OBJECTS // 3
    monkeypatch.setattr("interlock.runtime.agents.MAX_MANAGED_OBJECTS", most)
    operator = await a_ready_agent(an_agent())
    [old] = operator.client.of_kind("Deployment")
    before = bundle_of(operator)[1]
    if are_kept:
        operator.client.refuse("DELETE", "/configmaps/", times=10**6)
    for number in range(2, 15):
        change(operator, number)
        operator.client.refuse("POST", CONFIG_MAPS, status=403)
        assert not await operator.reconcile_agent()
        assert len(operator.client.objects[PATH]["status"]["managedObjects"]) <= most
        operator.now += seconds(0.25)

    assert old in operator.client.objects
    operator.now += seconds(10)
    operator.client.refuse("POST", CONFIG_MAPS, status=403)
    assert not await operator.reconcile_agent()
    assert before in named(operator)


async def test_an_error_of_the_connection_is_no_refusal_of_a_change() -> None:
    operator = await a_ready_agent(an_agent())
    [old] = operator.client.of_kind("Deployment")
    change(operator, 2)
    operator.client.break_with(TimeoutError(), "POST", DEPLOYMENTS, times=1)

    assert not await operator.reconcile_agent()

    assert old in operator.client.objects


async def test_a_prune_that_is_refused_is_tried_once_in_each_reconcile() -> None:
    operator = await a_ready_agent(an_agent())
    operator.apply(an_agent().without_owner().at_version(operator.client.version + 1))
    operator.client.refuse("DELETE", DEPLOYMENTS, times=99)

    for _ in range(2):
        operator.client.forget_requests()
        assert not await operator.reconcile_agent()
        assert len([path for method, path in operator.client.requests if path.startswith(DEPLOYMENTS)]) == 1
        operator.now += seconds(10)


@requirement(EARLIER_BUNDLE)
@pytest.mark.parametrize("is_deletion_answered", [True, False])
async def test_requests_without_an_answer_are_refusals(
    is_deletion_answered: bool,  # noqa: FBT001
) -> None:
    """An example: a webhook of the cluster that answers later than the operator waits."""
    operator = await a_ready_agent(an_agent())
    path, before = bundle_of(operator)
    operator.client.break_with(TimeoutError(), "PATCH", path, times=99)
    if not is_deletion_answered:
        operator.client.break_with(TimeoutError(), "DELETE", DEPLOYMENTS, times=99)

    await withdraw_grants_in_vain(operator, before)
    assert bool(operator.client.of_kind("Deployment")) != is_deletion_answered


REVISIONS = "/apis/apps/v1/namespaces/agents/controllerrevisions"


@requirement("rollout.replaced")
async def test_a_revision_that_cannot_be_stored_keeps_no_withdrawn_grant_in_force() -> None:
    """An example: a quota has no room for the next ControllerRevision, and then the policy is tightened."""
    operator = await a_ready_agent(an_agent())
    before = bundle_of(operator)[1]
    operator.client.refuse("POST", REVISIONS, status=403, times=99)
    change(operator, 2)
    assert not await operator.reconcile_agent()

    narrow(operator)
    assert not await operator.reconcile_agent()

    assert bundle_of(operator)[1] != before
    assert named(operator) == [bundle_of(operator)[1]]
    rollout = operator.client.objects[PATH]["status"]["rollout"]
    assert rollout["newest"]["number"] == 1, "the status names no revision that is not stored"
    assert "ControllerRevision triage-2-" in operator.condition("Ready").message


async def test_a_revision_that_cannot_be_stored_delays_no_end_of_pods() -> None:
    operator = await a_ready_agent(an_agent())
    operator.client.refuse("POST", REVISIONS, status=403, times=99)
    operator.apply(
        an_agent().with_replicas(0).with_template(image="example/agent:2").at_version(operator.client.version + 1)
    )
    assert not await operator.reconcile_agent()

    [workload] = operator.client.of_kind("Deployment").values()
    assert workload["spec"]["replicas"] == 0


async def test_a_revision_begins_once_it_can_be_stored() -> None:
    operator = await a_ready_agent(an_agent())
    operator.client.refuse("POST", REVISIONS, status=403)
    change(operator, 2)
    assert not await operator.reconcile_agent()
    await operator.converge()
    assert operator.client.objects[PATH]["status"]["rollout"]["good"]["number"] == 2


@requirement("rollout.replaced")
async def test_a_ledger_that_cannot_be_created_keeps_no_withdrawn_grant_in_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = a_policy().allowing_models(MODEL)
    operator = Operator()
    operator.resources.put_policy(policy.at_version(7).to_kubernetes())
    ledgers: dict[str, Ledger | str] = {"triage.development": Ledger(), "support.total": Ledger()}
    operator.reader.spending_of = lambda *_: BudgetSnapshot(ledgers, lambda agent, _: prices_of(agent))
    operator.apply(an_agent().calling(MODEL))
    await operator.converge()
    before = bundle_of(operator)[1]

    ledgers.clear()
    monkeypatch.setattr(Applier, "create_ledgers", AsyncMock(side_effect=ApplyFailed("BudgetLedger: no quota")))
    narrower = a_policy().allowing_models(MODEL).giving_nothing().giving("triage", "crm", read=["contacts"])
    operator.resources.put_policy(narrower.at_version(8).to_kubernetes())
    assert not await operator.reconcile_agent()

    assert bundle_of(operator)[1] != before
    assert "no quota" in operator.condition("Ready").message + operator.condition("Deployed").message


def images(operator: Operator) -> set[str]:
    pods = [one["spec"]["template"]["spec"] for one in operator.client.of_kind("Deployment").values()]
    return {container["image"] for pod in pods for container in pod["initContainers"]}


@requirement("rollout.replaced")
@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
async def test_an_update_of_guards_that_is_refused_ends_no_pod(isolation: str) -> None:
    """The accident: a policy engine refuses the guard's new image in one namespace."""
    earlier = await a_ready_agent(an_agent().in_environment("development"))
    earlier.resources.put_policy(a_policy().isolating(development=isolation).to_kubernetes())
    await earlier.converge()
    before = {path: one["spec"] for path, one in earlier.client.of_kind("Deployment").items()}

    operator = earlier.restart("registry.example.com/guard:2")
    operator.resources.put_policy(a_policy().isolating(development=isolation).to_kubernetes())
    operator.client.refuse("PATCH", "/deployments/", status=403, times=99)
    for _ in range(12):
        assert not await operator.reconcile_agent()
        operator.now += timedelta(minutes=1)
    assert {path: one["spec"] for path, one in operator.client.of_kind("Deployment").items()} == before
    assert operator.condition("Deployed").reason == "ApplyFailed"
    assert operator.condition("GuardUpdated").reason == "GuardUpdateRefused"

    operator.now += timedelta(minutes=5)
    assert not await operator.reconcile_agent()
    assert operator.condition("GuardUpdated").reason == "GuardUpdateRefused"

    operator.client.refusals.clear()
    assert await operator.reconcile_agent()
    assert "registry.example.com/guard:2" in images(operator)
    assert await operator.reconcile_agent()
    assert operator.condition("GuardUpdated").reason == "GuardUpdating", "it is watched like each update"
    await operator.converge()
    assert operator.condition("GuardUpdated").reason == "GuardCurrent"


@requirement(EARLIER_BUNDLE)
async def test_what_users_withdraw_while_an_update_is_refused_ends_pods() -> None:
    earlier = await a_ready_agent(an_agent())
    operator = earlier.restart("registry.example.com/guard:2")
    path, before = bundle_of(operator)
    operator.client.refuse("PATCH", "/deployments/", status=403, times=99)
    assert not await operator.reconcile_agent()
    operator.client.refuse("PATCH", path, times=99)
    await withdraw_grants_in_vain(operator, before)
