"""examples/05-staged-scope on real pods: the stage's scope is enforced, and soaks survive the operator."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.timeout(420)]

AGENT = "support-triage"
SOAK = timedelta(seconds=12)


def _objects(namespace: str) -> list[dict[str, Any]]:
    """Return the example with soaks as short as a test can be."""
    objects = example_objects("05-staged-scope", namespace)
    seconds = f"{SOAK.seconds}s"
    find(objects, "AgentPolicy")["spec"]["rollout"] |= {"minStaging": seconds, "minLimitedScope": seconds}
    for stage in find(objects, "Agent")["spec"]["rollout"]["stages"][:-1]:
        stage["minDuration"] = seconds
    return objects


def _require_limited_scope(live: Live, minimum: str) -> None:
    patch = json.dumps({"spec": {"rollout": {"minLimitedScope": minimum}}})
    live.kubectl("-n", live.namespace, "patch", "agentpolicy", "support", "--type=merge", "-p", patch)


def _until_stage(live: Live, name: str) -> None:
    eventually(lambda: live.stage(AGENT).get("name") == name, 60, lambda: str(live.stage(AGENT)))


@requirement("rollout.on-a-cluster")
def test_the_other_region_is_denied_until_everywhere_also_across_an_operator_restart(live: Live) -> None:
    live.apply(*_objects(live.namespace))
    _until_stage(live, "staging")
    _require_limited_scope(live, "1h")  # holds the last stage back until everything before it was seen
    live.until_said(AGENT, "allowed: list_contacts region=us-east")  # staging has no scope

    _until_stage(live, "one-region")
    live.until_said(AGENT, "denied: OutOfScope list_contacts region=us-east")
    live.until_said(AGENT, "allowed: list_contacts region=eu-west: 3 found")  # of the production account
    live.until_ready(AGENT)
    before = live.stage(AGENT)
    live.restart_operator()
    after = live.stage(AGENT)
    kept = ("name", "enteredAt", "readySince")
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}
    assert {one["reason"] for one in live.decisions(AGENT) if one["decision"] == "Deny"} >= {"OutOfScope"}

    _require_limited_scope(live, f"{SOAK.seconds}s")
    _until_stage(live, "everywhere")
    entered = datetime.fromisoformat(live.stage(AGENT)["enteredAt"])
    assert entered >= datetime.fromisoformat(before["readySince"]) + SOAK
    live.until_said(AGENT, "allowed: list_contacts region=us-east: 2 found")
    live.until_ready(AGENT)
    assert "readySince" in live.stage(AGENT)
