"""The updates of guards in the whole installation: who is woken when, what stops them, and who is told."""

import pytest
from prometheus_client import REGISTRY

from interlock.api.status import AgentStatus, Condition
from interlock.cluster.event_poster import Program
from interlock.orchestration.guard_waves import order_agents
from interlock.reconcile.agent_events import EventNote
from interlock.runtime import guard_updates
from interlock.runtime.guard_updates import GuardUpdates
from interlock.settings import OperatorSettings
from interlock_kube.resource_types import Key
from tests.support.builders import NOW

SECRET = b"of the installation"
ORDER = order_agents((("agents", f"a{number}") for number in range(20)), SECRET)


def updated(status: str, reason: str) -> AgentStatus:
    condition = Condition(type="GuardUpdated", status=status, last_transition_time=NOW, reason=reason, message="")
    return AgentStatus(conditions=(condition,))


CURRENT, WAITING, UPDATING, FAILED = (
    updated("True", "GuardCurrent"),
    updated("False", "GuardUpdateWaiting"),
    updated("Unknown", "GuardUpdating"),
    updated("False", "GuardUpdateFailed"),
)


class Installation:
    """Twenty agents in waves of two."""

    def __init__(self, **statuses: AgentStatus) -> None:
        self.statuses = dict.fromkeys(ORDER, AgentStatus()) | {("agents", name): one for name, one in statuses.items()}
        self.enqueued: list[Key] = []
        self.events: list[tuple[Program, EventNote]] = []
        self.held: set[str] = set()
        self.updates = GuardUpdates(
            lambda: list(self.statuses),
            self.statuses.get,
            self.enqueued.append,
            lambda about, note: self.events.append((about, note)),
            OperatorSettings(guard_wave_percent=10),
            SECRET,
        )
        self.updates.holds = self.held.__contains__

    def saw(self, status: AgentStatus, *keys: Key) -> "Installation":
        for key in keys:
            self.updates.saw(key, status)
            self.updates.took_turn(key)
        return self

    def woken(self) -> list[Key]:
        """Return the agents that were enqueued since the last call."""
        found = list(self.enqueued)
        self.enqueued.clear()
        return found

    def may(self) -> set[Key]:
        return {key for key in ORDER if self.updates.may_update(key) == ""}


def test_each_wave_wakes_its_own_agents_alone() -> None:
    installation = Installation().saw(WAITING, *ORDER)
    assert sorted(installation.woken()) == sorted(ORDER[:2])
    assert installation.may() == set(ORDER[:2])

    installation.saw(UPDATING, *ORDER[:2]).saw(CURRENT, ORDER[0])
    assert (installation.woken(), installation.may()) == ([], {ORDER[1]})
    assert REGISTRY.get_sample_value("interlock_guard_updates", {"state": "updating"}) == 1

    installation.saw(CURRENT, ORDER[1])
    assert sorted(installation.woken()) == sorted(ORDER[2:4])


def test_an_update_of_all_agents_costs_two_reconciles_of_each_besides_its_own() -> None:
    installation = Installation().saw(WAITING, *ORDER)
    woken = 0
    while turn := installation.woken():
        woken += len(turn)
        installation.saw(UPDATING, *turn).saw(CURRENT, *turn)
    assert woken == len(ORDER)


def test_a_failure_stops_all_others_and_is_reported_until_it_is_over() -> None:
    installation = Installation().saw(WAITING, *ORDER).saw(UPDATING, *ORDER[:2]).saw(FAILED, ORDER[0])
    installation.woken()
    assert installation.may() == set()
    assert "GuardUpdateFailed" in installation.updates.may_update(ORDER[5])
    assert ORDER[0][1] not in installation.updates.may_update(ORDER[5]), "other tenants learn no name"
    [(about, note)] = installation.events
    assert (about.metadata.namespace, note.type, note.reason) == ("interlock-system", "Warning", "GuardUpdatesStopped")
    assert "/".join(ORDER[0]) in note.message

    installation.saw(CURRENT, *ORDER[:2])
    assert set(ORDER[2:4]) <= set(installation.woken())
    assert [note.reason for _, note in installation.events] == ["GuardUpdatesStopped", "GuardUpdatesResumed"]


def test_an_agent_that_failed_and_is_deleted_stops_nothing() -> None:
    installation = Installation().saw(WAITING, *ORDER).saw(FAILED, ORDER[0])
    installation.updates.gone(ORDER[0])
    assert installation.may() == {ORDER[1]}


def test_agents_that_come_and_go_keep_their_place_and_cost_no_new_order(monkeypatch: pytest.MonkeyPatch) -> None:
    installation = Installation().saw(CURRENT, *ORDER)
    monkeypatch.setattr(guard_updates, "order_agents", None)
    more = [("more", f"b{number}") for number in range(20)]
    installation.saw(WAITING, *more)
    assert installation.may() == set()
    for key in more[::2]:
        installation.updates.gone(key)
    waiting = order_agents(more[1::2], SECRET)
    places = {key: place for place, key in enumerate(order_agents([*ORDER, *waiting], SECRET))}
    first = min(places[key] for key in waiting) // 3
    assert {key for key in waiting if not installation.updates.may_update(key)} == {
        key for key in waiting if places[key] // 3 == first
    }


def test_a_failure_from_before_a_restart_stops_all_others() -> None:
    installation = Installation(**{ORDER[9][1]: FAILED}).saw(WAITING, *ORDER[:4])
    assert installation.may() == set()


def test_no_wave_begins_before_the_agents_of_earlier_ones_had_a_turn() -> None:
    installation = Installation().saw(CURRENT, ORDER[0]).saw(WAITING, *ORDER[2:])
    assert installation.may() == set()

    installation.updates.took_turn(ORDER[1])  # its reconcile has failed, which must stop no others
    assert installation.may() == set(ORDER[2:4])


def test_the_annotation_of_the_operators_namespace_holds_all_agents() -> None:
    installation = Installation()
    installation.held.add("interlock-system")
    installation.saw(WAITING, *ORDER)
    assert installation.may() == set()
    assert "interlock.dev/hold-guard-updates" in installation.updates.may_update(ORDER[0])

    installation.woken()
    installation.held.clear()
    installation.updates.hold_changed("interlock-system")
    assert set(installation.woken()) == set(ORDER)
    assert installation.may() == set(ORDER[:2])


def test_a_namespace_that_is_held_keeps_no_other_one_waiting() -> None:
    held = ("held", "agent")
    installation = Installation()
    installation.statuses[held] = AgentStatus()
    installation.held.add("held")
    installation.saw(WAITING, held, *ORDER)
    assert installation.updates.may_update(held) != ""
    for _ in range(len(ORDER)):
        installation.saw(CURRENT, *installation.may())
    assert installation.updates.may_update(held) != ""

    installation.held.clear()
    installation.saw(WAITING, held)
    assert installation.updates.may_update(held) == ""


@pytest.mark.parametrize("status", [FAILED, UPDATING], ids=["failed", "is being updated"])
def test_a_namespace_that_is_held_stops_no_other_one(status: AgentStatus) -> None:
    """So an administrator takes the agents of a tenant out of the way without a change of them."""
    key = next(("held", f"agent-{number}") for number in range(1000) if _is_first(("held", f"agent-{number}")))
    installation = Installation()
    installation.statuses[key] = status
    installation.saw(WAITING, *ORDER).saw(CURRENT, ORDER[0]).saw(status, key)
    installation.woken()
    assert installation.may() == set()
    installation.held.add("held")
    installation.updates.hold_changed("held")
    assert key in installation.woken()
    installation.saw(status, key)
    assert installation.may() == set(ORDER[1:3])

    installation.held.clear()
    installation.saw(status, key)
    assert installation.may() == set()


def test_a_restart_reports_no_failure_of_a_namespace_that_is_held() -> None:
    installation = Installation()
    installation.statuses["held", "agent"] = FAILED
    installation.held.add("held")
    installation.saw(WAITING, *ORDER)
    assert installation.events == []


def test_an_agent_whose_update_was_refused_stops_no_other_and_goes_on_trying() -> None:
    installation = Installation().saw(WAITING, *ORDER).saw(UPDATING, *ORDER[:2]).saw(CURRENT, ORDER[1])
    installation.saw(updated("False", "GuardUpdateRefused"), ORDER[0])
    assert installation.may() == {ORDER[0], *ORDER[2:4]}
    assert REGISTRY.get_sample_value("interlock_guard_updates", {"state": "refused"}) == 1

    installation.saw(UPDATING, ORDER[0])
    assert installation.may() == {ORDER[0]}, "it is watched like each update"


def _is_first(key: Key) -> bool:
    return order_agents([*ORDER, key], SECRET)[0] == key
