"""Self-tests and the guard's state: no bundle is obeyed before its self-test has passed."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from interlock_contract.bundle import AgentIdentity, Bundle, digest, dump_bundle
from interlock_contract.selftest_report import SelfTestReport
from interlock_guard.decision.decide import Allow, Decision, DecisionInput, check_open, decide
from interlock_guard.selftest.selftest import SelfTest
from interlock_guard.state import LiveState, State
from tests.requirements import requirement

BUNDLE = Bundle(4, AgentIdentity("a", "n", "u-1"), "r", "s", "s", (), ())
TEXT = dump_bundle(BUNDLE)
OTHER = dump_bundle(replace(BUNDLE, revision="other"))
STATUS = {"bundleDigests": [digest(TEXT), digest(OTHER), digest("{}")]}
AGENT = {"metadata": {"name": "a", "uid": "u-1"}, "status": STATUS}
KILLED = {"metadata": {**AGENT["metadata"], "annotations": {"interlock.dev/kill-switch": "leak"}}, "status": STATUS}
RELEASED = {"metadata": {**AGENT["metadata"], "annotations": {"interlock.dev/kill-switch": "off"}}, "status": STATUS}


@dataclass
class Rig:
    """A guard's state and its self-test, on a clock of its own."""

    live: LiveState = field(default_factory=LiveState)
    now: float = 0.0
    said: list[SelfTestReport] = field(default_factory=list)
    judged: int = 0
    decision: Callable[[DecisionInput], Decision] | None = None

    def __post_init__(self) -> None:
        selftest = SelfTest(self.live, self._judge, lambda: self.now, self.said.append)
        self.live.reactions = (selftest.follow,)

    def _judge(self, request: DecisionInput, state: State) -> Decision:
        self.judged += 1
        return self.decision(request) if self.decision else decide(self.live.bundle, state, request, self.now)

    @property
    def reason(self) -> str | None:
        denial = check_open(self.live.bundle, self.live.state, self.now)
        return None if denial is None else denial.reason.value

    def open(self) -> None:
        self.live.handle_agent(AGENT)
        self.live.handle_bundle(TEXT)
        self.live.record_contact("agent", self.now)
        self.live.record_contact("bundle", self.now)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@requirement("guard.selftest")
def test_a_bundle_without_a_self_test_is_not_obeyed() -> None:
    live = LiveState()
    live.handle_agent(AGENT)
    live.handle_bundle(TEXT)
    live.record_contact("agent", 0.0)
    live.record_contact("bundle", 0.0)
    denial = check_open(live.bundle, live.state, 0.0)
    assert denial is not None
    assert denial.reason == "PolicyNotTested"


@requirement("guard.selftest")
def test_a_guard_opens_in_the_very_event_in_which_it_can_self_test_its_bundle(rig: Rig) -> None:
    rig.live.handle_agent(AGENT)
    rig.live.handle_bundle(TEXT)
    rig.live.record_contact("bundle", 0.0)
    assert (rig.reason, rig.said) == ("StaleState", [])
    rig.live.record_contact("agent", 0.0)
    assert rig.reason is None
    assert rig.said == [SelfTestReport(digest(TEXT), 1)]


@requirement("guard.selftest")
def test_each_other_bundle_is_self_tested_and_the_same_one_is_not(rig: Rig) -> None:
    rig.open()
    judged = rig.judged
    rig.live.handle_bundle(TEXT)
    assert rig.judged == judged
    rig.live.handle_bundle(OTHER)
    assert rig.reason is None
    assert [said.bundle for said in rig.said] == [digest(TEXT), digest(OTHER)]


@requirement("guard.selftest")
def test_a_guard_that_would_not_keep_its_bundle_closes_and_says_so() -> None:
    log = list[str]()
    rig = Rig(LiveState(log=log.append), decision=lambda _: Allow("weak"))
    rig.open()
    assert rig.reason == "PolicyNotTested"
    assert (
        rig.said[0].flaw
        == "OutOfMatrix call tools/call 'interlock-selftest' of 'interlock-selftest': Allow instead of UnknownSource"
    )
    assert log == [f"bundle {digest(TEXT)} is not enforced: {rig.said[0].flaw}"]

    rig.live.record_contact("agent", 1.0)
    assert rig.reason == "PolicyNotTested"
    assert len(log) == 1

    rig.decision = None
    rig.live.handle_bundle(OTHER)
    assert rig.reason is None


def test_a_killed_guard_self_tests_its_bundle_once_it_is_released(rig: Rig) -> None:
    rig.live.handle_agent(KILLED)
    rig.live.handle_bundle(TEXT)
    rig.live.record_contact("agent", 0.0)
    rig.live.record_contact("bundle", 0.0)
    assert (rig.reason, rig.said) == ("Killed", [])
    rig.live.handle_agent(RELEASED)
    assert rig.reason is None
    assert len(rig.said) == 1


def test_a_bundle_that_comes_while_out_of_contact_is_self_tested_once_that_is_over(rig: Rig) -> None:
    rig.open()
    rig.now = 31.0
    rig.live.handle_bundle(OTHER)
    assert (rig.reason, len(rig.said)) == ("StaleState", 1)
    rig.live.record_contact("agent", 31.0)
    rig.live.record_contact("bundle", 31.0)
    assert rig.reason is None
    assert rig.said[-1].bundle == digest(OTHER)


def test_a_bundle_that_cannot_be_read_leaves_nothing_to_self_test(rig: Rig) -> None:
    rig.open()
    rig.live.handle_bundle("{}")
    assert (rig.reason, rig.live.digest, len(rig.said)) == ("NoBundle", "", 1)
    rig.live.handle_bundle(TEXT)
    assert rig.reason is None
