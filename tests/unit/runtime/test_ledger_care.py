"""The care of the operator for ledgers: the length of their days, broken ones, and those of deleted agents."""

import copy
import hashlib
from typing import Any

import pytest
from msgspec.structs import replace

from interlock.cluster.ledger_store import MOST_FORMER
from interlock.runtime.ledger_removal import LedgerRemoval
from interlock.runtime.ledgers import CONFLICT_SECONDS
from interlock_contract.budget.ledger import Ledger, LedgerWindow, Slice, dump_ledger
from interlock_contract.budget.money import MAX_MONEY
from interlock_kube.client import ApiError
from interlock_kube.resource_types import BUDGET_LEDGER
from tests.requirements import requirement
from tests.unit.runtime.test_ledgers import AT, HOLDER, OWN, TOTAL, TRIAGE, Ledgers

DAY_SECONDS = "interlock.dev/day-seconds"


def day_seconds(ledgers: Ledgers, key: tuple[str, str] = OWN) -> str | None:
    found: str | None = ledgers.client.objects[BUDGET_LEDGER.path(*key)]["metadata"]["annotations"].get(DAY_SECONDS)
    return found


@requirement("budget.ledger-writers")
async def test_a_ledger_says_how_long_its_days_are_where_they_are_short() -> None:
    ledgers = Ledgers(day_seconds=60)
    for key in (OWN, TOTAL):
        await ledgers.create(key)
        assert day_seconds(ledgers, key) == "60"
    ledgers.day_seconds = None
    ledgers.restart()
    for key in (OWN, TOTAL):
        await ledgers.reconcile(key)
        assert day_seconds(ledgers, key) is None
    ledgers.day_seconds = 90
    ledgers.restart()
    await ledgers.reconcile(TOTAL)
    assert day_seconds(ledgers, TOTAL) == "90"
    before = len(ledgers.client.requests)
    await ledgers.reconcile(TOTAL)
    assert "PATCH" not in [method for method, _ in ledgers.client.requests[before:]]


@requirement("budget.ledger-writers")
async def test_a_ledger_whose_writers_are_no_longer_noted_is_applied_once() -> None:
    ledgers = Ledgers()
    await ledgers.create()
    path = BUDGET_LEDGER.path(*OWN)
    ledgers.client.put(path, {**ledgers.client.objects[path], "status": {"month": {}}})  # a newer version
    del ledgers.client.objects[path]["metadata"]["managedFields"]
    ledgers.store.put(BUDGET_LEDGER.kind, copy.deepcopy(ledgers.client.objects[path]))
    ledgers.client.forget_requests()
    for _ in range(2):
        await ledgers.reconcile()
    assert [method for method, _ in ledgers.client.requests if method == "PATCH"] == ["PATCH"]
    assert ledgers.client.bodies[0]["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "interlock"}


def broken(ledgers: Ledgers, status: Any, key: tuple[str, str] = OWN) -> None:
    """Let a ledger have a status that cannot be read."""
    path = BUDGET_LEDGER.path(*key)
    found = ledgers.client.put(path, {**ledgers.client.objects[path], "status": status})
    ledgers.store.put(BUDGET_LEDGER.kind, copy.deepcopy(found))


DAY, MONTH = LedgerWindow(AT - 3600, AT + 82_800, 25), LedgerWindow(AT - 3600, AT + 30 * 86_400, 40)
SLICE = Slice(HOLDER, "pod-1", 60, DAY.start, MONTH.start, AT)
TWICE = dump_ledger(Ledger(DAY, MONTH, slices=(SLICE,)))
TWICE["slices"] *= 2


def repairs(ledgers: Ledgers) -> list[str]:
    return [one["note"] for one in ledgers.client.of_kind("Event").values() if one["reason"] == "LedgerRepaired"]


@requirement("budget.ledger-repaired")
@pytest.mark.parametrize("key", [OWN, TOTAL])
async def test_a_ledger_that_cannot_be_read_is_repaired_and_an_event_says_so(key: tuple[str, str]) -> None:
    ledgers = Ledgers()
    await ledgers.create(key)
    broken(ledgers, TWICE, key)
    await ledgers.reconcile(key)
    assert ledgers.ledger(key) == Ledger(DAY, MONTH, slices=(SLICE,))
    assert TRIAGE in [agent for agent, seconds in ledgers.woken if not seconds]
    (note,) = repairs(ledgers)
    assert key[1] in note
    assert "slices[1]: the holder has two slices" in note
    assert f"kubectl -n agents edit budgetledgers.interlock.dev {key[1]} --subresource=status" in note


@requirement("budget.ledger-repaired")
async def test_a_ledger_that_is_too_large_is_spent_whole() -> None:
    ledgers = Ledgers()
    await ledgers.create()
    broken(ledgers, {"slices": [hashlib.sha256(str(n).encode()).hexdigest() for n in range(20_000)]})
    await ledgers.reconcile()
    assert ledgers.ledger().day.spent == ledgers.ledger().month.spent == MAX_MONEY
    assert "its status is too large" in repairs(ledgers)[0]


@requirement("budget.ledger-repaired")
async def test_a_repair_waits_for_what_another_has_written_and_is_tried_again_where_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledgers = Ledgers()
    await ledgers.create()
    broken(ledgers, TWICE)
    path = BUDGET_LEDGER.path(*OWN)
    ledgers.client.put(path, {**ledgers.client.objects[path], "status": {}})  # not seen yet
    assert await ledgers.reconcile() == CONFLICT_SECONDS
    assert repairs(ledgers) == []

    async def refuse(*_: Any, **__: Any) -> None:
        raise ApiError(403, "budgetledgers.interlock.dev denied the request")

    monkeypatch.setattr(ledgers.client, "patch", refuse)
    with pytest.raises(ApiError):
        await ledgers.reconcile()
    assert repairs(ledgers) == []


# Removal.


@pytest.fixture
async def orphans() -> Ledgers:
    """The ledgers of an Agent and a policy that are deleted."""
    ledgers = Ledgers()
    for key in (OWN, TOTAL):
        await ledgers.create(key)
    ledgers.store.agent_gone(TRIAGE)
    ledgers.store.policy_gone(("agents", "support"))
    return ledgers


def left(ledgers: Ledgers) -> set[str]:
    return {found["metadata"]["name"] for found in ledgers.client.of_kind(BUDGET_LEDGER.kind).values()}


def removal(ledgers: Ledgers) -> LedgerRemoval:
    client: Any = ledgers.client
    return LedgerRemoval(client, ledgers.store)


@requirement("budget.ledger-removed")
async def test_empty_ledgers_of_what_no_longer_exists_are_removed(orphans: Ledgers) -> None:
    metadata = orphans.client.objects[BUDGET_LEDGER.path(*OWN)]["metadata"]
    await removal(orphans).sweep()
    assert left(orphans) == set()
    version = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    assert {"preconditions": version} in orphans.client.bodies  # no guard has written meanwhile


@requirement("budget.ledger-removed")
async def test_ledgers_of_what_exists_stay(orphans: Ledgers) -> None:
    orphans.client.put("/apis/interlock.dev/v1alpha1/namespaces/agents/agents/triage", {"metadata": {}})
    orphans.client.put("/apis/interlock.dev/v1alpha1/namespaces/agents/agentpolicies/support", {"metadata": {}})
    await removal(orphans).sweep()
    assert left(orphans) == {OWN[1], TOTAL[1]}


@requirement("budget.ledger-removed")
async def test_ledgers_that_the_operator_follows_are_not_even_read() -> None:
    ledgers = Ledgers()
    for key in (OWN, TOTAL):
        await ledgers.create(key)
    ledgers.client.forget_requests()
    await removal(ledgers).sweep()
    assert left(ledgers) == {OWN[1], TOTAL[1]}
    assert len(ledgers.client.requests) == 1


@requirement("budget.ledger-removed")
@pytest.mark.parametrize(
    "ledger",
    [
        Ledger(DAY, replace(MONTH, spent=0)),
        Ledger(replace(DAY, spent=0), MONTH),
        Ledger(replace(DAY, spent=0), replace(MONTH, spent=0), days=(LedgerWindow(AT - 90_000, AT - 3600, 1),)),
        Ledger(replace(DAY, spent=0), replace(MONTH, spent=0), months=(LedgerWindow(AT - 90_000, AT - 3600, 1),)),
        Ledger(replace(DAY, spent=0), replace(MONTH, spent=0), (replace(SLICE, amount=1),)),
    ],
)
async def test_a_ledger_with_money_spent_or_in_slices_stays_and_is_read_once(orphans: Ledgers, ledger: Ledger) -> None:
    path = BUDGET_LEDGER.path(*OWN)
    orphans.client.put(path, {**orphans.client.objects[path], "status": dump_ledger(ledger)})
    remover = removal(orphans)
    await remover.sweep()
    assert left(orphans) == {OWN[1]}
    orphans.client.forget_requests()
    await remover.sweep()
    assert path not in [asked for _, asked in orphans.client.requests]
    orphans.client.put(path, {**orphans.client.objects[path], "status": {}})
    await remover.sweep()
    assert left(orphans) == set()


@requirement("budget.ledger-removed")
async def test_the_empty_slice_of_a_guard_that_ended_keeps_no_ledger(orphans: Ledgers) -> None:
    path = BUDGET_LEDGER.path(*OWN)
    status = dump_ledger(Ledger(replace(DAY, spent=0), replace(MONTH, spent=0), (replace(SLICE, amount=0),)))
    orphans.client.put(path, {**orphans.client.objects[path], "status": status})
    await removal(orphans).sweep()
    assert left(orphans) == set()


@requirement("budget.ledger-removed")
async def test_a_broken_ledger_stays_and_a_refusal_keeps_no_other_from_being_removed(orphans: Ledgers) -> None:
    path = BUDGET_LEDGER.path(*OWN)
    orphans.client.put(path, {**orphans.client.objects[path], "status": TWICE})
    orphans.client.put(
        BUDGET_LEDGER.path("agents", "other.staging"),
        {
            **orphans.client.objects[path],
            "metadata": {**orphans.client.objects[path]["metadata"], "name": "other.staging"},
            "spec": {"policy": "support", "agent": "other", "environment": "staging"},
            "status": {},
        },
    )
    orphans.client.refuse("DELETE", "other.staging", status=403)
    await removal(orphans).sweep()
    assert left(orphans) == {OWN[1], "other.staging"}


# Environments that an Agent no longer has.


@requirement("budget.ledger-first")
async def test_ledgers_of_former_environments_leave_place_for_those_of_the_agents_own() -> None:
    ledgers = Ledgers()
    await ledgers.create()
    found = copy.deepcopy(ledgers.client.objects[BUDGET_LEDGER.path(*OWN)])
    ledgers.store.drop(BUDGET_LEDGER.kind, OWN, 10**9, None)
    for number in range(2 * MOST_FORMER):
        metadata = {**found["metadata"], "name": f"triage.former-{number}"}
        spec = {**found["spec"], "environment": f"former-{number}"}
        ledgers.store.put(BUDGET_LEDGER.kind, {**found, "metadata": metadata, "spec": spec})
    assert len(ledgers.store.of_agent(TRIAGE)) == MOST_FORMER
    await ledgers.create()
    assert OWN in ledgers.store.of_agent(TRIAGE)
