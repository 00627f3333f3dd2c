"""A week in staging and 48 hours in one region, on a clock that the test sets: the operator's own program.

The API server, its controllers and the kubelet go by the machine's clock. What the operator reads of it is set. So a
pod that stays Ready is so for as long as the test lets pass, and a soak begins when the operator sees the pod.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from interlock_contract.clock import utc_now
from tests.integration.operator import objects
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.sandbox import Sandbox, condition_of
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

AGENT = "triage"
WEEK, TWO_DAYS, MARGIN = timedelta(hours=168), timedelta(hours=48), timedelta(minutes=2)
"""Minimums, and more time than the steps of a test take."""
HOUR, SECONDS = timedelta(hours=1), timedelta(seconds=3)
"""How wrong a clock is, and how much the times of two programs on one machine may differ."""


class Clock:
    """The clock of the API server, as the operator sees it.

    Args:
        file: Says by how many seconds it is ahead of the machine's, and how wrong that of the operator's node is.
    """

    def __init__(self, file: Path) -> None:
        self.file, self._ahead, self._wrong = file, timedelta(), timedelta()
        self._write()

    def now(self) -> datetime:
        """Return its time."""
        return utc_now() + self._ahead

    def pass_time(self, span: timedelta) -> None:
        """Set it forward, with that of the operator's node."""
        self._ahead += span
        self._write()

    def be_wrong_by(self, span: timedelta) -> None:
        """Let the clock of the operator's node be ahead of it."""
        self._wrong = span
        self._write()

    def _write(self) -> None:
        new = self.file.with_suffix(".new")  # the operator reads the old numbers or the new ones
        new.write_text(f"{self._ahead.total_seconds()} {self._wrong.total_seconds()}", encoding="ascii")
        new.replace(self.file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "ahead")


@pytest.fixture
def operator(operators: Operators, clock: Clock) -> Iterator[OperatorProcess]:
    """The operator on that clock."""
    operators.stop()
    command = (sys.executable, "-m", "tests.support.operator_on_a_clock", str(clock.file))
    made = OperatorProcess(operators.kubeconfig(), operators.log, command=command)
    made.start()
    yield made
    made.stop()


class Weeks:
    """An agent on its way."""

    def __init__(self, sandbox: Sandbox, clock: Clock) -> None:
        self.sandbox, self.clock = sandbox, clock
        sandbox.apply_policy_and_bindings(AGENT, production=True)
        rollout = objects.stages("168h")
        rollout["stages"][1]["minDuration"] = "48h"
        sandbox.create(AGENT, rollout=rollout)

    @property
    def stage(self) -> Json:
        found: Json = self.sandbox.agent(AGENT).get("status", {}).get("stage", {})
        return found

    def deployments(self, stage: str) -> list[Json]:
        """Return those of a stage."""
        found = self.sandbox.children(AGENT).get("Deployment", [])
        return [one for one in found if one["metadata"]["labels"]["interlock.dev/stage"] == stage]

    def change(self, image: str) -> None:
        """Let the agent have another image, which begins a rollout."""
        self.sandbox.api.patch("agents", self.sandbox.namespace, AGENT, {"spec": {"template": {"image": image}}})
        eventually(lambda: self.sandbox.agent(AGENT)["status"]["rollout"]["newest"]["number"] == 2, "it is another one")

    def be_ready(self, stage: str) -> None:
        """Wait until the operator has seen that the stage is Ready."""
        self.sandbox.wait_stage(AGENT, stage)
        eventually(lambda: "readySince" in self.stage, f"stage {stage} is Ready")


@requirement("rollout.weeks")
def test_a_week_and_two_days_pass_to_the_second_and_no_sooner(
    operator: OperatorProcess, sandbox: Sandbox, clock: Clock
) -> None:
    """First for a new agent, then for a change of it, while the first revision serves production."""
    weeks = Weeks(sandbox, clock)
    pass_stages(weeks)
    sandbox.wait_good(AGENT, 1)
    good = weeks.deployments("everywhere")
    with sandbox.api.watching("agents", sandbox.namespace) as versions:
        weeks.change("registry.example.com/agent:2.0")
        pass_stages(weeks, lambda stage: assert_first_serves_but(stage, weeks, good), restarted=operator)
        eventually(lambda: good_of(versions[-1]["object"]) == 2, "the second revision is good")
    changed = [one["object"] for one in versions if one["object"]["metadata"]["generation"] > 1]
    assert {"staging", "one-region", "everywhere"} == {one["status"]["stage"]["name"] for one in changed}
    assert {condition_of(one, "Serving").get("status") for one in changed} == {"True"}, "served all the way"
    assert all(good_of(one) == 1 or one["status"]["stage"]["name"] == "everywhere" for one in changed)


SERVES = {
    "staging": {("everywhere", "all")},
    "one-region": {("everywhere", "all but region=eu-west"), ("one-region", "region=eu-west")},
}
"""What serves production while a change is in a stage."""


def pass_stages(
    weeks: Weeks, check: Callable[[str], None] = lambda _: None, *, restarted: OperatorProcess | None = None
) -> None:
    """Let a revision pass all stages.

    Args:
        weeks: The agent.
        check: Is given each stage that has a minimum, when it is Ready and just before it is over.
        restarted: An operator that ends in each stage, and starts just before the soak is over.
    """
    clock, sandbox, entered = weeks.clock, weeks.sandbox, []
    for stage, following, span in (("staging", "one-region", WEEK), ("one-region", "everywhere", TWO_DAYS)):
        weeks.be_ready(stage)
        check(stage)
        due = datetime.fromisoformat(weeks.stage["nextAt"])
        assert due == datetime.fromisoformat(weeks.stage["readySince"]) + span
        if restarted is None:
            clock.pass_time(span - MARGIN)
        else:
            pass_without(restarted, clock, span - MARGIN)
        check(stage)
        clock.pass_time(MARGIN)
        entered.append(datetime.fromisoformat(sandbox.wait_stage(AGENT, following)["enteredAt"]))
        assert due <= entered[-1] <= due + MARGIN
    weeks.be_ready("everywhere")
    assert entered[1] - entered[0] >= TWO_DAYS


def pass_without(operator: OperatorProcess, clock: Clock, span: timedelta) -> None:
    """Let time pass while no operator runs."""
    operator.kill()
    clock.pass_time(span)
    operator.start()
    eventually(lambda: operator.metric("interlock_reconciles_total", 'kind="Agent"') >= 1, "it waits for that time")


def assert_first_serves_but(stage: str, weeks: Weeks, good: list[Json]) -> None:
    """Check that the first revision serves all but what the second one serves in this stage, by untouched pods."""

    def serves() -> bool:
        placements = weeks.sandbox.agent(AGENT)["status"]["placements"]
        return {(one["stage"], one["serves"]) for one in placements if one["environment"] == "production"} == SERVES[
            stage
        ]

    eventually(serves, f"the first revision serves next to {stage}")
    assert good_of(weeks.sandbox.agent(AGENT)) == 1
    assert identities(weeks.deployments("everywhere")) == identities(good)


def good_of(agent: Json) -> int:
    """Return the number of the last good revision."""
    return int(agent["status"]["rollout"]["good"]["number"])


def identities(deployments: list[Json]) -> list[tuple[str, int]]:
    """Return what changes where pods are started again."""
    return [(one["metadata"]["uid"], one["metadata"]["generation"]) for one in deployments]


@requirement("rollout.one-clock")
def test_a_node_of_the_operator_whose_clock_is_wrong_neither_shortens_nor_resets_a_soak(
    operator: OperatorProcess, sandbox: Sandbox, clock: Clock
) -> None:
    """The operator starts on a node that is an hour behind, and goes on on one that is an hour ahead."""
    clock.be_wrong_by(-HOUR)
    began = clock.now()
    weeks = Weeks(sandbox, clock)
    weeks.be_ready("staging")
    stage = weeks.stage
    ready_since = datetime.fromisoformat(stage["readySince"])
    assert began - SECONDS <= datetime.fromisoformat(stage["enteredAt"]) <= ready_since <= clock.now() + SECONDS
    operator.kill()
    clock.be_wrong_by(HOUR)
    pass_without(operator, clock, WEEK - MARGIN)
    assert abs(operator.metric("interlock_clock_skew_seconds") - HOUR.total_seconds()) < SECONDS.total_seconds()
    assert weeks.stage == stage
    clock.pass_time(MARGIN)
    entered_at = datetime.fromisoformat(sandbox.wait_stage(AGENT, "one-region")["enteredAt"])
    assert ready_since + WEEK <= entered_at <= ready_since + WEEK + MARGIN
