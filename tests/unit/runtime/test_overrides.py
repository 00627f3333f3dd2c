"""An override is given or refused once, in one ledger, and only where the API server vouches for who set it."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from interlock.governance.budgets import LedgerIdentity
from interlock.runtime.overrides import RETRY_SECONDS
from interlock_contract.budget.leases import LedgerTerms, room
from interlock_contract.budget.ledger import Credit, Exhausted
from interlock_contract.budget.money import NANOS
from interlock_kube.resource_types import BUDGET_LEDGER, Key
from tests.requirements import requirement
from tests.support.builders import AgentBuilder, PolicyBuilder, a_policy, an_agent
from tests.unit.runtime.test_ledgers import AT, HOLDER, OWN, Ledgers, held

UNTIL = "2026-03-02T18:00:00Z"
MONTH_END = f"+25 USD until={UNTIL} reason=month end"
TOO_MUCH = f"+101 USD until={UNTIL} reason=too much"
TOO_LONG = "+1 USD until=2026-03-03T10:00:00Z reason=too long"
TERMS = LedgerTerms(200 * NANOS, None)
OTHER: Key = ("agents", "triage.development")
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
POLICY = f"{ADMISSION}/validatingadmissionpolicies/agents-commands.interlock.dev"
BINDING = f"{ADMISSION}/validatingadmissionpolicybindings/agents-commands.interlock.dev"


def overriding(text: str, by: str = "ada") -> AgentBuilder:
    return an_agent()._with(  # noqa: SLF001 - annotations without a word of their own
        "metadata",
        annotations={"interlock.dev/budget-override": text, "interlock.dev/budget-override-by": by},
    )


def install(ledgers: Ledgers, **spec: Any) -> None:
    """Install the admission policy and its binding."""
    ledgers.client.put(POLICY, {"kind": "Policy", "metadata": {"name": "agents-commands.interlock.dev"}})
    binding = {"validationActions": ["Deny"], "matchResources": {"namespaceSelector": {}}, **spec}
    ledgers.client.put(BINDING, {"kind": "Binding", "metadata": {"name": "b"}, "spec": binding})


def uninstall(ledgers: Ledgers) -> None:
    for path in (POLICY, BINDING):
        del ledgers.client.objects[path]


def refusals(ledgers: Ledgers) -> list[str]:
    events = ledgers.client.of_kind("Event").values()
    return [one["note"] for one in events if one["reason"] == "BudgetOverrideRefused"]


def allowing(**bounds: str) -> PolicyBuilder:
    return a_policy().budgeting(override=bounds)


def credited(ledgers: Ledgers, key: Key = OWN) -> int:
    """Return what an override adds now, in whole dollars."""
    return room(ledgers.ledger(key), TERMS, int(ledgers.now.timestamp())) // NANOS - 200


@pytest.fixture
async def ledgers() -> Ledgers:
    found = Ledgers()
    await found.create()
    install(found)
    return found


@requirement("budget.override")
async def test_an_override_is_one_credit_with_its_author_and_is_given_once(ledgers: Ledgers) -> None:
    ledgers.apply(overriding(MONTH_END))

    await ledgers.reconcile()

    credit = ledgers.ledger().credit
    assert credit is not None
    assert structs.replace(credit, id=None) == Credit(25 * NANOS, AT + 9 * 3600, "month end", AT, by="ada")
    ledgers.client.forget_requests()
    ledgers.wait(60)
    await ledgers.reconcile()
    assert ledgers.client.writes() == []


@requirement("budget.override")
async def test_a_removed_override_leaves_nothing_to_spend_and_can_be_set_again(ledgers: Ledgers) -> None:
    ledgers.apply(overriding(MONTH_END))
    await ledgers.reconcile()
    assert credited(ledgers) == 25

    ledgers.apply(an_agent())
    await ledgers.reconcile()
    assert credited(ledgers) == 0

    ledgers.apply(overriding(MONTH_END))
    await ledgers.reconcile()
    assert credited(ledgers) == 25


@requirement("budget.override")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TOO_MUCH, "more than the 100 USD that AgentPolicy support allows"),
        (TOO_LONG, "longer than the 24h that AgentPolicy support allows"),
        ("+1e3 USD until=2026-03-02T18:00:00Z reason=x", "is no override"),
        ("-1 USD until=2026-03-02T18:00:00Z reason=x", "is no override"),
    ],
)
async def test_an_override_beyond_the_policy_gives_nothing_and_is_one_event(
    ledgers: Ledgers, text: str, says: str
) -> None:
    ledgers.apply(overriding(text))

    await ledgers.reconcile()
    await ledgers.reconcile()

    assert credited(ledgers) == 0
    (note,) = refusals(ledgers)
    assert says in note


@requirement("budget.override")
@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("text", [TOO_MUCH, TOO_LONG])
async def test_a_refused_override_never_becomes_money(ledgers: Ledgers, text: str, is_restarted: Any) -> None:
    ledgers.apply(overriding(text))
    await ledgers.reconcile()

    ledgers.now += timedelta(hours=2)  # the rest is short enough now
    ledgers.apply_policy(allowing(maxAmount="1000", maxDuration="48h"))
    if is_restarted:
        ledgers.restart()
    await ledgers.reconcile()
    assert credited(ledgers) == 0

    ledgers.apply(overriding(f"{text} again"))
    await ledgers.reconcile()
    assert credited(ledgers) > 0


@requirement("budget.override")
async def test_an_override_that_the_policy_no_longer_allows_ends_for_ever(ledgers: Ledgers) -> None:
    ledgers.apply(overriding(MONTH_END))
    await ledgers.reconcile()

    ledgers.apply_policy(allowing(maxAmount="10"))
    await ledgers.reconcile()
    assert credited(ledgers) == 0
    ledgers.apply_policy(allowing(maxAmount="100"))
    await ledgers.reconcile()

    assert credited(ledgers) == 0
    assert len(refusals(ledgers)) == 1


@requirement("budget.override")
async def test_an_agent_that_was_deleted_and_created_again_is_another_one(ledgers: Ledgers) -> None:
    ledgers.apply(overriding(TOO_MUCH))
    await ledgers.reconcile()
    ledgers.apply_policy(allowing(maxAmount="1000"))

    ledgers.apply(overriding(TOO_MUCH)._with("metadata", uid="another"))  # noqa: SLF001 - as above
    await ledgers.reconcile()

    assert credited(ledgers) == 101


@requirement("budget.override")
async def test_a_refusal_is_no_reason_to_call_with_an_exhausted_budget(ledgers: Ledgers) -> None:
    ledgers.running = {"pod-1"}
    ledgers.write(structs.replace(held(5, spent=190), exhausted=Exhausted(AT, "day", 20 * NANOS, HOLDER)))
    ledgers.apply(overriding(TOO_MUCH))

    await ledgers.reconcile()

    assert ledgers.ledger().exhausted is not None


@requirement("budget.override")
async def test_an_override_that_is_over_gives_nothing(ledgers: Ledgers) -> None:
    ledgers.apply(overriding("+1 USD until=2026-03-02T08:59:59Z reason=yesterday"))

    await ledgers.reconcile()

    assert ledgers.ledger().credit is None


@requirement("budget.override")
@pytest.mark.parametrize("refused", [False, True])
async def test_an_override_stays_with_the_ledger_that_has_it_when_the_agent_moves_on(
    ledgers: Ledgers, refused: Any
) -> None:
    text = TOO_MUCH if refused else MONTH_END
    ledgers.apply(overriding(text))
    await ledgers.reconcile()
    ledgers.apply_policy(allowing(maxAmount="1000"))

    ledgers.version += 1
    moved = overriding(text).in_environment("development").calling("openai/gpt-4o-mini").at_version(ledgers.version)
    ledgers.cache.put_agent(moved.to_kubernetes())
    await ledgers.store.create("agents", LedgerIdentity("support", "triage", "development"))
    for key in (OTHER, OWN):
        await ledgers.reconcile(key)

    assert (credited(ledgers), credited(ledgers, OTHER)) == (0 if refused else 25, 0)


@requirement("budget.override")
async def test_an_override_is_not_given_again_while_the_ledger_that_has_it_cannot_be_read(ledgers: Ledgers) -> None:
    ledgers.apply(overriding(MONTH_END))
    await ledgers.reconcile()
    ledgers.version += 1
    moved = overriding(MONTH_END).in_environment("development").calling("openai/gpt-4o-mini")
    ledgers.cache.put_agent(moved.at_version(ledgers.version).to_kubernetes())
    await ledgers.store.create("agents", LedgerIdentity("support", "triage", "development"))
    path = BUDGET_LEDGER.path(*OWN)
    status = {**ledgers.client.objects[path]["status"], "month": 7}
    ledgers.store.put(BUDGET_LEDGER.kind, ledgers.client.put(path, {**ledgers.client.objects[path], "status": status}))

    assert await ledgers.reconcile(OTHER) == RETRY_SECONDS
    assert credited(ledgers, OTHER) == 0
    for key in (OWN, OTHER):  # the repair, and the next attempt
        await ledgers.reconcile(key)
    assert credited(ledgers, OTHER) == 0


# Who vouches


@requirement("budget.override")
@pytest.mark.parametrize(
    "spec",
    [
        None,
        {"validationActions": ["Audit", "Warn"]},
        {"matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}},
        {"matchResources": {"excludeResourceRules": [{"resources": ["agents"]}]}},
    ],
    ids=["missing", "without Deny", "elsewhere", "excluding"],
)
async def test_an_override_gives_nothing_where_nothing_checks_who_may_set_it(ledgers: Ledgers, spec: Any) -> None:
    if spec is None:
        del ledgers.client.objects[BINDING]
    else:
        install(ledgers, **spec)
    ledgers.apply(overriding(MONTH_END))

    await ledgers.reconcile()

    assert credited(ledgers) == 0
    credit = ledgers.ledger().credit
    assert credit is not None
    assert credit.by is None
    (note,) = refusals(ledgers)
    assert "apply manifests/admission" in note
    install(ledgers)
    ledgers.wait(60)
    await ledgers.reconcile()
    assert credited(ledgers) == 0, "anyone may have written what was there before"
    ledgers.apply(overriding(f"{MONTH_END}, checked"))
    await ledgers.reconcile()
    assert credited(ledgers) == 25


@requirement("budget.override")
async def test_a_policy_that_was_installed_a_moment_ago_counts(ledgers: Ledgers) -> None:
    uninstall(ledgers)
    ledgers.apply(overriding(MONTH_END))
    await ledgers.reconcile()

    install(ledgers)
    ledgers.apply(overriding(f"{MONTH_END}, checked"))
    await ledgers.reconcile()

    assert credited(ledgers) == 25


@requirement("budget.override")
async def test_an_override_without_an_author_gives_nothing(ledgers: Ledgers) -> None:
    ledgers.apply(overriding(MONTH_END, by=""))

    await ledgers.reconcile()

    assert credited(ledgers) == 0
    assert len(refusals(ledgers)) == 1


@requirement("budget.override")
async def test_an_override_waits_while_the_policies_cannot_be_read(ledgers: Ledgers) -> None:
    ledgers.client.refuse("GET", "validatingadmissionpolicies", status=503)
    ledgers.apply(overriding(MONTH_END))

    assert await ledgers.reconcile() == RETRY_SECONDS
    assert ledgers.ledger().credit is None
    assert refusals(ledgers) == []

    await ledgers.reconcile()
    assert credited(ledgers) == 25


@requirement("budget.override")
async def test_an_override_is_the_same_one_whoever_is_said_to_have_set_it(ledgers: Ledgers) -> None:
    ledgers.apply(overriding(MONTH_END))
    await ledgers.reconcile()
    given = ledgers.ledger().credit
    uninstall(ledgers)
    ledgers.wait(60)

    ledgers.apply(overriding(MONTH_END, by="eve"))
    await ledgers.reconcile()

    assert ledgers.ledger().credit == given
