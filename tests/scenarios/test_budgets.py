"""Budgets: pods wait for their ledger, what is spent is shown, and an agent stops and wakes by its budget."""

from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs

from interlock.api.status import ConditionType
from interlock.reconcile.agent import reconcile
from interlock.reconcile.agent_budget import WRITE_INTERVAL
from interlock_contract.budget.leases import LedgerTerms, roll
from interlock_contract.budget.ledger import Credit, Exhausted, Ledger, LedgerWindow, RecentSpend
from interlock_contract.budget.money import NANOS
from interlock_contract.budget.rates import RateLimits
from interlock_contract.budget.velocity import STEP_SECONDS
from interlock_contract.bundle import BUNDLE_KEY, Bundle, parse_bundle
from tests.requirements import requirement
from tests.support.builders import (
    NOW,
    PolicyBuilder,
    SnapshotBuilder,
    a_binding,
    a_policy,
    a_snapshot,
    a_stage,
    an_agent,
)
from tests.support.simulation import SECOND, Simulation

MODEL = "openai/gpt-4o-mini"
OWN, TOTAL = "triage.staging", "support.total"
AT = int(NOW.timestamp())
MIDNIGHT = timedelta(hours=15)  # NOW is 9:00 UTC


def under(policy: PolicyBuilder | None = None, **models: int) -> SnapshotBuilder:
    """Return an agent in staging that calls a model, with $200 a day; `models` are members of `spec.models`."""
    allowing = (policy or a_policy()).allowing_models(MODEL, **models)
    return a_snapshot().of(an_agent().in_environment("staging").calling(MODEL)).with_policy(allowing)


def stopping() -> PolicyBuilder:
    return a_policy().budgeting(onExhausted="ScaleToZero")


def spent(dollars: float, *, refused: float | None = None, at: int = AT) -> Ledger:
    """Return a ledger of the day of a time; `refused` is what a guard could not take."""
    ledger = roll(Ledger(), LedgerTerms(200 * NANOS, None), at)
    window = ledger.day
    assert window is not None
    exhausted = None if refused is None else Exhausted(at, "day", int(refused * NANOS), "uid/1")
    day = LedgerWindow(window.start, window.end, spent=int(dollars * NANOS))
    return structs.replace(ledger, day=day, exhausted=exhausted)


def replicas(simulation: Simulation) -> int:
    return int(simulation.child("Deployment")["spec"]["replicas"])


def a_run(policy: PolicyBuilder | None = None) -> Simulation:
    simulation = Simulation(under(policy))
    simulation.run()
    return simulation


def find(simulation: Simulation, ledger: Ledger, name: str = OWN) -> None:
    simulation.snapshot = simulation.snapshot.with_ledger(name, ledger)


@requirement("budget.ledger-first")
def test_no_pod_starts_before_its_ledger_exists() -> None:
    outcome = reconcile(under().build(), NOW)

    assert [identity.name for identity in outcome.missing_ledgers] == [OWN]
    assert outcome.plan.workloads == ()
    ready = next(one for one in outcome.status.conditions if one.type == ConditionType.READY)
    assert (ready.reason, OWN in ready.message) == ("WaitingForDeployment", True)


@requirement("budget.ledger-first")
def test_a_policy_with_a_total_has_a_second_ledger_that_pods_wait_for() -> None:
    snapshot = under(a_policy().budgeting(total={"dailyBudget": "500"})).with_ledger(OWN, Ledger())

    outcome = reconcile(snapshot.build(), NOW)

    assert [(one.name, one.agent) for one in outcome.missing_ledgers] == [(TOTAL, "")]
    assert outcome.plan.workloads == ()
    assert not reconcile(snapshot.with_ledger(TOTAL, Ledger()).build(), NOW).missing_ledgers


def test_an_agent_that_spends_no_money_has_no_ledger_and_no_budget() -> None:
    simulation = Simulation()
    simulation.run()

    assert simulation.condition(ConditionType.BUDGET_EXHAUSTED).reason == "NoBudget"
    assert simulation.status.budget is None
    assert simulation.snapshot.ledgers == {}


def test_the_bundle_has_the_limits_and_the_price_of_each_model() -> None:
    policy = a_policy().budgeting(
        total={"monthlyBudget": "900"}, timeZone="Europe/Berlin", alertPercents=[10], perTask="1.50"
    )
    agent = an_agent().in_environment("staging").calling(MODEL).budgeting(staging="120")
    simulation = Simulation(under(policy, hangUpSeconds=0).of(agent))
    simulation.run()

    bundle = find_bundle(simulation)
    budget, models = bundle.budget, bundle.models
    assert budget is not None
    assert models is not None
    assert (budget.ledger, budget.day, budget.month) == (OWN, 120 * NANOS, None)
    assert (budget.total_ledger, budget.total_day, budget.total_month) == (TOTAL, None, 900 * NANOS)
    assert (budget.time_zone, budget.alert_percents, budget.max_output_tokens) == ("Europe/Berlin", (10,), 4096)
    assert (budget.per_task, budget.hang_up_seconds) == (15 * NANOS // 10, 0)
    assert models.providers[0].models[0].price is not None
    assert models.price_book


def find_bundle(simulation: Simulation) -> Bundle:
    texts = [child.manifest["data"] for key, child in simulation.snapshot.children.items() if key.kind == "ConfigMap"]
    return next(parse_bundle(data[BUNDLE_KEY]) for data in texts if BUNDLE_KEY in data)


@requirement("budget.rates")
def test_an_agent_with_rate_limits_has_a_ledger_although_it_spends_no_money() -> None:
    limited = a_snapshot().with_policy(a_policy().rating(callsPerMinute=60))
    missing = reconcile(limited.build(), NOW)
    assert [identity.agent for identity in missing.missing_ledgers] == ["triage"]
    assert missing.plan.workloads == ()

    simulation = Simulation(limited)
    simulation.run()
    budget = find_bundle(simulation).budget
    assert budget is not None
    assert budget.rate_limits == RateLimits(60, None)
    rules = [rule for rule in simulation.child("Role")["rules"] if "budgetledgers/status" in rule["resources"]]
    assert [rule["resourceNames"] for rule in rules] == [[budget.ledger]]


def test_the_bundle_has_the_rate_limits_of_the_policy() -> None:
    simulation = Simulation(under(a_policy().rating(callsPerMinute=60, tokensPerMinute=90_000)))
    simulation.run()
    budget = find_bundle(simulation).budget
    assert budget is not None
    assert budget.rate_limits == RateLimits(60, 90_000)


@requirement("budget.price-missing", "budget.b6")
def test_a_model_without_a_price_is_refused_and_the_message_says_what_to_do() -> None:
    outcome = reconcile(under().without_price_of(MODEL).build(), NOW)

    governed = next(one for one in outcome.status.conditions if one.type == ConditionType.GOVERNED)
    assert (governed.status, governed.reason) == ("False", "PriceMissing")
    assert all(part in governed.message for part in (MODEL, "spec.models.prices of AgentPolicy support", "remove"))
    assert not outcome.plan.has_writes


@requirement("budget.lower-only")
def test_a_budget_above_that_of_the_policy_has_no_effect() -> None:
    agent = an_agent().in_environment("staging").calling(MODEL).budgeting(staging="200.01")
    simulation = Simulation(under().of(agent))
    simulation.run()

    assert simulation.status.budget is not None
    assert simulation.status.budget.summary == "$0/$200"


@requirement("budget.shown")
def test_the_status_shows_spend_and_limit_in_one_column() -> None:
    simulation = a_run()
    assert simulation.status.budget is not None
    assert simulation.status.budget.summary == "$0/$200"

    find(simulation, spent(12.4))
    simulation.wait(WRITE_INTERVAL)
    simulation.settle()

    budget = simulation.status.budget
    assert (budget.summary, budget.spent, budget.resets_at) == ("$12.40/$200", "12.40", NOW + MIDNIGHT)


@requirement("budget.shown", "operator.idle")
def test_spend_alone_is_written_at_most_every_ten_seconds_and_never_lost() -> None:
    simulation = a_run()
    find(simulation, spent(1))
    simulation.wait(WRITE_INTERVAL)
    simulation.settle()
    for count in range(2, 10):
        find(simulation, spent(count))
        simulation.wait(SECOND)
        outcome = simulation.settle()
        assert simulation.status.budget is not None
        assert simulation.status.budget.summary == "$1/$200"
        assert outcome.requeue_at is not None

    simulation.now = outcome.requeue_at
    simulation.settle()

    assert simulation.status.budget.summary == "$9/$200"


def test_what_was_spent_yesterday_is_not_shown_today() -> None:
    simulation = a_run()
    find(simulation, spent(12))
    simulation.wait(WRITE_INTERVAL)
    outcome = simulation.settle()
    assert outcome.requeue_at == NOW + MIDNIGHT

    simulation.wait(MIDNIGHT - WRITE_INTERVAL)
    simulation.settle()

    assert simulation.status.budget is not None
    assert simulation.status.budget.summary == "$0/$200"


@requirement("budget.forecast", "operator.idle")
def test_the_forecast_of_the_day_is_shown_and_written_again_only_when_ten_minutes_are_full() -> None:
    simulation = a_run()
    steady = RecentSpend(AT - STEP_SECONDS, (NANOS,) * 18)
    find(simulation, structs.replace(spent(18), recent=steady))
    simulation.wait(WRITE_INTERVAL)
    outcome = simulation.settle()
    assert simulation.status.budget is not None
    assert simulation.status.budget.forecast == "108"  # 15 hours of $6 are left
    assert outcome.requeue_at == NOW + timedelta(seconds=STEP_SECONDS)

    written = simulation.status
    simulation.wait(timedelta(minutes=9))
    simulation.settle()
    assert simulation.status == written

    simulation.now = outcome.requeue_at
    simulation.settle()
    assert simulation.status.budget.forecast == "102.06"  # 17 of the steps are left, and 14 hours and 50 minutes

    simulation.wait(timedelta(hours=3))
    outcome = simulation.settle()
    assert (simulation.status.budget.forecast, outcome.requeue_at) == ("18", NOW + MIDNIGHT)


@requirement("budget.exhausted")
def test_an_exhausted_budget_is_a_condition_that_says_until_when_and_what_to_do() -> None:
    simulation = a_run()
    find(simulation, spent(199.9, refused=0.2))
    simulation.settle()

    condition = simulation.condition(ConditionType.BUDGET_EXHAUSTED)
    assert (condition.status, condition.reason) == ("True", "BudgetExhausted")
    for part in ("$200", "2026-03-03T00:00:00Z", "spec.environments[staging]", "budget-override"):
        assert part in condition.message
    assert [note.reason for note in simulation.events if note.reason == "BudgetExhausted"] == ["BudgetExhausted"]
    assert replicas(simulation) == 1, "Block refuses calls and keeps the pods"
    assert simulation.condition(ConditionType.READY).status == "True"


@pytest.mark.parametrize(
    ("ledger", "why"),
    [
        (spent(199.9, refused=0.05), "there is room for the call that was refused"),
        (spent(199.9), "no call was refused"),
        (spent(100, refused=10**5), "no guard says so of a call that is larger than half of the limit"),
    ],
)
def test_a_budget_with_room_is_not_exhausted(ledger: Ledger, why: str) -> None:
    simulation = a_run()
    find(simulation, ledger)
    simulation.settle()

    assert simulation.condition(ConditionType.BUDGET_EXHAUSTED).status == "False", why


@requirement("budget.scale-to-zero")
def test_scale_to_zero_ends_the_pods_until_the_next_window_and_never_writes_spec_replicas() -> None:
    simulation = a_run(stopping())
    find(simulation, spent(199.9, refused=0.2))
    assert {key.kind for key in simulation.peek().plan.ending} == {"Deployment"}, "no pod has its grace period"
    simulation.settle()

    assert replicas(simulation) == 0
    ready = simulation.condition(ConditionType.READY)
    assert (ready.status, ready.reason) == ("False", "BudgetExhausted")
    assert simulation.condition(ConditionType.STALLED).status == "False"
    assert simulation.snapshot.agent.build().spec.replicas == 1

    simulation.wait(MIDNIGHT - SECOND)
    outcome = simulation.settle()
    assert (replicas(simulation), outcome.requeue_at) == (0, NOW + MIDNIGHT)

    simulation.wait(SECOND)
    simulation.run()
    assert replicas(simulation) == 1
    assert simulation.condition(ConditionType.READY).status == "True"


@requirement("budget.scale-to-zero")
def test_what_ended_guards_give_back_wakes_no_agent() -> None:
    simulation = a_run(stopping())
    find(simulation, spent(199.9, refused=0.2))
    simulation.settle()

    find(simulation, spent(199.0))
    simulation.wait(SECOND)
    simulation.settle()

    assert replicas(simulation) == 0
    assert simulation.condition(ConditionType.BUDGET_EXHAUSTED).status == "True"


@requirement("budget.scale-to-zero", "budget.override")
def test_an_override_and_a_higher_limit_wake_an_agent_before_the_next_window() -> None:
    simulation = a_run(stopping())
    find(simulation, spent(199.9, refused=0.2))
    simulation.settle()
    assert replicas(simulation) == 0

    credit = Credit(amount=10 * NANOS, until=AT + 3600, reason="month end", given_at=AT)
    find(simulation, structs.replace(spent(199.9), credit=credit))
    simulation.run()
    assert replicas(simulation) == 1

    find(simulation, spent(199.9, refused=0.2))
    simulation.settle()
    assert replicas(simulation) == 0
    raised = (
        stopping().allowing_models(MODEL).declaring({"name": "staging", "isolation": "Shared", "dailyBudget": "300"})
    )
    simulation.find_policy(raised)
    simulation.run()
    assert replicas(simulation) == 1


@requirement("budget.scale-to-zero")
def test_an_exhausted_total_stops_the_agents_of_its_policy() -> None:
    policy = a_policy().budgeting(onExhausted="ScaleToZero", total={"dailyBudget": "10"})
    simulation = a_run(policy)
    find(simulation, spent(9.9, refused=0.2), TOTAL)
    simulation.settle()

    condition = simulation.condition(ConditionType.BUDGET_EXHAUSTED)
    assert (condition.status, "spec.budget.total" in condition.message) == ("True", True)
    assert replicas(simulation) == 0


def pods_by_stage(simulation: Simulation) -> dict[str, int]:
    found = [child.manifest for key, child in simulation.snapshot.children.items() if key.kind == "Deployment"]
    return {one["metadata"]["labels"]["interlock.dev/stage"]: int(one["spec"]["replicas"]) for one in found}


@requirement("budget.scale-to-zero")
def test_the_last_good_revision_obeys_the_budget_of_its_own_environment() -> None:
    """A newer revision is in staging, whose budget has room, and whose environment the status shows."""
    agent = an_agent().calling(MODEL).with_stages(a_stage("staging", lasting="24h"), a_stage("all", "production"))
    policy = stopping().allowing_models(MODEL).requiring(minStaging="24h", requireLimitedScope=False)
    snapshot = a_snapshot().of(agent).with_policy(policy).with_bindings(a_binding())
    simulation = Simulation(snapshot.with_ledger(OWN, spent(0)).with_ledger("triage.production", spent(0)))
    for span in (timedelta(0), timedelta(hours=24), timedelta(minutes=1)):
        simulation.wait(span)
        simulation.run()
    simulation.apply(agent.with_template(image="example/agent:2"))
    simulation.run()
    assert pods_by_stage(simulation) == {"staging": 1, "all": 1}

    day = int((NOW + timedelta(hours=24)).timestamp())
    find(simulation, spent(999.9, refused=0.2, at=day), "triage.production")
    simulation.run()
    assert pods_by_stage(simulation) == {"staging": 1, "all": 0}
    condition = simulation.condition(ConditionType.BUDGET_EXHAUSTED)
    assert (condition.status, "in production" in condition.message) == ("True", True)
    serving = simulation.condition(ConditionType.SERVING)
    assert (serving.status, serving.message) == ("False", "production is not served: the budget is exhausted")
    find(simulation, spent(10, at=day), "triage.production")  # its guards have given back what they did not spend
    simulation.run()
    assert pods_by_stage(simulation) == {"staging": 1, "all": 0}, "until the window ends"

    simulation.wait(MIDNIGHT)
    simulation.run()
    assert pods_by_stage(simulation) == {"staging": 1, "all": 1}


@requirement("budget.ledger-first")
def test_a_ledger_that_cannot_be_read_is_reported_and_is_not_created_again() -> None:
    simulation = a_run()
    simulation.snapshot = replace(
        simulation.snapshot, ledgers={OWN: f"BudgetLedger {OWN} cannot be read ($.day: is none)"}
    )
    outcome = simulation.settle()

    condition = simulation.condition(ConditionType.BUDGET_EXHAUSTED)
    assert (condition.status, condition.reason) == ("Unknown", "LedgerInvalid")
    assert OWN in condition.message
    assert outcome.missing_ledgers == ()
