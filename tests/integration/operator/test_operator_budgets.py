"""Budgets with the real API server: ledgers, what is shown, alerts across restarts, and agents that stop and wake."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from interlock_contract.budget.leases import LedgerTerms, take
from interlock_contract.budget.ledger import Exhausted, Ledger, RecentSpend, dump_ledger, parse_ledger
from interlock_contract.budget.money import NANOS
from interlock_contract.budget.tokens_per_byte import ModelTokens, TokenCount, add_tokens
from interlock_contract.budget.velocity import STEP_SECONDS
from interlock_contract.clock import utc_now
from tests.integration.operator import objects
from tests.integration.operator.api import Json, Refused, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.sandbox import Sandbox, condition_of
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

MODEL = "openai/gpt-4o-mini"
LEDGER = "triage.development"
LEDGERS = "/apis/interlock.dev/v1alpha1/namespaces/{namespace}/budgetledgers"
SHOWN_SECONDS = 25.0  # the status follows the spend within 10 s
CLOSED_SECONDS = 10.0
CONFLICT = 409


def apply_policy(sandbox: Sandbox, **spec: Any) -> None:
    """Apply a policy that allows the model, with $50 a day in development."""
    policy = objects.policy("triage")
    policy["spec"] |= {"models": {"allow": [MODEL], "secretNames": ["openai"]}, **spec}
    sandbox.api.create(policy, sandbox.namespace)


def create_agent(sandbox: Sandbox, **spec: Any) -> None:
    key = {"secretKeyRef": {"name": "openai", "key": "key"}}
    sandbox.create("triage", bindings=[], models=[{"name": MODEL, "apiKeyFrom": key}], **spec)


def ledger_of(sandbox: Sandbox, name: str = LEDGER) -> Json:
    return sandbox.api.get("budgetledgers", sandbox.namespace, name)


def wait_for_ledger(sandbox: Sandbox, name: str = LEDGER) -> Json:
    def check() -> Json | None:
        found = sandbox.api.listed("budgetledgers", sandbox.namespace)
        return next((one for one in found if one["metadata"]["name"] == name), None)

    return eventually(check, f"BudgetLedger {name} exists")


def own_name(sandbox: Sandbox) -> str:
    """Return the user name of the cluster's administrator, whom the API server lets sign with no other one."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    found = sandbox.api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    return str(found["status"]["userInfo"]["username"])


def write(sandbox: Sandbox, ledger: Ledger, name: str = LEDGER) -> None:
    """Write the status of a ledger as a guard would, again where the operator wrote the ledger meanwhile."""
    path = f"{LEDGERS.format(namespace=sandbox.namespace)}/{name}/status"

    def is_written() -> bool:
        try:
            sandbox.api.request("PUT", path, {**ledger_of(sandbox, name), "status": dump_ledger(ledger)})
        except Refused as refused:
            if refused.status != CONFLICT:
                raise
            return False
        return True

    eventually(is_written, f"BudgetLedger {name} is written")


def held(dollars: float, spent: float, uid: str) -> Ledger:
    """Return a ledger of which a guard's pod holds a slice."""
    now, want = int(utc_now().timestamp()), int(dollars * NANOS)
    terms = LedgerTerms(50 * NANOS, None)
    ledger, _ = take(Ledger(), terms, f"{uid}/1", uid, least=1, want=want, now=now)
    assert ledger.day is not None
    assert ledger.month is not None
    day, month = (structs.replace(one, spent=int(spent * NANOS)) for one in (ledger.day, ledger.month))
    return structs.replace(ledger, day=day, month=month)


def exhausted(ledger: Ledger) -> Ledger:
    at = int(utc_now().timestamp())
    return structs.replace(ledger, exhausted=Exhausted(at, "day", 20 * NANOS, "other/1"))


def pod_uid(sandbox: Sandbox) -> str:
    (pod,) = sandbox.pods("triage")
    return str(pod["metadata"]["uid"])


def alerts(sandbox: Sandbox, reason: str = "BudgetAlert") -> list[Json]:
    return [one for one in sandbox.api.listed("events", sandbox.namespace) if one["reason"] == reason]


def counting_double() -> tuple[ModelTokens, ...]:
    """Return the tokens of a model that reports twice as many in this hour as in the one before."""
    now, count = int(utc_now().timestamp()), TokenCount(20, 100_000, 25_000)
    known = add_tokens((), {MODEL: count}, now - 3600)
    return add_tokens(known, {MODEL: count._replace(input_tokens=50_000)}, now)


@requirement("budget.ledger-first")
def test_the_ledger_is_there_before_the_pods_and_outlives_the_agent(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    apply_policy(sandbox, budget={"total": {"dailyBudget": "70"}})
    create_agent(sandbox)
    sandbox.wait_ready("triage")

    ledger, total = ledger_of(sandbox), ledger_of(sandbox, "support.total")
    deployment = sandbox.child("triage", "Deployment")
    for made in (ledger, total):
        first = next(one for one in deployment["metadata"]["managedFields"] if one["operation"] != "Status")
        assert made["metadata"]["creationTimestamp"] <= first["time"]
    assert ledger["spec"] == {"policy": "support", "agent": "triage", "environment": "development"}
    bundle = sandbox.bundle("triage")
    assert bundle["budget"]["ledger"] == LEDGER
    assert bundle["budget"]["totalLedger"] == "support.total"
    assert bundle["budget"]["day"] == 50 * NANOS
    assert bundle["models"]["providers"][0]["models"][0]["price"]["rows"][0]["input"] > 0

    write(sandbox, held(1, spent=12, uid="gone"))
    sandbox.api.delete("agents", sandbox.namespace, "triage")
    sandbox.wait_pruned("triage", 60)
    create_agent(sandbox)
    sandbox.wait_ready("triage")

    assert ledger_of(sandbox)["metadata"]["uid"] == ledger["metadata"]["uid"]
    assert ledger_of(sandbox)["status"]["day"]["spent"] >= 12 * NANOS


def test_a_guards_role_names_its_ledgers_and_lets_it_create_none(operator: OperatorProcess, sandbox: Sandbox) -> None:
    apply_policy(sandbox, budget={"total": {"dailyBudget": "70"}})
    create_agent(sandbox)
    sandbox.wait_ready("triage")

    rules = [rule for rule in sandbox.child("triage", "Role")["rules"] if "budgetledgers" in str(rule["resources"])]
    names = [LEDGER, "support.total"]
    assert rules == [
        {
            "apiGroups": ["interlock.dev"],
            "resources": ["budgetledgers"],
            "resourceNames": names,
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["interlock.dev"],
            "resources": ["budgetledgers/status"],
            "resourceNames": names,
            "verbs": ["get", "update"],
        },
    ]


@requirement("budget.shown", "budget.forecast")
def test_the_column_spent_and_the_forecast_follow_the_ledger(
    operator: OperatorProcess, sandbox: Sandbox, kubectl: Callable[..., str]
) -> None:
    apply_policy(sandbox)
    create_agent(sandbox)
    sandbox.wait_ready("triage")
    now = int(utc_now().timestamp())
    recent = RecentSpend(now - now % STEP_SECONDS - STEP_SECONDS, (NANOS,) * 18)
    write(sandbox, structs.replace(held(1, spent=12.4, uid=pod_uid(sandbox)), recent=recent))

    def shown() -> bool:
        return "$12.40/$50" in kubectl("-n", sandbox.namespace, "get", "agents.interlock.dev", "triage")

    sandbox.eventually(shown, "the column SPENT shows the spend", SHOWN_SECONDS)
    budget = sandbox.agent("triage")["status"]["budget"]
    assert budget["spent"] == "12.40"
    assert float(budget["forecast"]) >= 12.4


@requirement("budget.dead-holders")
def test_what_a_pod_that_is_gone_held_is_spent_within_seconds(operator: OperatorProcess, sandbox: Sandbox) -> None:
    apply_policy(sandbox)
    create_agent(sandbox)
    sandbox.wait_ready("triage")
    uid = pod_uid(sandbox)
    write(sandbox, held(3, spent=2, uid=uid))

    sandbox.api.delete_all("pods", sandbox.namespace)

    def closed() -> bool:
        ledger = parse_ledger(ledger_of(sandbox)["status"])
        return not ledger.slices and ledger.day is not None and ledger.day.spent == 5 * NANOS

    sandbox.eventually(closed, "the slice of the pod is spent", CLOSED_SECONDS)


@requirement("budget.alerts", "budget.tokens-per-byte", "budget.b11", "budget.b12")
def test_an_alert_of_a_time_without_operator_is_one_event_across_restarts(
    operators: Operators, sandbox: Sandbox
) -> None:
    operators.use()
    apply_policy(sandbox)
    create_agent(sandbox)
    sandbox.wait_ready("triage")
    uid = pod_uid(sandbox)
    operators.stop()
    write(sandbox, structs.replace(held(1, spent=41, uid=uid), tokens=counting_double()))

    def are_alerted() -> bool:
        return len(alerts(sandbox)) == 2 and len(alerts(sandbox, "TokensPerByteAlert")) == 1

    for _ in range(2):
        operators.use()
        sandbox.eventually(are_alerted, "50 and 80 percent are alerted, and the tokens", SHOWN_SECONDS)
        operators.stop()

    ledger = parse_ledger(ledger_of(sandbox)["status"])
    assert sorted(one.percent for one in ledger.alerts) == [50, 80]
    assert [one.model for one in ledger.token_alerts] == [MODEL]
    assert are_alerted()
    operators.use()


@requirement("budget.scale-to-zero", "budget.override")
def test_an_exhausted_agent_ends_and_an_override_wakes_it_without_a_write_of_replicas(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    apply_policy(sandbox, budget={"onExhausted": "ScaleToZero"})
    create_agent(sandbox)
    sandbox.wait_ready("triage")
    write(sandbox, exhausted(held(1, spent=40, uid=pod_uid(sandbox))))

    sandbox.eventually(lambda: sandbox.replicas("triage") == 0, "the agent has no pods")
    sandbox.eventually(lambda: not sandbox.pods("triage"), "its pods are gone")
    # The operator writes the status after the Deployment, whose pods may be gone by then.
    is_shown = lambda: condition_of(sandbox.agent("triage"), "BudgetExhausted").get("status") == "True"  # noqa: E731
    sandbox.eventually(is_shown, "the status says why")
    assert sandbox.agent("triage")["spec"]["replicas"] == 1

    until = utc_now() + timedelta(hours=1)
    override = f"+25 USD until={until:%Y-%m-%dT%H:%M:%SZ} reason=a test"
    annotations = {"interlock.dev/budget-override": override, "interlock.dev/budget-override-by": own_name(sandbox)}
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"annotations": annotations}})

    sandbox.eventually(lambda: sandbox.replicas("triage") == 1, "the override wakes the agent")
    credit = ledger_of(sandbox)["status"]["credit"]
    assert (credit["amount"], credit["by"]) == (25 * NANOS, own_name(sandbox))
    sandbox.wait_ready("triage")


@requirement("budget.price-missing")
def test_an_agent_whose_model_has_no_price_is_refused_until_the_policy_has_one(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    model = "openai/gpt-of-a-test"
    apply_policy(sandbox, models={"allow": [model], "secretNames": ["openai"]})
    key = {"secretKeyRef": {"name": "openai", "key": "key"}}
    sandbox.create("triage", bindings=[], models=[{"name": model, "apiKeyFrom": key}])

    assert model in sandbox.wait_refused("triage", "PriceMissing")

    price = {"model": model, "input": "0", "output": "0"}
    models = {"models": {"allow": [model], "secretNames": ["openai"], "prices": [price]}}
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": models})
    sandbox.wait_ready("triage")
