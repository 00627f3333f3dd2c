from datetime import timedelta

import pytest

from interlock.api.status import AgentStatus, Condition, StageStatus
from interlock.reconcile.agent_events import transitions
from tests.requirements import requirement
from tests.support.builders import NOW


def a_status(stage: StageStatus | None = None, **conditions: str) -> AgentStatus:
    """Return a status; `Ready="True/PodsReady"`."""
    found = []
    for kind, text in conditions.items():
        status, _, reason = text.partition("/")
        found.append(
            Condition.model_validate(
                {"type": kind, "status": status, "reason": reason or "X", "message": "m", "lastTransitionTime": NOW}
            )
        )
    return AgentStatus(observed_generation=1, conditions=tuple(found), stage=stage)


STAGING = StageStatus(name="staging", environment="staging", revision="r1", entered_at=NOW)


def events(before: AgentStatus | None, after: AgentStatus) -> list[tuple[str, str]]:
    return [(note.type, note.reason) for note in transitions(before, after)]


def test_a_new_agent_whose_layers_are_satisfied_gets_no_event_about_them() -> None:
    assert events(None, a_status(Governed="True/A", Orchestrated="True/B", Ready="False/PodsNotReady")) == []


def test_a_new_agent_that_is_refused_gets_an_event() -> None:
    after = a_status(
        Governed="False/OwnerMissing", Orchestrated="Unknown/WaitingForGovernance", Ready="False/OwnerMissing"
    )

    assert events(None, after) == [("Warning", "OwnerMissing"), ("Warning", "OwnerMissing")]


def test_the_first_time_that_an_agent_is_ready_is_reported() -> None:
    assert events(a_status(Ready="Unknown/WaitingForOperator"), a_status(Ready="True/PodsReady")) == [
        ("Normal", "PodsReady")
    ]


@requirement("status.events")
@pytest.mark.parametrize("kind", ["Governed", "Orchestrated", "ActionsBound", "Deployed", "Ready"])
def test_each_layer_and_ready_is_reported_when_it_changes_and_only_then(kind: str) -> None:
    lost, won = a_status(**{kind: "False/Broken"}), a_status(**{kind: "True/Fine"})

    assert events(won, lost) == [("Warning", "Broken")]
    assert events(lost, won) == [("Normal", "Fine")]
    assert events(lost, lost) == []
    assert events(won, won) == []


def test_another_reason_for_the_same_status_is_reported() -> None:
    assert events(a_status(Ready="False/PodsNotReady"), a_status(Ready="False/KillSwitch")) == [
        ("Warning", "KillSwitch")
    ]


def test_a_changed_message_alone_is_not_reported() -> None:
    before = a_status(Ready="False/PodsNotReady")
    after = before.model_copy(update={"conditions": (before.conditions[0].model_copy(update={"message": "new"}),)})

    assert events(before, after) == []


def test_waiting_for_another_layer_is_not_reported() -> None:
    assert events(a_status(Deployed="True/Applied"), a_status(Deployed="Unknown/WaitingForGovernance")) == []


@pytest.mark.parametrize("kind", ["Stalled", "PromotionPending"])
def test_summary_conditions_are_not_reported(kind: str) -> None:
    assert events(a_status(**{kind: "False/X"}), a_status(**{kind: "True/Y"})) == []


def test_each_stage_that_is_entered_is_reported_once() -> None:
    later = STAGING.model_copy(update={"ready_since": NOW, "next_at": NOW + timedelta(hours=1)})
    again = STAGING.model_copy(update={"entered_at": NOW + timedelta(hours=1)})

    assert events(None, a_status(STAGING)) == [("Normal", "StageEntered")]
    assert events(a_status(STAGING), a_status(later)) == []
    assert events(a_status(STAGING), a_status(again)) == [("Normal", "StageEntered")]
    assert events(a_status(STAGING), a_status(None)) == []


def test_each_soak_that_starts_again_is_reported_once() -> None:
    again = STAGING.model_copy(update={"soak_restarted_at": NOW})
    later = STAGING.model_copy(update={"soak_restarted_at": NOW + timedelta(hours=1), "ready_since": NOW})

    assert events(a_status(STAGING), a_status(again)) == [("Warning", "SoakRestarted")]
    assert events(a_status(again), a_status(again)) == []
    assert events(a_status(again), a_status(later)) == [("Warning", "SoakRestarted")]
    assert events(a_status(later), a_status(STAGING)) == []


@pytest.mark.parametrize("before", [None, a_status(), a_status(Killed="False/NotKilled")])
def test_a_kill_is_reported_as_a_warning(before: AgentStatus | None) -> None:
    assert events(before, a_status(Killed="True/KillSwitch")) == [("Warning", "Killed")]


def test_a_release_is_reported_and_an_agent_that_was_never_killed_is_not() -> None:
    assert events(a_status(Killed="True/KillSwitch"), a_status(Killed="False/Released")) == [("Normal", "Released")]
    assert events(None, a_status(Killed="False/NotKilled")) == []
    assert events(a_status(Killed="True/KillSwitch"), a_status(Killed="True/KillSwitch")) == []
