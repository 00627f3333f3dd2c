"""Pods that end because of a kill, a withdrawal, a refusal or a drain whose time is over have no grace period.

At a real API server, whose controllers give pods that of their template: each first deletion of one is watched.
"""

from collections.abc import Callable, Iterator
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


def change_policy(sandbox: Sandbox, name: str, spec: Json) -> None:
    sandbox.api.patch("agentpolicies", sandbox.namespace, name, {"spec": spec})


def change_agent(sandbox: Sandbox, name: str, change: Json) -> None:
    sandbox.api.patch("agents", sandbox.namespace, name, change)


def scale_down(sandbox: Sandbox, name: str) -> None:
    change_agent(sandbox, name, {"spec": {"replicas": 1}})


def kill(sandbox: Sandbox, name: str) -> None:
    change_agent(sandbox, name, {"metadata": {"annotations": {KILL_SWITCH: "wrong mails"}}})


def withdraw(sandbox: Sandbox, name: str) -> None:
    change_policy(sandbox, name, {"egress": []})


def refuse(sandbox: Sandbox, name: str) -> None:
    change_policy(sandbox, name, {"dataAccess": []})


@dataclass(frozen=True)
class End:
    """How the pods of an agent end.

    Attributes:
        act: What is done, to the agent or the policy of this name.
        components: Whose pods end then.
        count: How many of each.
        grace: The grace period of their deletion.
        takes_tasks: Whether the agent takes tasks. Here no guard says that none is under way.
    """

    act: Callable[[Sandbox, str], None]
    components: tuple[str, ...] = ("agent", "guard")
    count: int = 2
    grace: int = 1
    takes_tasks: bool = True

    @property
    def ends(self) -> list[str]:
        return sorted(self.components * self.count)


ENDS = {
    "kill": End(kill),
    "withdrawal": End(withdraw, components=("agent",)),
    "refusal": End(refuse),
    "drain": End(scale_down, count=1),
    "scale-down": End(scale_down, count=1, grace=GRACE, takes_tasks=False),
}
"""By the name of an agent and of its policy."""


def create(sandbox: Sandbox, name: str, *, takes_tasks: bool) -> None:
    """Create an agent in separate pods with a long grace period, under a policy of its own."""
    row = {"name": "db", "agents": [name], "to": [{"cidr": "10.0.0.0/8"}], "ports": [{"port": 5432}]}
    policy = objects.policy(name, name=name, isolation="Separate")
    policy["spec"] |= {"egress": [row], "podTemplate": {"maxTerminationGracePeriodSeconds": GRACE}}
    sandbox.api.create(policy, sandbox.namespace)
    template = objects.agent(name)["spec"]["template"] | {"terminationGracePeriodSeconds": GRACE}
    rollout = {"stages": [{"name": "dev", "environment": "development"}], "drainTimeout": "1s"}
    tasks = {"tasks": {"port": 8080}} if takes_tasks else {}
    sandbox.create(name, policyRef={"name": name}, template=template, replicas=2, rollout=rollout, **tasks)


@pytest.fixture
def patient(operator: OperatorProcess, operators: Operators, sandbox: Sandbox) -> Iterator[Sandbox]:
    """An agent for each end, and no kill controller that would be faster than the operator."""
    sandbox.apply_policy_and_bindings()
    for name, end in ENDS.items():
        create(sandbox, name, takes_tasks=end.takes_tasks)
    for name in ENDS:
        sandbox.wait_ready(name, 60)
    operators.killer.kill()
    yield sandbox
    operators.killer.start()


@requirement("kill.order")
def test_only_pods_that_a_user_scales_down_have_the_grace_period_of_their_template(patient: Sandbox) -> None:
    before = {
        name: {
            one["metadata"]["uid"]: one["metadata"]["labels"]["app.kubernetes.io/component"]
            for one in patient.pods(name)
        }
        for name in ENDS
    }
    assert all(sorted(found.values()) == ["agent", "agent", "guard", "guard"] for found in before.values()), before
    first: dict[str, int] = {}
    """Of each pod, the grace period of its first deletion."""

    def ended(name: str) -> list[str]:
        for metadata in (event["object"]["metadata"] for event in list(seen)):
            if "deletionTimestamp" in metadata:
                first.setdefault(metadata["uid"], metadata["deletionGracePeriodSeconds"])
        return sorted(component for uid, component in before[name].items() if uid in first)

    with patient.api.watching("pods", patient.namespace) as seen:
        for name, end in ENDS.items():
            end.act(patient, name)
        for name, end in ENDS.items():
            eventually(
                lambda name=name, end=end: ended(name) == end.ends,
                lambda name=name: f"pods of {name} end, and not {ended(name)}",
                END_SECONDS,
            )
    graces = {name: {first[uid] for uid in before[name] if uid in first} for name in ENDS}
    assert graces == {name: {end.grace} for name, end in ENDS.items()}
