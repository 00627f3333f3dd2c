"""How many rollouts of a policy's agents may be under way, and which agents wait for them."""

import pytest

from interlock.api.policy import AgentPolicy
from interlock.api.status import AgentStatus, Condition
from interlock.runtime.rollout_limiter import RolloutLimiter, most_rollouts
from interlock_kube.resource_types import Key
from tests.support.builders import NOW, a_policy

POLICY = ("agents", "support")


def progressing(status: str, reason: str) -> AgentStatus:
    condition = Condition(type="Progressing", status=status, last_transition_time=NOW, reason=reason, message="")  # type: ignore[arg-type]
    return AgentStatus(conditions=(condition,))


UNDER_WAY, COMPLETE, WAITING = (
    progressing("True", "Soaking"),
    progressing("False", "RolloutComplete"),
    progressing("True", "WaitingToStart"),
)


class Agents:
    """Twenty agents of one policy."""

    def __init__(self, **statuses: AgentStatus) -> None:
        self.statuses = {("agents", f"a{number}"): COMPLETE for number in range(20)}
        self.statuses |= {("agents", name): status for name, status in statuses.items()}
        self.enqueued: list[Key] = []
        self.limiter = RolloutLimiter(lambda _: set(self.statuses), self.statuses.get, self.enqueued.append)

    def may_start(self, name: str, written: str = "10%") -> str:
        return self.limiter.may_start(("agents", name), limited(written))

    def saw(self, name: str, status: AgentStatus) -> None:
        self.limiter.saw(("agents", name), "support", status)

    def wait(self, *names: str) -> None:
        """Let agents have a turn in which they must wait for others."""
        for name in names:
            assert self.may_start(name) != ""
            self.saw(name, WAITING)

    def woken(self) -> list[str]:
        """Return the agents that were enqueued since the last call."""
        names = [name for _, name in self.enqueued]
        self.enqueued.clear()
        return names


def limited(written: str) -> AgentPolicy:
    return a_policy().requiring(maxConcurrent=written).build()


def test_an_agent_waits_for_as_many_rollouts_as_the_policy_allows() -> None:
    agents = Agents()
    assert agents.may_start("a0") == ""
    agents.saw("a0", UNDER_WAY)
    assert agents.may_start("a1") == ""
    agents.saw("a1", UNDER_WAY)

    assert "2 rollouts of agents of AgentPolicy support are under way, of 2 at most" in agents.may_start("a2")
    assert agents.may_start("a0") == "", "its own rollout is no reason to wait"


def test_a_rollout_that_mode_audit_holds_keeps_no_place() -> None:
    agents = Agents(a0=UNDER_WAY, a1=UNDER_WAY)
    agents.wait("a2")
    agents.saw("a0", progressing("True", "Audit"))
    assert agents.woken() == ["a2"]
    assert agents.may_start("a2") == ""


def test_an_agent_that_waits_is_enqueued_once_a_rollout_ends() -> None:
    agents = Agents()
    for name in ("a0", "a1"):
        agents.saw(name, UNDER_WAY)
    agents.saw("a2", WAITING)
    assert agents.enqueued == []

    agents.saw("a0", COMPLETE)

    assert agents.enqueued == [("agents", "a2")]
    assert agents.may_start("a2") == ""


@pytest.mark.parametrize("turn", ["starts", "fails", "waits for another reason", "is deleted"])
def test_a_rollout_that_ends_wakes_one_agent_and_the_next_one_if_that_does_not_start(turn: str) -> None:
    agents = Agents(a0=UNDER_WAY, a1=UNDER_WAY)
    agents.wait("a2", "a3", "a4")
    agents.saw("a0", COMPLETE)
    assert agents.woken() == ["a2"]

    if turn == "starts":
        agents.saw("a2", UNDER_WAY)
    elif turn == "waits for another reason":
        agents.saw("a2", WAITING)
    if turn == "is deleted":
        agents.limiter.gone(("agents", "a2"))
    else:
        agents.limiter.took_turn(("agents", "a2"))

    assert agents.woken() == ([] if turn == "starts" else ["a3"])


def test_agents_that_cannot_start_are_tried_once_for_each_rollout_that_ends() -> None:
    agents = Agents(a0=UNDER_WAY, a1=UNDER_WAY)
    agents.wait("a2", "a3", "a4")
    for ended in ("a0", "a1"):
        agents.saw(ended, COMPLETE)
        tried = []
        for _ in range(5):
            for name in agents.woken():
                tried.append(name)
                agents.limiter.took_turn(("agents", name))
        assert tried == ["a2", "a3", "a4"]


def test_a_place_that_another_agent_has_taken_wakes_none() -> None:
    agents = Agents(a0=UNDER_WAY, a1=UNDER_WAY)
    agents.wait("a2", "a3")
    agents.saw("a0", COMPLETE)
    agents.saw("a9", UNDER_WAY)  # a change of its own began it
    assert agents.woken() == ["a2"]
    agents.wait("a2")
    agents.limiter.took_turn(("agents", "a2"))
    assert agents.woken() == []
    agents.saw("a9", COMPLETE)
    assert agents.woken() == ["a2"]


def test_an_agent_that_waits_is_none_of_those_under_way() -> None:
    agents = Agents()
    for number in range(10):
        agents.saw(f"a{number}", WAITING)
    assert agents.may_start("a19") == ""


def test_rollouts_that_were_under_way_before_a_restart_count() -> None:
    agents = Agents(a0=UNDER_WAY, a1=UNDER_WAY, a2=WAITING)
    assert agents.may_start("a3") != ""


def test_a_deleted_agent_makes_room() -> None:
    agents = Agents(a0=UNDER_WAY, a1=UNDER_WAY)
    agents.saw("a2", WAITING)
    agents.limiter.gone(("agents", "a1"))
    assert agents.enqueued == [("agents", "a2")]


@pytest.mark.parametrize("is_restarted", [False, True], ids=["seen under its policy", "known from its status"])
def test_an_agent_under_another_policy_by_now_makes_room(*, is_restarted: bool) -> None:
    agents = Agents(a0=UNDER_WAY, a1=UNDER_WAY)
    if not is_restarted:
        agents.saw("a1", UNDER_WAY)
    agents.saw("a2", WAITING)
    assert agents.may_start("a2") != ""
    agents.limiter.saw(("agents", "a1"), "another", UNDER_WAY)
    assert (agents.may_start("a2"), agents.enqueued) == ("", [("agents", "a2")])


def test_a_rollout_of_an_agent_that_does_not_run_keeps_none_waiting() -> None:
    """A kill in the midst of a rollout lasts as long as a person wants."""
    agents = Agents(a0=UNDER_WAY, a1=UNDER_WAY)
    agents.saw("a2", WAITING)
    agents.saw("a1", progressing("True", "NotRunning"))
    assert (agents.may_start("a2"), agents.enqueued) == ("", [("agents", "a2")])


@pytest.mark.parametrize(
    ("written", "agents", "most"), [("10%", 1000, 100), ("10%", 3, 1), ("0%", 50, 1), ("3", 1000, 3), ("100%", 7, 7)]
)
def test_a_percentage_is_of_the_policys_agents_and_one_is_allowed_at_least(
    written: str, agents: int, most: int
) -> None:
    assert most_rollouts(written, agents) == most
