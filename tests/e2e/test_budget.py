"""examples/04-budget-stop on real pods: an agent in a loop is stopped at its budget, and an override frees it."""

import re
from datetime import timedelta

import pytest

from interlock_contract.clock import utc_now
from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.examples import example_objects

pytestmark = [pytest.mark.kind, pytest.mark.timeout(300)]

AGENT, LEDGER = "spender", "spender.development"
CALL = 10 * 150 + 2000 * 600
"""What an answer of the example costs, in nano-dollars."""
BUDGET = 50_000_000
ANSWERS = 41
"""As many as fit: the 42nd would cost 0.0012 dollars, and 0.0007 are left."""


def refusals(live: Live) -> list[str]:
    return re.findall(r"^refused: 429 insufficient_quota after \d+ answers$", live.agent_log(AGENT), re.MULTILINE)


def answers(live: Live) -> int:
    provider = live.kubectl("-n", live.namespace, "logs", "deployment/spender-models")
    return provider.count("answered with 2000 tokens")


def spent(live: Live) -> int:
    day: dict[str, int] = live.get("budgetledgers.interlock.dev", LEDGER)["status"]["day"]
    return day["spent"]


@pytest.fixture(scope="module")
def spending(shared: Live) -> Live:
    shared.apply(*example_objects("04-budget-stop", shared.namespace))
    shared.until_ready(AGENT, 120)
    eventually(lambda: bool(refusals(shared)), 120, lambda: shared.agent_log(AGENT)[-3000:])
    return shared


@requirement("budget.on-a-cluster")
def test_an_agent_in_a_loop_is_stopped_at_its_budget_and_an_override_frees_it(spending: Live) -> None:
    assert refusals(spending)[0] == f"refused: 429 insufficient_quota after {ANSWERS} answers"
    assert answers(spending) == ANSWERS
    spending.until_condition(AGENT, "BudgetExhausted", "True")
    eventually(lambda: spent(spending) == ANSWERS * CALL, 30, lambda: f"{spent(spending)} of {ANSWERS * CALL}")
    assert spent(spending) <= BUDGET
    eventually(
        lambda: spending.get("agents.interlock.dev", AGENT)["status"]["budget"]["summary"] == "$0.0493/$0.05",
        30,
        lambda: str(spending.get("agents.interlock.dev", AGENT)["status"].get("budget")),
    )

    def alerts() -> list[str]:
        notes = [one.get("note", "") for one in spending.items("events") if one.get("reason") == "BudgetAlert"]
        return sorted(note for note in notes if note.startswith(f"agent {AGENT} "))

    eventually(lambda: len(alerts()) == 2, 30, lambda: str(alerts()))
    until = (utc_now() + timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    override = f"interlock.dev/budget-override=+0.01 USD until={until} reason=the demo goes on"
    spending.kubectl("-n", spending.namespace, "annotate", "agents.interlock.dev", AGENT, override, "--overwrite")
    more = 0.01e9 // CALL
    eventually(lambda: answers(spending) >= ANSWERS + more, 60, lambda: f"{answers(spending)} answers")
    assert answers(spending) * CALL <= BUDGET + 10_000_000
