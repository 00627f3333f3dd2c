"""The operator keeps the notifier of each policy with webhooks, and repairs what others change in it."""

import copy
from typing import Any

import pytest

from interlock_kube.resource_types import AGENT_POLICY
from tests.support.builders import a_policy
from tests.support.small_operator import SmallOperator

KEY = ("agents", "support")
KINDS = ["ConfigMap", "Deployment", "NetworkPolicy", "Role", "RoleBinding", "ServiceAccount"]


async def reconcile(operator: SmallOperator) -> None:
    assert await operator.turn(AGENT_POLICY, KEY)
    operator.watch_children()


def kinds(operator: SmallOperator) -> list[str]:
    return sorted(found["kind"] for found in operator.client.objects.values() if found["kind"] in KINDS)


def the(kind: str, operator: SmallOperator) -> tuple[str, dict[str, Any]]:
    ((path, found),) = operator.client.of_kind(kind).items()
    return path, copy.deepcopy(found)


@pytest.fixture
async def operator() -> SmallOperator:
    found = SmallOperator()
    found.put(a_policy().notifying("chat").to_kubernetes())
    await reconcile(found)
    return found


async def test_a_policy_with_webhooks_gets_a_notifier(operator: SmallOperator) -> None:
    assert kinds(operator) == KINDS


async def test_a_policy_without_webhooks_gets_nothing() -> None:
    operator = SmallOperator()
    operator.put(a_policy().to_kubernetes())
    await reconcile(operator)

    assert kinds(operator) == []
    assert operator.condition(AGENT_POLICY, KEY, "Notifying") == {}


async def test_what_stands_is_not_written_again(operator: SmallOperator) -> None:
    await reconcile(operator)
    operator.client.forget_requests()

    await reconcile(operator)

    assert operator.client.writes() == []


async def test_what_others_changed_is_replaced(operator: SmallOperator) -> None:
    for kind, change in (
        ("Role", {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}),
        ("NetworkPolicy", {"spec": {"egress": [{}], "podSelector": {}, "policyTypes": ["Egress"]}}),
    ):
        path, before = the(kind, operator)
        operator.client.put(path, {**copy.deepcopy(before), **change})
        operator.watch_children()

        await reconcile(operator)

        after = the(kind, operator)[1]
        assert {name: after[name] for name in change} == {name: before[name] for name in change}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_others_deleted_is_created_again(kind: str, operator: SmallOperator) -> None:
    path, _ = the(kind, operator)
    del operator.client.objects[path]
    operator.children[AGENT_POLICY].drop(kind, (KEY[0], path.rpartition("/")[2]), 10**9)

    await reconcile(operator)

    assert kinds(operator) == KINDS


async def test_what_the_notifier_recorded_stays(operator: SmallOperator) -> None:
    path, record = the("ConfigMap", operator)
    operator.client.put(path, {**record, "data": {"chat": "0123"}})
    operator.watch_children()

    await reconcile(operator)

    assert the("ConfigMap", operator)[1]["data"] == {"chat": "0123"}


async def test_what_the_notifier_recorded_stays_where_the_operator_takes_the_record_for_missing(
    operator: SmallOperator,
) -> None:
    path, record = the("ConfigMap", operator)
    operator.client.put(path, {**record, "data": {"chat": "0123"}})
    operator.children[AGENT_POLICY].drop("ConfigMap", (KEY[0], path.rpartition("/")[2]), 10**9)

    await reconcile(operator)

    assert the("ConfigMap", operator)[1]["data"] == {"chat": "0123"}


async def test_without_webhooks_the_notifier_ends_with_its_record(operator: SmallOperator) -> None:
    raw = a_policy().to_kubernetes()
    raw["status"] = operator.status(AGENT_POLICY, KEY)
    operator.put(raw)

    await reconcile(operator)
    await reconcile(operator)  # a NetworkPolicy ends after the pods that it selects

    assert kinds(operator) == []


async def test_a_policy_that_is_being_deleted_gets_no_notifier_again(operator: SmallOperator) -> None:
    raw = a_policy().notifying("chat").to_kubernetes()
    raw["metadata"] |= {"deletionTimestamp": "2026-03-02T09:00:00Z", "finalizers": ["foregroundDeletion"]}
    raw["status"] = operator.status(AGENT_POLICY, KEY)
    operator.put(raw)
    path, _ = the("Deployment", operator)
    del operator.client.objects[path]
    operator.children[AGENT_POLICY].drop("Deployment", (KEY[0], path.rpartition("/")[2]), 10**9)

    await reconcile(operator)

    assert operator.client.of_kind("Deployment") == {}


async def test_the_condition_says_whether_the_notifier_runs(operator: SmallOperator) -> None:
    await reconcile(operator)
    waiting = operator.condition(AGENT_POLICY, KEY, "Notifying")
    assert (waiting["status"], waiting["reason"]) == ("False", "NotifierNotReady")
    assert "kubectl -n agents describe pods -l interlock.dev/policy=support" in waiting["message"]

    path, found = the("Deployment", operator)
    operator.client.put(path, {**found, "status": {"readyReplicas": 1}})
    operator.watch_children()
    await reconcile(operator)

    ready = operator.condition(AGENT_POLICY, KEY, "Notifying")
    assert (ready["status"], ready["reason"]) == ("True", "NotifierReady")


async def test_the_condition_says_which_webhooks_take_no_alerts_and_why(operator: SmallOperator) -> None:
    path, record = the("ConfigMap", operator)
    problem = "the file with its URL cannot be read:\nthe Secret or its key is missing"
    operator.client.put(path, {**record, "data": {"chat": "x", "chat.problem": problem, "old.problem": "x"}})
    path, found = the("Deployment", operator)
    operator.client.put(path, {**found, "status": {"readyReplicas": 1}})
    operator.watch_children()
    await reconcile(operator)

    failing = operator.condition(AGENT_POLICY, KEY, "Notifying")
    assert (failing["status"], failing["reason"]) == ("False", "WebhookFailing")
    assert "chat: the file with its URL cannot be read: the Secret or its key is missing" in failing["message"]
    assert "old" not in failing["message"]


async def test_an_object_that_the_api_server_refuses_is_shown_on_the_policy_after_its_status() -> None:
    operator = SmallOperator()
    operator.put(a_policy().notifying("chat").to_kubernetes())
    operator.client.refuse("POST", "/roles", status=403)

    assert not await operator.turn(AGENT_POLICY, KEY)

    assert operator.condition(AGENT_POLICY, KEY, "Ready")["status"] == "True"
    failed = operator.condition(AGENT_POLICY, KEY, "ReconcileFailed")
    assert failed["status"] == "True"
    assert "Role support-notify" in failed["message"]


async def test_an_object_of_a_user_with_that_name_is_left_alone() -> None:
    operator = SmallOperator()
    operator.put(a_policy().notifying("chat").to_kubernetes())
    path = "/api/v1/namespaces/agents/serviceaccounts/support-notify"
    foreign = {"kind": "ServiceAccount", "metadata": {"name": "support-notify", "namespace": "agents"}}
    operator.client.put(path, foreign)

    assert not await operator.turn(AGENT_POLICY, KEY)

    assert "ownerReferences" not in operator.client.objects[path]["metadata"]
