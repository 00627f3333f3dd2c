"""Changes of an agent in production, on real pods with seconds for days, under tasks that never stop."""

import json
from pathlib import Path
from typing import Any

import pytest

from interlock_audit.remote import Remote
from interlock_audit.stores import all_lines
from tests.e2e.live import Live, always, eventually
from tests.e2e.rollouts import Staged, answers, start_prober
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(900)]

PROGRAM = (Path(__file__).parent / "programs" / "worker.py").read_text()
WORKER, ANSWERS = "support-triage", "answers"
SOAK = "8s"
WORKLOADS = 2
"""Pods of each replica: the agent's and its guard's."""
EU, US, ID = (
    ["list_contacts", {"region": "eu-west"}],
    ["list_contacts", {"region": "us-east"}],
    ["get_contact", {"id": "eu-1"}],
)
"""Calls of the CRM. The last one does not name a region."""


def worker(namespace: str) -> list[dict[str, Any]]:
    """Return examples/05-staged-scope with an agent that takes tasks, and soaks as short as a test can be."""
    objects = example_objects("05-staged-scope", namespace)
    policy, agent = find(objects, "AgentPolicy"), find(objects, "Agent")
    policy["spec"]["rollout"] |= {"minStaging": SOAK, "minLimitedScope": SOAK}
    agent["spec"] |= {
        "tasks": {"port": 8080, "maxConcurrentTasks": 16, "scope": [{"dimension": "region", "header": "X-Region"}]},
        "files": [{"path": "worker.py", "content": PROGRAM}],
    }
    agent["spec"]["template"] |= {
        "command": ["sh", "-c", 'exec python "$INTERLOCK_FILES/worker.py"'],
        "env": [{"name": "VERSION", "value": "one"}],
    }
    for stage in agent["spec"]["rollout"]["stages"][:-1]:
        stage["minDuration"] = SOAK
    return objects


def refusals(collector: str, auditor: Path, namespace: str) -> set[str]:
    """Return the reasons of all refusals of calls and tasks that the collector has of a namespace."""
    remote = Remote(collector, auditor)
    chains = remote.chains(namespace).chains
    records = [json.loads(line.text) for chain in chains for line in all_lines(remote, chain.guard)]
    calls = {one["reason"] for one in records if one.get("decision") == "Deny"}
    return calls | {one["outcome"] for one in records if one.get("kind") == "task"}


@requirement("rollout.service-on-a-cluster", "rollout.back-on-a-cluster")
def test_a_second_revision_passes_all_stages_a_scale_down_and_a_rollback_end_pods_without_one_failed_task(
    live: Live, auditor: Path, collector: str
) -> None:
    live.apply(*worker(live.namespace))
    staged = Staged(live, WORKER)
    staged.until_good(1)
    first, good = staged.revision(1), staged.pods_of("everywhere")
    start_prober(live, WORKER)

    staged.change("VERSION", "two")
    eventually(lambda: "2/staging" in staged.serves(), 60, staged.describe)
    second = staged.revision(2)
    staged.command("pause", f"{second}/everywhere")  # holds the scope until it was seen
    staged.until_serves({"2/one-region": "region=eu-west", "1/everywhere": "all but region=eu-west"})
    assert staged.condition("Serving") == ("True", "Served")
    assert staged.condition("Ready") == ("True", "PodsReady")

    # A task reaches the placement that serves it, whichever Service it came by.
    assert staged.send("us-east", "one-region")["version"] == "one"
    assert staged.send("eu-west", "everywhere")["version"] == "two"
    assert [staged.send(region)["version"] for region in ("eu-west", "us-east", None)] == ["two", "one", "one"]
    assert staged.send("us-east", "one-region", is_forwarded=True)["status"] == 421
    assert staged.send("eu-west", "everywhere", is_forwarded=True)["status"] == 421
    # A call outside is refused by the one and served by the other. The rest has what names no region.
    assert staged.send("eu-west", calls=[EU, US, ID])["calls"] == ["allowed", "OutOfScope", "ScopeUndeclared"]
    assert staged.send("us-east", calls=[EU, US, ID])["calls"] == ["ServedElsewhere", "allowed", "allowed"]
    recorded = {"OutOfScope", "ScopeUndeclared", "ServedElsewhere", "Answered"}
    eventually(
        lambda: refusals(collector, auditor, live.namespace) >= recorded,
        60,
        lambda: str(refusals(collector, auditor, live.namespace)),
    )
    eventually(lambda: staged.condition("RolloutPaused")[0] == "True", 60, staged.describe)
    assert staged.pods_of("everywhere") == good, "pods of the good revision are not restarted by a rollout next to it"

    staged.command("pause", None)
    staged.until_good(2)
    for replicas in (2, 1):
        staged.scale(replicas)
        eventually(lambda replicas=replicas: staged.ready_pods() == WORKLOADS * replicas, 120, staged.describe)
    staged.command("rollback", first)
    staged.until_good(3)
    assert staged.condition("Degraded") == ("True", "RolledBack")
    assert staged.send("us-east")["version"] == "one"
    before = len(answers(live).lines)
    eventually(lambda: len(answers(live).lines) > before + 60, 60, lambda: str(len(answers(live).lines)))
    found = answers(live)
    assert found.failures == [], json.dumps(found.failures)
    assert {region: found.versions(region) for region in ("eu-west", "us-east", "-")} == {
        region: ["one", "two", "one"] for region in ("eu-west", "us-east", "-")
    }


def be_stopped_in_staging(live: Live, staged: Staged) -> None:
    """Change the agent to a version that fails every task: a test sends it one in staging."""
    staged.change("VERSION", "broken")
    eventually(lambda: staged.condition("Degraded") == ("True", "GateBreached"), 120, staged.describe)
    assert staged.tests() == [("staging", "smoke", "Failed", 1)]
    assert staged.status["rollout"]["tests"][0]["log"] == 'the agent answered with 500: {"version": "broken"}\n'
    assert staged.status["stage"]["name"] == "everywhere"
    assert answers(live).failures == []


@requirement("rollout.back-on-a-cluster", "rollout.test-on-a-cluster")
def test_a_bad_revision_is_stopped_by_a_test_a_command_or_a_gate_and_the_good_one_never_stops(live: Live) -> None:
    live.apply(*example_objects("10-rollback", live.namespace))
    staged = Staged(live, ANSWERS)
    staged.until_good(1)
    assert staged.tests() == [("staging", "smoke", "Passed", 0)]
    good = staged.pods_of("everywhere")
    start_prober(live, ANSWERS)

    be_stopped_in_staging(live, staged)
    staged.change("VERSION", "bad")  # fails what the test does not send, and so passes staging
    eventually(lambda: "3/staging" in staged.serves(), 60, staged.describe)
    staged.command("pause", f"{staged.revision(3)}/everywhere")  # holds the scope until it was seen
    staged.until_serves({"3/one-region": "region=eu-west", "1/everywhere": "all but region=eu-west"})
    eventually(lambda: bool(answers(live).failures), 30, lambda: "no task has reached the bad revision")
    staged.command("abort", staged.revision(3))
    eventually(lambda: staged.serves().get("1/everywhere") == "all", 30, staged.describe)
    staged.until_serves({"1/everywhere": "all"}, 60)
    assert staged.condition("Degraded") == ("True", "Aborted")
    assert staged.condition("Ready")[0] == "True"
    always(lambda: staged.serves() == {"1/everywhere": "all"}, 3, staged.describe)
    assert staged.pods_of("everywhere") == good, "the good revision never stopped"
    others = [one for one in answers(live).failures if (one["region"], one["status"]) != ("eu-west", 500)]
    assert others == [], f"only the bad revision itself fails: {json.dumps(others)}"

    # Tried again under a gate, it is taken back by itself.
    staged.gate("one-region", {"minTasks": 5, "maxErrorPercent": 20, "onBreach": "Rollback"})
    staged.command("retry", staged.revision(3))
    eventually(lambda: "4/staging" in staged.serves(), 60, staged.describe)
    eventually(lambda: staged.condition("Degraded") == ("True", "GateBreached"), 120, staged.describe)
    staged.until_serves({"1/everywhere": "all"}, 60)
    assert staged.pods_of("everywhere") == good, "the good revision never stopped"
    assert {(one["region"], one["status"]) for one in answers(live).failures} == {("eu-west", 500)}
