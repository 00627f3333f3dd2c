"""examples/04-budget-stop on real pods: an agent in a loop is stopped at its budget, and an override frees it.

The policy has a webhook besides, whose receiver is a pod that verifies what the notifier posts.
"""

import base64
import copy
import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock_contract.clock import utc_now
from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.bounds import check_promise
from tests.support.certificates import an_authority
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(300)]

AGENT, LEDGER = "spender", "spender.development"
CALL = 10 * 150 + 2000 * 600
"""What an answer of the example costs, in nano-dollars."""
BUDGET = 50_000_000
ANSWERS = 41
"""As many as fit: the 42nd would cost 0.0012 dollars, and 0.0007 are left."""


NOTIFIER = "app.kubernetes.io/name=interlock-notifier,interlock.dev/policy=spending"
RECEIVER, PORT = "receiver", 8443
CONTAINER = "provider"
"""Of the provider's pod, from which the receiver is copied."""
PROGRAM = Path(__file__).parent / "programs" / "webhook_receiver.py"


def notifying(namespace: str, folder: Path) -> list[dict[str, Any]]:
    """Return the example with a webhook, and a pod that receives its posts."""
    objects = example_objects("04-budget-stop", namespace)
    authority, host = an_authority(), f"{RECEIVER}.{namespace}.svc"
    authority.server_context(folder, host)
    find(objects, "ConfigMap")["data"] |= {
        "receiver.py": PROGRAM.read_text(),
        "tls.pem": (folder / f"{host}.pem").read_text(),
        "ca.crt": authority.pem.decode(),
    }
    keys = {
        "hook-url": f"https://{host}:{PORT}/alerts",
        "hook-key": f"whsec_{base64.b64encode(os.urandom(32)).decode()}",
    }
    find(objects, "Secret")["stringData"] |= keys
    workload, service = copy.deepcopy(find(objects, "Deployment")), copy.deepcopy(find(objects, "Service"))
    labels = {"app": RECEIVER}
    for one in (workload, service):
        one["metadata"]["name"] = RECEIVER
    workload["spec"]["selector"]["matchLabels"] = workload["spec"]["template"]["metadata"]["labels"] = labels
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    reference = {"name": find(objects, "Secret")["metadata"]["name"], "key": "hook-key"}
    container |= {
        "command": ["python", "/provider/receiver.py"],
        "env": [{"name": "SIGNING_KEY", "valueFrom": {"secretKeyRef": reference}}],
        "ports": [{"name": "http", "containerPort": PORT}],
    }
    service["spec"] = {"selector": labels, "ports": [{"port": PORT}]}
    webhook = {
        "urlFrom": {"secretKeyRef": {**reference, "key": "hook-url"}},
        "signingKeyFrom": {"secretKeyRef": reference},
        "caFrom": {"configMapKeyRef": {"name": find(objects, "ConfigMap")["metadata"]["name"], "key": "ca.crt"}},
        "format": "Standard",
        "network": "Private",
    }
    find(objects, "AgentPolicy")["spec"]["notify"] = [{"name": RECEIVER, "webhook": webhook}]
    return [workload, service, *objects]


def posts(live: Live) -> list[tuple[str, str, str]]:
    """Return what the receiver got about the agent: whether it was signed, the percentage, and the type."""
    ledger = live.get("budgetledgers.interlock.dev", LEDGER)["metadata"]["uid"]
    log = live.app_log(RECEIVER, CONTAINER)
    found = re.findall(rf"^(\S+) {ledger}/day/\S+/(\d+) (\S+)$", log, re.MULTILINE)
    return [(str(signed), str(percent), str(kind)) for signed, percent, kind in found]


def times_of(live: Live, workload: str, pattern: str) -> list[datetime]:
    """Return when a Deployment's pod wrote the lines of its log that match, by the clock of the node."""
    log = live.kubectl("-n", live.namespace, "logs", "--timestamps", f"deployment/{workload}")
    lines = (line.partition(" ") for line in log.splitlines())
    return [datetime.fromisoformat(f"{time[:26]}+00:00") for time, _, text in lines if re.search(pattern, text)]


def check_alerts_came_soon(live: Live) -> None:
    """Check when each line was crossed by an answer of the provider, and when its alert arrived."""
    paid, ledger = times_of(live, "spender-models", "answered"), live.get("budgetledgers.interlock.dev", LEDGER)
    for percent in (50, 80):
        crossing = paid[-(-BUDGET * percent // 100 // CALL) - 1]
        (arrived,) = times_of(live, RECEIVER, rf"{ledger['metadata']['uid']}/day/\S+/{percent} ")
        check_promise((arrived - crossing).total_seconds(), 5.0, f"an alert at {percent} % reaches its webhook")


def refusals(live: Live) -> list[str]:
    return re.findall(r"^refused: 429 insufficient_quota after \d+ answers$", live.agent_log(AGENT), re.MULTILINE)


def answers(live: Live) -> int:
    return live.app_log("spender-models", CONTAINER).count("answered with 2000 tokens")


def spent(live: Live) -> int:
    day: dict[str, int] = live.get("budgetledgers.interlock.dev", LEDGER)["status"]["day"]
    return day["spent"]


def is_notifying(live: Live) -> bool:
    """Return True if the policy says so, and its one notifier is a pod that is ready."""
    conditions = live.get("agentpolicies.interlock.dev", "spending").get("status", {}).get("conditions", ())
    is_said = ("Notifying", "True") in [(one["type"], one["status"]) for one in conditions]
    pods = [one["status"].get("conditions", ()) for one in live.items("pods", NOTIFIER)]
    ready = [any((one["type"], one["status"]) == ("Ready", "True") for one in pod) for pod in pods]
    return is_said and ready == [True]


def explain_webhooks(live: Live) -> str:
    """Return what the receiver and the notifier say."""
    notifier = live.attempt("-n", live.namespace, "logs", "-l", NOTIFIER, "--tail=20").stdout
    policy = live.get("agentpolicies.interlock.dev", "spending")["status"]["conditions"]
    return f"{posts(live)}\n{policy}\n{notifier[-3000:]}"


@pytest.fixture(scope="module")
def spending(shared: Live, tmp_path_factory: pytest.TempPathFactory) -> Live:
    *others, agent = notifying(shared.namespace, tmp_path_factory.mktemp("receiver"))
    assert agent["kind"] == "Agent"
    shared.apply(*others)
    eventually(lambda: is_notifying(shared), 60, lambda: str(shared.items("pods")))
    shared.apply(agent)
    shared.until_ready(AGENT, 120)
    eventually(lambda: bool(refusals(shared)), 120, lambda: shared.agent_log(AGENT)[-3000:])
    return shared


ALERTS = [
    ("signed", "50", "budget.alert"),
    ("signed", "80", "budget.alert"),
    ("signed", "100", "budget.exhausted"),
]


@requirement("budget.on-a-cluster", "budget.webhooks", "budget.b11")
def test_an_agent_in_a_loop_is_stopped_at_its_budget_with_alerts_and_an_override_frees_it(spending: Live) -> None:
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
    eventually(lambda: posts(spending) == ALERTS, 60, lambda: explain_webhooks(spending))
    check_alerts_came_soon(spending)
    spending.kubectl("-n", spending.namespace, "delete", "pods", "--wait=false", "-l", NOTIFIER)
    until = (utc_now() + timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    override = f"interlock.dev/budget-override=+0.01 USD until={until} reason=the demo goes on"
    spending.kubectl("-n", spending.namespace, "annotate", "agents.interlock.dev", AGENT, override, "--overwrite")
    more = 0.01e9 // CALL
    eventually(lambda: answers(spending) >= ANSWERS + more, 60, lambda: f"{answers(spending)} answers")
    assert answers(spending) * CALL <= BUDGET + 10_000_000
    eventually(lambda: is_notifying(spending), 60, lambda: explain_webhooks(spending))
    assert posts(spending) == ALERTS, "a notifier that starts again posts nothing again"
