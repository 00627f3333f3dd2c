"""Ledgers are created, followed and written: alerts once, overrides as the policy allows, and dead holders closed."""

import copy
import functools
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import structs
from prometheus_client import REGISTRY

from interlock.cluster.event_poster import EventPoster
from interlock.cluster.ledger_store import LedgerStore, environments_of
from interlock.cluster.resource_cache import ResourceCache
from interlock.governance.budgets import LedgerIdentity
from interlock.runtime.dead_holders import CHECK_SECONDS, ENDING_SECONDS, SILENT_SECONDS, DeadHolders
from interlock.runtime.ledgers import SPEND_SECONDS, LedgerReconciler
from interlock.runtime.overrides import Overrides
from interlock_contract.budget.leases import LedgerTerms, take
from interlock_contract.budget.ledger import Exhausted, Ledger, RecentSpend, dump_ledger, parse_ledger
from interlock_contract.budget.money import NANOS
from interlock_contract.budget.tokens_per_byte import TokenCount, add_tokens
from interlock_kube.client import ApiError
from interlock_kube.installed_policies import InstalledPolicies
from interlock_kube.resource_types import AGENT, BUDGET_LEDGER, LEASE, POD, Key
from tests.requirements import requirement
from tests.support.builders import NOW, AgentBuilder, PolicyBuilder, a_policy, an_agent, seconds
from tests.support.fake_client import FakeClient

OWN: Key = ("agents", "triage.staging")
TOTAL: Key = ("agents", "support.total")
TRIAGE: Key = ("agents", "triage")
HOLDER = "pod-1/1772442000000"
AT = int(NOW.timestamp())
MODEL = "openai/gpt-4o-mini"


@dataclass
class Ledgers:
    """The reconcile of ledgers against an API server in memory."""

    client: FakeClient = field(default_factory=FakeClient)
    cache: ResourceCache = field(default_factory=ResourceCache)
    now: Any = NOW
    running: set[str] = field(default_factory=set)
    woken: list[tuple[Key, float]] = field(default_factory=list)
    version: int = 1
    day_seconds: int | None = None

    def __post_init__(self) -> None:
        self.restart()
        self.apply_policy(a_policy())
        self.apply(an_agent())

    def restart(self) -> None:
        client: Any = self.client
        self.store = LedgerStore(
            client,
            lambda key: self.cache.uid(AGENT.kind, key) is not None,
            lambda _: None,
            functools.partial(environments_of, self.cache),
            self.day_seconds,
        )
        for key, found in list(self.client.objects.items()):
            if found["kind"] == BUDGET_LEDGER.kind:
                self.store.policy_seen(("agents", "support"))
                self.store.put(BUDGET_LEDGER.kind, copy.deepcopy(self.client.objects[key]))
        holders = DeadHolders(self.cache, self.store, client, lambda _: self.running, self.monotonic)
        self.events = EventPoster(client, "operator-1", lambda: self.now)
        self.reconciler = LedgerReconciler(
            cache=self.cache,
            store=self.store,
            holders=holders,
            overrides=Overrides(self.store, InstalledPolicies(client, self.monotonic), self.events),
            events=self.events,
            clock=lambda: self.now,
            wake_agent=lambda key, wait: self.woken.append((key, wait)),
        )

    def monotonic(self) -> float:
        return float(self.now.timestamp())

    def wait(self, span: float) -> None:
        self.now += seconds(int(span))

    def apply(self, agent: AgentBuilder) -> None:
        self.version += 1
        self.cache.put_agent(agent.in_environment("staging").calling(MODEL).at_version(self.version).to_kubernetes())

    def apply_policy(self, policy: PolicyBuilder) -> None:
        self.version += 1
        self.cache.put_policy(policy.at_version(self.version).to_kubernetes())

    async def create(self, key: Key = OWN) -> None:
        self.store.policy_seen(("agents", "support"))
        identity = LedgerIdentity("support", "triage", "staging") if key == OWN else LedgerIdentity("support")
        await self.store.create("agents", identity, "Ada Example <ada@example.com>" if key == OWN else "")

    def write(self, ledger: Ledger, key: Key = OWN) -> None:
        """Let a guard write."""
        path = BUDGET_LEDGER.path(*key)
        found = self.client.put(path, {**self.client.objects[path], "status": dump_ledger(ledger)})
        self.store.put(BUDGET_LEDGER.kind, copy.deepcopy(found))

    def ledger(self, key: Key = OWN) -> Ledger:
        return parse_ledger(self.client.objects[BUDGET_LEDGER.path(*key)].get("status"))

    async def reconcile(self, key: Key = OWN) -> float | None:
        due = await self.reconciler.reconcile(key)
        await self.events.close()
        return due

    def alerts(self) -> list[str]:
        return [one["note"] for one in self.client.of_kind("Event").values() if one["reason"] == "BudgetAlert"]

    def posted(self) -> int:
        return sum(path.startswith("/apis/events") for method, path in self.client.requests if method == "POST")

    def pod(self, uid: str, *, is_ending: bool = False) -> None:
        metadata = {"name": uid, "namespace": "agents", "uid": uid, "labels": {"interlock.dev/agent": "triage"}}
        if is_ending:
            metadata["deletionTimestamp"] = "2026-03-02T09:00:00Z"
        self.client.put(POD.path("agents", uid), {"kind": "Pod", "metadata": metadata})

    def lease(self, value: str, *, is_managed: bool = True) -> None:
        managed = {"app.kubernetes.io/managed-by": "interlock"} if is_managed else {}
        labels = {"interlock.dev/agent": "triage", **managed}
        metadata = {"name": "triage-1", "namespace": "agents", "labels": labels}
        annotations = {"holder.interlock.dev/triage-1-x": value}
        self.client.put(
            LEASE.path("agents", "triage-1"), {"kind": "Lease", "metadata": metadata | {"annotations": annotations}}
        )


@pytest.fixture
async def ledgers() -> Ledgers:
    ledgers = Ledgers()
    await ledgers.create()
    return ledgers


def held(dollars: float, spent: float = 0, holder: str = HOLDER) -> Ledger:
    """Return a ledger of which a holder has a slice."""
    terms = LedgerTerms(200 * NANOS, None)
    ledger, granted = take(
        Ledger(), terms, holder, holder.partition("/")[0], least=1, want=int(dollars * NANOS), now=AT
    )
    assert granted == int(dollars * NANOS)
    assert ledger.day is not None
    assert ledger.month is not None
    day, month = (structs.replace(one, spent=int(spent * NANOS)) for one in (ledger.day, ledger.month))
    return structs.replace(ledger, day=day, month=month)


@requirement("budget.ledger-first")
async def test_a_ledger_names_its_owner_and_has_no_owner_reference_so_it_outlives_the_agent(ledgers: Ledgers) -> None:
    made = ledgers.client.objects[BUDGET_LEDGER.path(*OWN)]

    assert made["spec"] == {"policy": "support", "agent": "triage", "environment": "staging"}
    assert made["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "interlock",
        "interlock.dev/agent": "triage",
        "interlock.dev/policy": "support",
    }
    assert made["metadata"]["annotations"] == {"interlock.dev/owner": "Ada Example <ada@example.com>"}
    assert "ownerReferences" not in made["metadata"]


@requirement("budget.ledger-first")
async def test_a_ledger_that_exists_is_taken_as_it_is(ledgers: Ledgers) -> None:
    ledgers.write(held(5, spent=3))
    ledgers.restart()
    await ledgers.create()

    assert ledgers.ledger() == held(5, spent=3)
    stored = ledgers.store.get(OWN)
    assert stored is not None
    assert stored.read() == held(5, spent=3)


@requirement("budget.dead-holders")
async def test_the_holder_of_a_pod_that_is_gone_is_closed_immediately_and_once(ledgers: Ledgers) -> None:
    ledgers.write(held(5, spent=3))

    await ledgers.reconcile()

    closed = ledgers.ledger()
    assert (closed.slices, closed.day and closed.day.spent) == ((), 8 * NANOS)
    ledgers.client.forget_requests()
    assert await ledgers.reconcile() is None
    assert ledgers.client.writes() == []


@requirement("budget.dead-holders")
async def test_the_holder_of_a_pod_that_is_ending_may_settle_until_it_is_gone(ledgers: Ledgers) -> None:
    ledgers.write(held(5))
    ledgers.pod("pod-1", is_ending=True)

    assert await ledgers.reconcile() == ENDING_SECONDS
    assert ledgers.ledger() == held(5)

    del ledgers.client.objects[POD.path("agents", "pod-1")]
    await ledgers.reconcile()
    assert ledgers.ledger().slices == ()


async def keep_silent(ledgers: Ledgers, span: float) -> None:
    until = ledgers.monotonic() + span
    while ledgers.monotonic() < until:
        assert await ledgers.reconcile() in (CHECK_SECONDS, None)
        ledgers.wait(CHECK_SECONDS)


async def renew(ledgers: Ledgers, holder: str, span: float, more: str = "", *, is_managed: bool = True) -> None:
    """Let a holder renew its Lease at each check for some time; `more` stands behind the time in its sign of life."""
    for _ in range(int(span / CHECK_SECONDS)):
        ledgers.lease(f"{holder} {ledgers.now.isoformat()}{more}", is_managed=is_managed)
        await ledgers.reconcile()
        ledgers.wait(CHECK_SECONDS)


@requirement("budget.dead-holders")
async def test_a_holder_that_is_silent_for_two_leases_is_closed_and_not_before(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(held(5))

    await keep_silent(ledgers, SILENT_SECONDS)
    assert ledgers.ledger().slices != ()

    await keep_silent(ledgers, 40)
    assert ledgers.ledger().slices == ()


@requirement("budget.dead-holders")
async def test_a_silent_holder_without_money_is_not_closed_while_its_pod_runs(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    settled = held(5)
    settled = structs.replace(settled, slices=(structs.replace(settled.slices[0], amount=0),))
    ledgers.write(settled)

    await keep_silent(ledgers, SILENT_SECONDS + 40)

    assert ledgers.ledger() == settled


@requirement("budget.dead-holders")
async def test_a_holder_that_renews_its_lease_lives_without_writing_its_slice(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(held(5))

    await renew(ledgers, HOLDER, 20 * CHECK_SECONDS)

    assert ledgers.ledger() == held(5)


@requirement("budget.dead-holders")
@pytest.mark.parametrize(("is_managed", "more"), [(False, ""), (True, "x" * 256)], ids=["a user's", "too long"])
async def test_a_lease_that_no_guard_writes_is_no_sign_of_life(ledgers: Ledgers, is_managed: Any, more: str) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(held(5))

    await renew(ledgers, HOLDER, 12 * CHECK_SECONDS, more, is_managed=is_managed)

    assert ledgers.ledger().slices == ()


@requirement("budget.dead-holders")
async def test_the_lease_of_another_holder_is_no_sign_of_life(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(held(5))

    await renew(ledgers, "pod-2/1", 12 * CHECK_SECONDS)

    assert ledgers.ledger().slices == ()


@requirement("budget.dead-holders")
async def test_silence_while_the_api_server_is_away_for_the_operator_closes_no_holder(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(held(5))
    await keep_silent(ledgers, 40)
    ledgers.client.refuse("GET", "budgetledgers", status=503, times=30)
    for _ in range(30):
        with pytest.raises(ApiError):
            await ledgers.reconcile()
        ledgers.wait(CHECK_SECONDS)

    await ledgers.reconcile()  # it is back, and the guard has not written yet
    assert ledgers.ledger() == held(5)


@requirement("budget.dead-holders")
async def test_a_write_of_a_guard_in_between_is_kept_and_the_ledger_reconciled_again(ledgers: Ledgers) -> None:
    ledgers.write(held(5))
    newer = ledgers.client.put(
        BUDGET_LEDGER.path(*OWN),
        {**ledgers.client.objects[BUDGET_LEDGER.path(*OWN)], "status": dump_ledger(held(5, spent=4))},
    )

    assert await ledgers.reconcile() is not None
    assert ledgers.ledger() == held(5, spent=4)

    ledgers.store.put(BUDGET_LEDGER.kind, newer)
    await ledgers.reconcile()
    assert ledgers.ledger().day == structs.replace(held(5).day, spent=9 * NANOS)  # type: ignore[type-var]


@requirement("budget.alerts")
async def test_an_alert_is_recorded_and_posted_once_for_a_window_also_after_a_restart(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(held(5, spent=101))
    await ledgers.reconcile()

    assert [(one.percent, one.period) for one in ledgers.ledger().alerts] == [(50, "day")]
    (note,) = ledgers.alerts()
    assert note == "agent triage in staging spent 50 % of its daily budget since 2026-03-02T00:00:00Z: $101 of $200"

    posted = ledgers.posted()
    await ledgers.reconcile()
    assert ledgers.posted() == posted
    ledgers.restart()
    await ledgers.reconcile()
    assert len(ledgers.alerts()) == 1
    ledgers.wait(3600)
    ledgers.restart()
    posted = ledgers.posted()
    await ledgers.reconcile()
    assert ledgers.posted() == posted


@requirement("budget.alerts")
async def test_an_alert_that_a_guard_recorded_is_posted(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(held(5, spent=101))
    await ledgers.reconcile()
    recorded = ledgers.ledger()
    eighty = structs.replace(recorded.alerts[0], percent=80, spent=161 * NANOS)
    ledgers.write(structs.replace(recorded, alerts=(*recorded.alerts, eighty)))

    await ledgers.reconcile()

    assert len(ledgers.alerts()) == 2


@requirement("budget.alerts", "budget.b11")
async def test_what_a_guard_held_that_ended_raises_the_alert_of_its_window_once(ledgers: Ledgers) -> None:
    ledgers.write(held(5, spent=98))  # no pod has this guard any more

    for _ in range(3):
        await ledgers.reconcile()
        ledgers.restart()

    assert [(one.percent, one.spent) for one in ledgers.ledger().alerts] == [(50, 103 * NANOS)]
    assert len(ledgers.alerts()) == 1


@requirement("budget.alerts")
async def test_the_alert_of_a_total_is_one_of_its_policy(ledgers: Ledgers) -> None:
    ledgers.apply_policy(a_policy().budgeting(total={"dailyBudget": "10"}))
    await ledgers.create(TOTAL)
    ledgers.running = {"pod-1"}
    ledgers.write(held(1, spent=9), TOTAL)

    await ledgers.reconcile(TOTAL)

    (event, other) = (one for one in ledgers.client.of_kind("Event").values() if one["reason"] == "BudgetAlert")
    assert (event["regarding"]["kind"], event["regarding"]["name"]) == ("AgentPolicy", "support")
    assert "all agents of AgentPolicy support together spent" in other["note"]


def rushing(dollars: int) -> Ledger:
    """Return a ledger whose newest ten minutes cost that much, after a day of $1 each."""
    start = AT - AT % 600
    recent = RecentSpend(start, (dollars * NANOS, *[NANOS] * 144))
    return structs.replace(held(5), recent=recent)


def velocity_events(ledgers: Ledgers) -> list[dict[str, Any]]:
    return [one for one in ledgers.client.of_kind("Event").values() if one["reason"] == "VelocityAlert"]


@requirement("budget.velocity")
async def test_ten_minutes_that_cost_far_more_than_usual_are_one_event_also_after_a_restart(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(rushing(5))
    await ledgers.reconcile()
    assert velocity_events(ledgers) == []

    ledgers.write(rushing(6))
    await ledgers.reconcile()

    (recorded,) = ledgers.ledger().velocity_alerts
    assert (recorded.spent, recorded.median) == (6 * NANOS, NANOS)
    (event,) = velocity_events(ledgers)
    assert (event["regarding"]["kind"], event["type"]) == ("Agent", "Warning")
    assert event["note"] == (
        "agent triage in staging spent $6 in the ten minutes from 2026-03-02T09:00:00Z, where the median of its last "
        "day is $1"
    )
    labels = {"namespace": "agents", "policy": "support", "agent": "triage", "environment": "staging"}
    name = "interlock_budget_velocity_alert_timestamp_seconds"
    assert REGISTRY.get_sample_value(name, labels) == recorded.window_start

    posted = ledgers.posted()
    await ledgers.reconcile()
    assert ledgers.posted() == posted
    ledgers.restart()
    await ledgers.reconcile()
    assert len(velocity_events(ledgers)) == 1


@requirement("budget.velocity")
async def test_a_policy_sets_which_velocity_is_an_alert(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.apply_policy(a_policy().budgeting(velocity={"factor": 10}))
    ledgers.write(rushing(6))
    await ledgers.reconcile()
    ledgers.apply_policy(a_policy().budgeting(velocity={"minimum": "6"}))
    await ledgers.reconcile()
    assert velocity_events(ledgers) == []

    ledgers.apply_policy(a_policy().budgeting(velocity={"minimum": "5.99"}))
    await ledgers.reconcile()
    assert len(velocity_events(ledgers)) == 1


@requirement("budget.velocity")
async def test_the_velocity_of_a_total_is_an_event_of_its_policy(ledgers: Ledgers) -> None:
    ledgers.apply_policy(a_policy().budgeting(total={"dailyBudget": "10"}))
    await ledgers.create(TOTAL)
    ledgers.running = {"pod-1"}
    ledgers.write(rushing(6), TOTAL)

    await ledgers.reconcile(TOTAL)

    (event,) = velocity_events(ledgers)
    assert (event["regarding"]["kind"], event["regarding"]["name"]) == ("AgentPolicy", "support")


def counting(tokens: int) -> Ledger:
    """Return a ledger whose newest hour has so many tokens of input for 100000 bytes, after hours with 25000."""
    hour = AT - AT % 3600
    before = TokenCount(20, 100_000, 25_000)
    counted = add_tokens((), {MODEL: before}, hour - 3600)
    return structs.replace(held(5), tokens=add_tokens(counted, {MODEL: before._replace(input_tokens=tokens)}, hour))


def token_events(ledgers: Ledgers) -> list[dict[str, Any]]:
    return [one for one in ledgers.client.of_kind("Event").values() if one["reason"] == "TokensPerByteAlert"]


@requirement("budget.tokens-per-byte", "budget.b12")
async def test_b12_tokens_a_quarter_off_the_day_before_are_one_event_a_log_line_and_a_gauge(
    ledgers: Ledgers, caplog: pytest.LogCaptureFixture
) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(counting(31_250))
    await ledgers.reconcile()
    assert token_events(ledgers) == []

    ledgers.write(counting(31_251))
    await ledgers.reconcile()

    (recorded,) = ledgers.ledger().token_alerts
    assert (recorded.model, recorded.direction, recorded.tokens, recorded.day_tokens) == (
        MODEL,
        "input",
        31_251,
        25_000,
    )
    (event,) = token_events(ledgers)
    assert (event["regarding"]["kind"], event["type"]) == ("Agent", "Warning")
    assert event["note"] == (
        "agent triage in staging: openai/gpt-4o-mini reported 313 tokens of input for 1000 bytes in the hour from "
        "2026-03-02T09:00:00Z, and 250 on the day before"
    )
    assert [one.alert for one in caplog.records if hasattr(one, "alert")] == [event["note"]]
    labels = {"namespace": "agents", "policy": "support", "agent": "triage", "environment": "staging"}
    assert REGISTRY.get_sample_value("interlock_budget_tokens_alert_timestamp_seconds", labels) == AT

    posted = ledgers.posted()
    await ledgers.reconcile()
    assert ledgers.posted() == posted
    ledgers.restart()
    await ledgers.reconcile()
    assert len(token_events(ledgers)) == 1


@requirement("budget.tokens-per-byte")
async def test_a_policy_sets_how_far_tokens_per_byte_may_differ(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.apply_policy(a_policy().budgeting(tokensPerByte={"changePercent": 30}))
    ledgers.write(counting(32_000))
    await ledgers.reconcile()
    ledgers.apply_policy(a_policy().budgeting(tokensPerByte={"minimumCalls": 21}))
    await ledgers.reconcile()
    assert token_events(ledgers) == []

    ledgers.apply_policy(a_policy().budgeting(tokensPerByte={"changePercent": 27, "minimumCalls": 20}))
    await ledgers.reconcile()
    assert len(token_events(ledgers)) == 1


@requirement("budget.forecast", "operator.idle")
async def test_the_forecast_is_a_gauge_that_a_full_step_of_ten_minutes_changes(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    name = "interlock_budget_forecast_dollars"
    labels = {"namespace": "agents", "policy": "support", "agent": "triage", "environment": "staging"}
    await ledgers.reconcile()
    assert REGISTRY.get_sample_value(name, labels) is None

    start = AT - AT % 600 - 600
    ledgers.write(structs.replace(held(5, spent=18), recent=RecentSpend(start, (NANOS,) * 18)))
    due = await ledgers.reconcile()
    assert REGISTRY.get_sample_value(name, labels) == 108
    assert due is not None
    assert due <= 600

    ledgers.client.forget_requests()
    ledgers.wait(4 * 3600)
    await ledgers.reconcile()
    assert REGISTRY.get_sample_value(name, labels) == 18
    assert ledgers.client.writes() == []


@requirement("budget.exhausted")
async def test_agents_hear_of_spend_within_seconds_and_of_exhaustion_immediately(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(held(5, spent=3))
    await ledgers.reconcile()
    ledgers.woken.clear()

    ledgers.write(held(5, spent=4))
    await ledgers.reconcile()
    assert ledgers.woken == [(TRIAGE, SPEND_SECONDS)]

    ledgers.woken.clear()
    exhausted = Exhausted(AT, "day", 500 * NANOS, HOLDER)
    ledgers.write(structs.replace(held(5, spent=4), exhausted=exhausted))
    await ledgers.reconcile()
    assert ledgers.woken == [(TRIAGE, 0.0)]


@pytest.mark.parametrize("key", [OWN, TOTAL])
async def test_all_that_spend_from_a_ledger_hear_immediately_that_it_is_exhausted_and_that_it_is_gone(
    ledgers: Ledgers, key: Key
) -> None:
    ledgers.apply(an_agent("sorter"))  # under the same policy
    ledgers.apply(an_agent("stranger").under("another"))
    if key == TOTAL:
        await ledgers.create(TOTAL)
    await ledgers.reconcile(key)
    spenders = {(TRIAGE, 0.0)} if key == OWN else {(TRIAGE, 0.0), (("agents", "sorter"), 0.0)}

    ledgers.woken.clear()
    exhausted = Exhausted(AT, "day", 5000 * NANOS, HOLDER)
    ledgers.write(structs.replace(ledgers.ledger(key), exhausted=exhausted), key)
    await ledgers.reconcile(key)
    assert set(ledgers.woken) == spenders

    ledgers.woken.clear()
    await ledgers.reconcile(key)
    assert set(ledgers.woken) == ({(TRIAGE, SPEND_SECONDS)} if key == OWN else set())

    ledgers.woken.clear()
    ledgers.store.drop(BUDGET_LEDGER.kind, key, 10**9, None)
    await ledgers.reconcile(key)
    assert set(ledgers.woken) == spenders


@requirement("budget.exhausted")
async def test_a_raised_limit_clears_the_refusal_that_a_guard_recorded(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(structs.replace(held(5, spent=190), exhausted=Exhausted(AT, "day", 20 * NANOS, HOLDER)))
    await ledgers.reconcile()
    assert ledgers.ledger().exhausted is not None

    ledgers.apply_policy(a_policy().declaring({"name": "staging", "dailyBudget": "300"}))
    await ledgers.reconcile()

    assert ledgers.ledger().exhausted is None


async def test_a_ledger_follows_the_policy_and_the_owner_of_its_agent(ledgers: Ledgers) -> None:
    other = a_policy("other").at_version(40)
    ledgers.cache.put_policy(other.to_kubernetes())
    ledgers.apply(an_agent().under("other").owned_by("Bo Example", "bo@example.com"))

    await ledgers.reconcile()

    metadata = ledgers.client.objects[BUDGET_LEDGER.path(*OWN)]["metadata"]
    assert metadata["labels"]["interlock.dev/policy"] == "other"
    assert metadata["annotations"]["interlock.dev/owner"] == "Bo Example <bo@example.com>"
    assert metadata["annotations"]["interlock.dev/policy-since"] == "2026-03-02T09:00:00Z"


async def test_a_ledger_whose_owner_alone_changes_has_been_with_its_policy_for_ever(ledgers: Ledgers) -> None:
    ledgers.apply(an_agent().owned_by("Bo Example", "bo@example.com"))

    await ledgers.reconcile()

    annotations = ledgers.client.objects[BUDGET_LEDGER.path(*OWN)]["metadata"]["annotations"]
    assert annotations == {"interlock.dev/owner": "Bo Example <bo@example.com>"}


@requirement("operator.memory")
async def test_a_ledger_of_no_known_agent_or_with_a_false_label_is_not_kept(ledgers: Ledgers) -> None:
    path = BUDGET_LEDGER.path(*OWN)
    made = copy.deepcopy(ledgers.client.objects[path])
    ledgers.store.agent_gone(TRIAGE)
    assert ledgers.store.get(OWN) is None

    made["metadata"]["labels"]["interlock.dev/agent"] = "sales"
    assert ledgers.store.owner_of("", made) is None
    foreign = copy.deepcopy(made) | {"spec": {"policy": "support", "agent": "sales", "environment": "staging"}}
    ledgers.store.put(BUDGET_LEDGER.kind, foreign)
    impossible = copy.deepcopy(made) | {"spec": {"policy": "support", "agent": "triage", "environment": "total"}}
    ledgers.store.put(BUDGET_LEDGER.kind, impossible)
    assert ledgers.store.get(OWN) is None
