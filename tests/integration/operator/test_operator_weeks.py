"""A week in staging and 48 hours in one region, on a clock that the test sets: the operator's own program.

The API server and its controllers go by the machine's clock. What the operator reads of it is set. So the test is the
kubelet, and reports by that clock since when pods are Ready.
"""

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from interlock_contract.clock import utc_now
from tests.integration.operator import objects
from tests.integration.operator.api import MERGE_PATCH, Json, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.sandbox import Sandbox
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
    """An agent on its way, and its kubelet."""

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

    def be_ready(self, stage: str) -> None:
        """Report the pods of a stage Ready, by the operator's clock."""
        began = self.clock.now()
        self.sandbox.wait_stage(AGENT, stage)

        def reported() -> bool:
            for pod in self.sandbox.pods(AGENT):
                if pod["metadata"]["labels"]["interlock.dev/stage"] == stage:
                    self._report(pod)
            since = self.stage.get("readySince")
            return since is not None and datetime.fromisoformat(since) >= began - timedelta(seconds=1)

        eventually(reported, f"stage {stage} is Ready by the clock of the operator")

    def _report(self, pod: Json) -> None:
        now = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = [one for one in pod.get("status", {}).get("conditions", []) if one["type"] == "Ready"]
        if not ready or ready[0]["status"] != "True":
            return  # the simulated kubelet reports it first
        known = datetime.fromisoformat(ready[0]["lastTransitionTime"])
        if known < self.clock.now() - timedelta(hours=1):
            others = [one for one in pod["status"]["conditions"] if one["type"] != "Ready"]
            conditions = [*others, {**ready[0], "lastTransitionTime": now}]
            path = f"/api/v1/namespaces/{self.sandbox.namespace}/pods/{pod['metadata']['name']}/status"
            self.sandbox.api.request("PATCH", path, {"status": {"conditions": conditions}}, MERGE_PATCH)


@requirement("rollout.weeks")
def test_a_week_and_two_days_pass_to_the_second_and_no_sooner(
    operator: OperatorProcess, sandbox: Sandbox, clock: Clock
) -> None:
    weeks = Weeks(sandbox, clock)
    entered = []
    for stage, following, span in (("staging", "one-region", WEEK), ("one-region", "everywhere", TWO_DAYS)):
        weeks.be_ready(stage)
        due = datetime.fromisoformat(weeks.stage["nextAt"])
        assert due == datetime.fromisoformat(weeks.stage["readySince"]) + span
        clock.pass_time(span - MARGIN)
        operator.kill()
        operator.start()
        eventually(lambda: operator.metric("interlock_reconciles_total", 'kind="Agent"') >= 1, "it waits for that time")
        clock.pass_time(MARGIN)
        entered.append(datetime.fromisoformat(sandbox.wait_stage(AGENT, following)["enteredAt"]))
        assert due <= entered[-1] <= due + MARGIN
    weeks.be_ready("everywhere")
    assert entered[1] - entered[0] >= TWO_DAYS


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
    clock.pass_time(WEEK - MARGIN)
    operator.start()
    eventually(lambda: operator.metric("interlock_reconciles_total", 'kind="Agent"') >= 1, "it waits for that time")
    assert abs(operator.metric("interlock_clock_skew_seconds") - HOUR.total_seconds()) < SECONDS.total_seconds()
    assert weeks.stage == stage
    clock.pass_time(MARGIN)
    entered_at = datetime.fromisoformat(sandbox.wait_stage(AGENT, "one-region")["enteredAt"])
    assert ready_since + WEEK <= entered_at <= ready_since + WEEK + MARGIN
