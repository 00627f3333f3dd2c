from interlock_contract.bundle import AgentIdentity, Bundle, dump_bundle
from interlock_guard.decision.decide import check_open
from interlock_guard.state import LiveState

BUNDLE = Bundle(3, AgentIdentity("a", "agents", "u-1"), "r", "s", "s", (), ())
AGENT = {"metadata": {"name": "a", "uid": "u-1"}}


def a_trusting_state(**settings: float) -> LiveState:
    """Return one whose bundles need no proof: that is tested with `selfproof`."""
    live = LiveState(**settings)
    live.reactions = (lambda: live.settle(""),)
    return live


def reason(live: LiveState, now: float) -> str | None:
    denial = check_open(live.bundle, live.state, now)
    return None if denial is None else denial.reason.value


def test_it_opens_only_once_agent_bundle_and_contact_for_both_are_there() -> None:
    live = a_trusting_state()
    assert reason(live, 0) == "StaleState"
    live.see_bundle(dump_bundle(BUNDLE))
    live.hear("bundle", 10)
    assert reason(live, 10) == "StaleState"
    live.see_agent(AGENT)
    assert reason(live, 10) == "StaleState"
    live.hear("agent", 10)
    assert reason(live, 10) is None


def test_the_older_of_both_contacts_counts() -> None:
    live = a_trusting_state(lease_seconds=30)
    live.see_bundle(dump_bundle(BUNDLE))
    live.see_agent(AGENT)
    live.hear("agent", 10)
    live.hear("bundle", 10)
    live.hear("agent", 35)
    assert reason(live, 40) is None
    assert reason(live, 40.1) == "StaleState"
    live.hear("bundle", 39)
    assert reason(live, 65) is None


def test_each_event_runs_the_reactions_before_the_next_one() -> None:
    live, seen = LiveState(), list[str | None]()
    live.reactions = (lambda: seen.append(live.state.kill.message),)
    live.see_agent({"metadata": {"uid": "u-1", "annotations": {"interlock.dev/kill-switch": "leak"}}})
    assert seen == ["leak"]


def test_a_bad_bundle_replaces_a_good_one_and_is_logged() -> None:
    log = list[str]()
    live = LiveState(log=log.append)
    live.see_bundle(dump_bundle(BUNDLE))
    assert live.bundle == BUNDLE
    live.see_bundle("{}")
    assert live.bundle is None
    assert log == ["bundle refused: schemaVersion: is missing"]
    live.see_bundle(None)
    assert live.bundle is None


def test_an_agent_that_is_gone_keeps_its_kill() -> None:
    live = LiveState()
    live.see_agent({"metadata": {"uid": "u-1", "annotations": {"interlock.dev/kill-switch": "leak"}}})
    live.see_agent(None)
    live.see_agent(AGENT)
    assert live.state.kill.message == "leak"
