from interlock_contract.bundle import AgentIdentity, Bundle, dump_bundle
from interlock_guard.decision.decide import check_open
from interlock_guard.state import LiveState
from tests.requirements import requirement

BUNDLE = Bundle(3, AgentIdentity("a", "agents", "u-1"), "r", "s", "s", (), ())
AGENT = {"metadata": {"name": "a", "uid": "u-1"}}


def a_trusting_state(**settings: float) -> LiveState:
    """Return one whose bundles need no self-test: test_selftest_state.py tests that."""
    live = LiveState(**settings)
    live.reactions = (lambda: live.set_unverified_reason(""),)
    return live


def reason(live: LiveState, now: float) -> str | None:
    denial = check_open(live.bundle, live.state, now)
    return None if denial is None else denial.reason.value


def test_it_opens_only_once_agent_bundle_and_contact_for_both_are_there() -> None:
    live = a_trusting_state()
    assert reason(live, 0) == "StaleState"
    live.handle_bundle(dump_bundle(BUNDLE))
    live.record_contact("bundle", 10)
    assert reason(live, 10) == "StaleState"
    live.handle_agent(AGENT)
    assert reason(live, 10) == "StaleState"
    live.record_contact("agent", 10)
    assert reason(live, 10) is None


def test_the_older_of_both_contacts_counts() -> None:
    live = a_trusting_state(lease_seconds=30)
    live.handle_bundle(dump_bundle(BUNDLE))
    live.handle_agent(AGENT)
    live.record_contact("agent", 10)
    live.record_contact("bundle", 10)
    live.record_contact("agent", 35)
    assert reason(live, 40) is None
    assert reason(live, 40.1) == "StaleState"
    live.record_contact("bundle", 39)
    assert reason(live, 65) is None


def test_each_event_runs_the_reactions_before_the_next_one() -> None:
    live, seen = LiveState(), list[str | None]()
    live.reactions = (lambda: seen.append(live.state.kill.message),)
    live.handle_agent({"metadata": {"uid": "u-1", "annotations": {"interlock.dev/kill-switch": "leak"}}})
    assert seen == ["leak"]


def test_a_bad_bundle_replaces_a_good_one_and_is_logged() -> None:
    log = list[str]()
    live = LiveState(log=log.append)
    live.handle_bundle(dump_bundle(BUNDLE))
    assert live.bundle == BUNDLE
    live.handle_bundle("{}")
    assert live.bundle is None
    assert log == ["bundle refused: schemaVersion: is missing"]
    live.handle_bundle(None)
    assert live.bundle is None


def test_an_agent_that_is_gone_keeps_its_kill() -> None:
    live = LiveState()
    live.handle_agent({"metadata": {"uid": "u-1", "annotations": {"interlock.dev/kill-switch": "leak"}}})
    live.handle_agent(None)
    live.handle_agent(AGENT)
    assert live.state.kill.message == "leak"


@requirement("governance.deleted")
def test_an_agent_that_is_being_deleted_is_gone_whatever_finalizers_keep_it() -> None:
    live = a_trusting_state()
    live.handle_bundle(dump_bundle(BUNDLE))
    live.handle_agent(AGENT)
    live.record_contact("agent", 10)
    live.record_contact("bundle", 10)
    assert reason(live, 10) is None
    kept = {"deletionTimestamp": "2026-03-02T09:00:00Z", "finalizers": ["example.com/keep"]}
    live.handle_agent({"metadata": AGENT["metadata"] | kept})
    assert reason(live, 10) == "AgentMismatch"
