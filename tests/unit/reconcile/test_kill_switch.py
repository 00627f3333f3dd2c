import pytest

from interlock.api.status import AgentStatus, KillStatus
from interlock_contract.kill import KillLatch, observe
from interlock_contract.names import KILL_SWITCH
from tests.requirements import requirement
from tests.support.builders import NOW, seconds

ENGAGED = KillStatus(reason="runaway", requested_at=NOW)
RELEASED = KillStatus(reason="runaway", requested_at=NOW, released_at=NOW + seconds(1))
OTHERS = {"app": "triage", "kill-switch": "on", "example.com/kill-switch": "on"}


def kill_reason(annotations: dict[str, str], recorded: KillStatus | None) -> str | None:
    """Return why an Agent with this status is killed, as an operator that has just started decides."""
    status = AgentStatus(kill=recorded).to_kubernetes()
    return observe(KillLatch(), annotations, status).message


@requirement("kill.any-value")
@pytest.mark.parametrize(
    "value",
    [
        "on",
        "true",
        "True ",
        "yes",
        "0",
        "",
        " ",
        "no",
        "false",
        "None",
        "Off",
        "OFF",
        "off ",
        " off",
        "off\n",
        "offf",
        "of",
        "'off'",
        "οff",  # noqa: RUF001 - a Greek omicron
        "0ff",
        "runaway: see INC-7",
        "x" * 200_000,
    ],
)
def test_every_value_but_off_kills(value: str) -> None:
    assert kill_reason({KILL_SWITCH: value}, None) == value[:1024]


@pytest.mark.parametrize("latched", [None, ENGAGED, RELEASED])
def test_off_releases_whatever_was_recorded(latched: KillStatus | None) -> None:
    assert kill_reason({KILL_SWITCH: "off"}, latched) is None


def test_an_agent_without_the_annotation_lives() -> None:
    assert kill_reason({}, None) is None
    assert kill_reason(OTHERS, None) is None


@requirement("kill.latched")
def test_removing_the_annotation_releases_nothing() -> None:
    assert kill_reason({}, ENGAGED) == "runaway"
    assert kill_reason(OTHERS, ENGAGED) == "runaway"


def test_an_empty_value_that_was_recorded_stays_a_kill() -> None:
    assert kill_reason({}, KillStatus(reason="", requested_at=NOW)) is not None


def test_once_released_the_annotation_may_go() -> None:
    assert kill_reason({}, RELEASED) is None


def test_a_release_that_was_recorded_does_not_excuse_a_new_kill() -> None:
    assert kill_reason({KILL_SWITCH: "again"}, RELEASED) == "again"


def test_the_annotation_speaks_before_the_record() -> None:
    assert kill_reason({KILL_SWITCH: "worse"}, ENGAGED) == "worse"
