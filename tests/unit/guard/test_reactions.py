"""The order in which the guard reacts to a change of its state."""

from functools import partial

from interlock_guard.program import order_reactions
from interlock_guard.state import LiveState

KILLED = {"metadata": {"uid": "u-1", "annotations": {"interlock.dev/kill-switch": "leak"}}}


def test_upstreams_are_cut_before_clients_are_answered_and_the_self_test_comes_last() -> None:
    ran: list[str] = []
    live = LiveState()
    names = ("selftest", "tasks", "mcp", "llm", "rates", "budget", "models", "sources")
    live.reactions = order_reactions(**{name: partial(ran.append, name) for name in names})
    live.handle_agent(KILLED)
    assert ran == ["sources", "models", "budget", "rates", "llm", "mcp", "tasks", "selftest"]


def test_the_state_is_closed_before_the_first_reaction_runs() -> None:
    live = LiveState()
    seen: list[str | None] = []
    live.reactions = (lambda: seen.append(live.state.kill.message),)
    live.handle_agent(KILLED)
    assert seen == ["leak"]
