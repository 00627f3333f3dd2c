"""examples/13-state on real pods: a claim outlives pods and revisions, and a ConfigMap changes with the revision."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import a_namespace
from tests.e2e.live import Live, eventually
from tests.e2e.probes import a_pod
from tests.e2e.rollouts import PROBER, Staged
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(900)]

AGENT, OTHER = "notes", "second-notes"
OLD, NEW = "morning notes", "evening notes"
SOAK = "8s"
TASK_SECONDS = 25
"""How long a task keeps the old pod: in this time the new revision must be seen to wait."""


def soaking_shortly(namespace: str) -> list[dict[str, Any]]:
    """Return the example with a soak as short as a test can be."""
    objects = example_objects("13-state", namespace)
    find(objects, "AgentPolicy")["spec"]["rollout"]["minStaging"] = SOAK
    for stage in find(objects, "Agent")["spec"]["rollout"]["stages"][:-1]:
        stage["minDuration"] = SOAK
    return objects


@pytest.fixture(scope="module")
def notes(operator: Live) -> Iterator[Staged]:
    """The agent of the example, whose first revision is good, and a pod that sends it tasks."""
    with a_namespace(operator) as here:
        here.apply(*soaking_shortly(here.namespace), a_pod(PROBER, 8000, here.namespace))
        staged = Staged(here, AGENT)
        staged.until_good(1)
        yield staged


def pods(notes: Staged, stage: str) -> dict[str, dict[str, Any]]:
    """Return the agent's own pods of a stage, by uid."""
    selector = f"interlock.dev/agent={AGENT},interlock.dev/stage={stage},app.kubernetes.io/component=agent"
    return {one["metadata"]["uid"]: one for one in notes.live.items("pods", selector)}


def until_said(notes: Staged, stage: str, title: str, *kept: str) -> None:
    """Wait until the agent of a stage answers with this title and these notes.

    A Service leads to a new pod a moment after that is Ready, so a task may be refused until then.
    """

    def answer() -> Any:
        url, live = f"http://guard-{AGENT}--{stage}/", notes.live
        program = f"import urllib.request as r; print(r.urlopen({url!r}, b'{{}}', 10).read().decode())"
        done = live.attempt("-n", live.namespace, "exec", PROBER, "--", "python", "-c", program)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    eventually(
        lambda: answer() == {"title": title, "notes": [*kept]},
        120,
        lambda: f"{answer()}\n{notes.describe()}",
    )


@requirement("state.on-a-cluster")
def test_a_claim_of_another_agent_is_refused(notes: Staged) -> None:
    live = notes.live
    agent = find(soaking_shortly(live.namespace), "Agent")
    live.apply({**agent, "metadata": {**agent["metadata"], "name": OTHER}})

    live.until_condition(OTHER, "Orchestrated", "False")
    refused = live.condition(OTHER, "Orchestrated")
    assert (refused["reason"], f"belongs to Agent {AGENT}" in refused["message"]) == ("ClaimShared", True)
    assert live.pods(OTHER) == []
    live.kubectl("-n", live.namespace, "delete", "agents.interlock.dev", OTHER)


@requirement("state.on-a-cluster")
def test_files_stay_over_a_rollout_and_a_rollback_and_the_content_of_a_config_map_follows_the_revision(
    notes: Staged,
) -> None:
    live = notes.live
    until_said(notes, "everywhere", OLD)
    notes.send(None, note="one")
    first, old = notes.revision(1), pods(notes, "everywhere")

    edited = json.dumps({"data": {"title": NEW}})
    live.kubectl("-n", live.namespace, "patch", "configmap", "notes-settings", "-p", edited)
    eventually(lambda: "2/staging" in notes.serves(), 60, notes.describe)
    notes.command("pause", f"{notes.revision(2)}/everywhere")  # holds staging until it was seen
    until_said(notes, "staging", NEW)
    until_said(notes, "everywhere", OLD, "one")
    assert pods(notes, "everywhere").keys() == old.keys()

    with ThreadPoolExecutor(1) as background:
        held = background.submit(notes.send, None, note="two", seconds=TASK_SECONDS)
        eventually(lambda: "'two'" in notes.log("everywhere"), 30, notes.describe)
        notes.command("pause", None)
        waits = f"it waits for the pods of revision {first} to end, because both use claim notes-production"
        eventually(lambda: waits in live.condition(AGENT, "Ready")["message"], TASK_SECONDS, notes.describe)
        assert pods(notes, "everywhere").keys() == old.keys(), "the old pod goes first"
        assert held.result() == {"title": OLD, "notes": ["one", "two"]}
    notes.until_good(2)
    until_said(notes, "everywhere", NEW, "one", "two")
    assert not pods(notes, "everywhere").keys() & old.keys()

    notes.command("rollback", first)
    notes.until_good(3)
    until_said(notes, "everywhere", OLD, "one", "two")
    assert notes.condition("Degraded") == ("True", "RolledBack")
    # The agent ends if another pod has locked its claim.
    assert set(notes.pods_of("everywhere").values()) == {0}, notes.describe()
