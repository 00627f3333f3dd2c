"""The brake on the end of withdrawn pods: who makes each new pod look like one gets pauses, and no one else does."""

from datetime import timedelta

import pytest

from interlock.reconcile.withdrawn_pods import WithdrawnPod
from interlock.runtime.withdrawal_brake import FORGOTTEN_AFTER, LONGEST_PAUSE, WithdrawalBrake
from tests.requirements import requirement
from tests.support.builders import NOW

KEY = ("agents", "triage")
GROUP = ("staging", "r1", "agent")


def a_pod(uid: str, *, today: str = "less", group: tuple[str, ...] = GROUP) -> WithdrawnPod:
    return WithdrawnPod(f"pod-{uid}", uid, group=group, today=today)


class Braking:
    """A brake, and a webhook that makes each new pod look as if it had more than is open."""

    def __init__(self) -> None:
        self.brake = WithdrawalBrake()
        self.now = NOW
        self.count = 0

    def end(self, *pods: WithdrawnPod, recorded: bool = True) -> list[str]:
        found = self.brake.choose(KEY, pods, self.now)
        if recorded:
            self.brake.record(KEY)
        return [one.uid for one in found.ended]

    def alter_for(self, span: timedelta, step: timedelta = timedelta(seconds=1)) -> list[float]:
        """Let a new pod come each second; return after how many seconds pods were ended."""
        began, ended = self.now, []
        while self.now < began + span:
            self.count += 1
            if self.end(a_pod(f"new-{self.count}")):
                ended.append((self.now - began).total_seconds())
            self.now += step
        return ended


@requirement("egress.withdrawn")
def test_pods_that_seem_withdrawn_again_and_again_are_ended_with_growing_pauses() -> None:
    ended = Braking().alter_for(timedelta(hours=1))

    assert ended[:21] == [float(second) for second in range(21)]
    assert ended[21:25] == [40.0, 80.0, 160.0, 320.0]
    assert ended[-1] - ended[-2] == LONGEST_PAUSE.total_seconds()


@requirement("egress.withdrawn")
def test_what_the_policy_opens_less_from_now_on_ends_pods_immediately() -> None:
    braking = Braking()
    braking.alter_for(timedelta(minutes=5))
    assert braking.end(a_pod("held")) == []

    assert braking.end(a_pod("held", today="nothing")) == ["held"]
    assert braking.end(a_pod("other", group=("staging", "r1", "guard"))) == ["other"]


@requirement("egress.withdrawn")
def test_a_pod_whose_deletion_failed_is_tried_again_without_a_pause_and_ends_no_other_one() -> None:
    braking = Braking()
    braking.alter_for(timedelta(seconds=20))
    assert braking.end(a_pod("left")) == ["left"]

    for _ in range(5):
        braking.now += timedelta(seconds=1)
        assert braking.end(a_pod("left"), a_pod("new")) == ["left"]
    assert braking.brake.choose(KEY, [a_pod("left")], braking.now).next_at is None


@requirement("egress.withdrawn")
def test_rounds_count_only_once_what_the_pods_had_is_closed() -> None:
    braking = Braking()
    for number in range(100):
        assert braking.end(a_pod(str(number)), recorded=False) == [str(number)]
        braking.now += timedelta(seconds=1)


@pytest.mark.parametrize("passed", [FORGOTTEN_AFTER, timedelta(minutes=-5)])
def test_rounds_are_forgotten_after_an_hour_and_by_a_clock_that_went_back(passed: timedelta) -> None:
    braking = Braking()
    braking.alter_for(timedelta(seconds=30))
    braking.now += passed

    assert braking.end(a_pod("new")) == ["new"]


def test_those_that_wait_are_told_when_they_end() -> None:
    braking = Braking()
    braking.alter_for(timedelta(seconds=30))

    found = braking.brake.choose(KEY, [a_pod("new")], braking.now)

    assert ([one.uid for one in found.held], found.rounds) == (["new"], 3)
    assert found.next_at == NOW + timedelta(seconds=40)
    braking.brake.forget(KEY)
    assert braking.end(a_pod("new")) == ["new"]


@requirement("egress.withdrawn")
def test_a_process_that_follows_ends_what_it_finds_once_and_pauses_then() -> None:
    """What is withdrawn meanwhile ends immediately, and a webhook that alters pods gets no rounds without a pause."""
    braking = Braking()

    def end(uid: str, today: str = "less") -> list[str]:
        found = braking.brake.choose(KEY, [a_pod(uid, today=today)], braking.now, is_altered=True)
        braking.brake.record(KEY)
        return [one.uid for one in found.ended]

    assert end("first") == ["first"]
    assert end("second") == []
    braking.now += timedelta(seconds=20)
    assert end("second") == ["second"]
    assert end("third", today="nothing") == ["third"]
    assert end("fourth", today="nothing") == ["fourth"], "what the policy opens has changed"
