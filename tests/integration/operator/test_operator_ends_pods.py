"""Pods that end because of a kill, a withdrawal, a refusal or a drain whose time is over have no grace period.

At a real API server, whose controllers give pods that of their template: each first deletion of one is watched.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.objects import KILL_SWITCH
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

GRACE = 40
END_SECONDS = 20.0
ROW = {"name": "db", "agents": ["triage"], "to": [{"cidr": "10.0.0.0/8"}], "ports": [{"port": 5432}]}


def change_policy(sandbox: Sandbox, spec: Json) -> None:
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": spec})


def change_agent(sandbox: Sandbox, change: Json) -> None:
    sandbox.api.patch("agents", sandbox.namespace, "triage", change)


@dataclass(frozen=True)
class End:
    """How pods end.

    Attributes:
        act: What is done.
        components: Whose pods end then.
        count: How many of each.
        grace: The grace period of their deletion.
        takes_tasks: Whether the agent takes tasks. Here no guard says that none is under way.
    """

    act: Callable[[Sandbox], None]
    components: tuple[str, ...] = ("agent", "guard")
    count: int = 2
    grace: int = 1
    takes_tasks: bool = True


def scale_down(sandbox: Sandbox) -> None:
    change_agent(sandbox, {"spec": {"replicas": 1}})


ENDS = {
    "kill": End(lambda sandbox: change_agent(sandbox, {"metadata": {"annotations": {KILL_SWITCH: "wrong mails"}}})),
    "withdrawal": End(lambda sandbox: change_policy(sandbox, {"egress": []}), components=("agent",)),
    "refusal": End(lambda sandbox: change_policy(sandbox, {"dataAccess": []})),
    "drain": End(scale_down, count=1),
    "scale-down": End(scale_down, count=1, grace=GRACE, takes_tasks=False),
}


@pytest.fixture
def why(request: pytest.FixtureRequest) -> End:
    return ENDS[request.param]


@pytest.fixture
def patient(why: End, operator: OperatorProcess, operators: Operators, sandbox: Sandbox) -> Sandbox:
    """A separate agent with a long grace period, and no kill controller that would be faster than the operator."""
    sandbox.apply_policy_and_bindings("triage", isolation="Separate")
    change_policy(sandbox, {"egress": [ROW], "podTemplate": {"maxTerminationGracePeriodSeconds": GRACE}})
    template = objects.agent("triage")["spec"]["template"] | {"terminationGracePeriodSeconds": GRACE}
    stage = {"name": "dev", "environment": "development"}
    rollout = {"stages": [stage], "drainTimeout": "1s"}
    tasks = {"tasks": {"port": 8080}} if why.takes_tasks else {}
    sandbox.create("triage", template=template, replicas=2, rollout=rollout, **tasks)
    sandbox.wait_ready("triage")
    operators.killer.kill()
    return sandbox


@requirement("kill.order")
@pytest.mark.parametrize("why", ENDS, indirect=True)
def test_only_pods_that_a_user_scales_down_have_the_grace_period_of_their_template(
    patient: Sandbox, operators: Operators, why: End
) -> None:
    before = {
        one["metadata"]["uid"]: one["metadata"]["labels"]["app.kubernetes.io/component"]
        for one in patient.pods("triage")
    }
    assert sorted(before.values()) == ["agent", "agent", "guard", "guard"]
    first: dict[str, int] = {}
    try:
        with patient.api.watching("pods", patient.namespace) as seen:
            why.act(patient)

            def ended() -> list[str]:
                for metadata in (event["object"]["metadata"] for event in list(seen)):
                    if metadata["uid"] in before and "deletionTimestamp" in metadata:
                        first.setdefault(metadata["uid"], metadata["deletionGracePeriodSeconds"])
                return sorted(before[uid] for uid in first)

            wanted = sorted(why.components * why.count)
            eventually(lambda: ended() == wanted, lambda: f"{wanted} end, and not {ended()}", END_SECONDS)
    finally:
        operators.killer.start()
    assert set(first.values()) == {why.grace}
