"""examples/02-refused-without-owner, and agents whose governance goes away while they run."""

import json
import time

import pytest

from tests.e2e.live import Live, eventually
from tests.support.bounds import TOLERANCE, check_promise
from tests.support.examples import EXAMPLES, example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.timeout(300)]

AGENT = "first-agent"
PRUNE_SECONDS = 10


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("agent.yaml", "spec.owner is missing"),
        ("agent-of-a-team.yaml", '"support@example.com" is a role address'),
    ],
)
def test_a_dry_run_says_who_is_missing(live: Live, file: str, message: str) -> None:
    path = str(EXAMPLES / "02-refused-without-owner" / file)
    refused = live.attempt("-n", live.namespace, "apply", "--dry-run=server", "-f", path)
    assert refused.returncode != 0
    assert message in refused.stderr


@pytest.mark.parametrize(
    "gone",
    ["policy", *(pytest.param(gone, marks=pytest.mark.nightly) for gone in ("row", "binding"))],
)
def test_pods_end_when_what_they_stand_on_goes_away(shared: Live, gone: str) -> None:
    live, objects = shared, example_objects("01-first-agent", shared.namespace)
    live.apply(*objects)
    live.until_ready(AGENT)
    policy, binding = find(objects, "AgentPolicy"), find(objects, "MCPBinding")
    if gone == "row":
        live.apply({**policy, "spec": {"dataAccess": []}})
    else:
        taken = policy if gone == "policy" else binding
        live.kubectl("-n", live.namespace, "delete", taken["kind"], taken["metadata"]["name"])
    began = time.monotonic()
    eventually(lambda: not live.running_containers(), PRUNE_SECONDS * TOLERANCE, lambda: str(live.running_containers()))
    check_promise(time.monotonic() - began, PRUNE_SECONDS, f"pods end after the {gone} is gone")
    live.until_condition(AGENT, "Ready", "False")
    live.until_condition(AGENT, "Stalled", "True")
    live.apply(policy, binding)
    live.until_ready(AGENT)


def test_a_deleted_agent_leaves_nothing_behind(shared: Live) -> None:
    live = shared
    live.apply(*example_objects("01-first-agent", live.namespace))
    live.until_ready(AGENT)
    live.kubectl("-n", live.namespace, "delete", "agents.interlock.dev", AGENT)
    kinds = "deployments,pods,configmaps,services,serviceaccounts,roles,rolebindings,networkpolicies"

    def left() -> list[str]:
        found = json.loads(
            live.kubectl("-n", live.namespace, "get", kinds, "-l", f"interlock.dev/agent={AGENT}", "-o", "json")
        )
        return [f"{one['kind']}/{one['metadata']['name']}" for one in found["items"]]

    eventually(lambda: not left(), 60, lambda: str(left()))
