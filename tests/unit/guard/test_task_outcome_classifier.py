import json
from typing import Any

import pytest
from a2a.types import TaskState
from a2a.utils.errors import JSON_RPC_ERROR_CODE_MAP

from interlock_guard.tasks.outcome_classifier import (
    LONGEST_LOOKED_AT,
    AnswerReader,
    TaskOutcome,
    is_last_word,
    outcome_of_message,
    outcome_of_status,
)


def judged(
    *chunks: bytes, content_type: str = "application/json", status: int = 200, is_coded: bool = False
) -> TaskOutcome:
    reader = AnswerReader(status, content_type, is_coded=is_coded)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


def an_error(code: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "x"}}).encode()


def in_state(state: str) -> list[dict[str, Any]]:
    """Every shape of a state: A2A 0.3 and 1.0, by JSON-RPC and plain, task and update."""
    status = {"status": {"state": state}}
    bare = [status, {"task": status}, {"statusUpdate": status}, {"kind": "status-update", "final": True, **status}]
    return [*bare, *({"jsonrpc": "2.0", "id": 1, "result": one} for one in bare)]


@pytest.mark.parametrize("state", ["completed", "failed", "rejected", "canceled", "TASK_STATE_COMPLETED"])
def test_a_state_that_is_final_is_the_last_word_in_every_shape(state: str) -> None:
    assert all(is_last_word(message) for message in in_state(state))


@pytest.mark.parametrize("state", ["working", "submitted", "TASK_STATE_WORKING", "input-required", ""])
def test_any_other_state_is_not(state: str) -> None:
    assert not any(is_last_word(message) for message in in_state(state))


def test_a_message_in_place_of_a_task_is_the_last_word_and_what_is_none_is_not() -> None:
    said = [{"kind": "message"}, {"message": {}}, {"jsonrpc": "2.0", "id": 1, "result": {"message": {}}}]
    assert all(is_last_word(message) for message in said)
    assert not any(is_last_word(message) for message in (None, 1, [], {}, {"message": "x"}, {"jsonrpc": "2.0"}))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "Answered"), (204, "Answered"), (302, "Answered"), (400, "Rejected"), (499, "Rejected"), (500, "Failed")],
)
def test_a_status_says_who_failed(status: int, outcome: str) -> None:
    assert outcome_of_status(status) == outcome


@pytest.mark.parametrize("code", [-32700, -32600, -32601, -32602, -32001, -32002, -32003, -32004, -32005, -32007])
def test_an_error_that_is_the_callers_is_no_failure_of_the_agent(code: int) -> None:
    assert judged(an_error(code)) == TaskOutcome.REJECTED


@pytest.mark.parametrize("code", [-32603, -32006, -32000, 1, None, "x"])
def test_any_other_error_is_one(code: Any) -> None:
    assert judged(an_error(code)) == TaskOutcome.FAILED


def test_every_error_of_the_official_sdk_is_known() -> None:
    failures = {error.__name__ for error, code in JSON_RPC_ERROR_CODE_MAP.items() if judged(an_error(code)) == "Failed"}
    assert failures == {"InternalError", "InvalidAgentResponseError"}


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("failed", "Failed"),
        ("TASK_STATE_FAILED", "Failed"),
        ("rejected", "Rejected"),
        ("TASK_STATE_REJECTED", "Rejected"),
        ("completed", "Answered"),
        ("TASK_STATE_WORKING", "Answered"),
        ("canceled", "Answered"),
    ],
)
def test_the_state_of_a_task_says_how_it_ended(state: str, outcome: str) -> None:
    assert {judged(json.dumps(one).encode()) for one in in_state(state)} == {outcome}


def test_the_states_are_the_official_ones() -> None:
    assert {"TASK_STATE_FAILED", "TASK_STATE_REJECTED"} <= set(TaskState.keys())


def test_the_last_event_that_says_something_counts() -> None:
    events = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in (in_state("failed")[2], {"artifactUpdate": {}})]
    assert judged(*events, content_type="text/event-stream") == TaskOutcome.FAILED
    late = b"data: " + an_error(-32602) + b"\n\n"
    assert judged(*events, late, content_type="text/event-stream") == TaskOutcome.REJECTED


def test_an_answer_in_pieces_is_read_as_one() -> None:
    text = an_error(-32603)
    assert judged(*(bytes([byte]) for byte in text)) == TaskOutcome.FAILED


@pytest.mark.parametrize("message", [None, [], 1, "x", {}, {"status": "failed"}, {"status": {"state": 1}}, {"task": 1}])
def test_what_says_nothing_is_judged_by_its_status(message: Any) -> None:
    assert outcome_of_message(message) is None


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream"])
def test_other_types_are_not_checked(content_type: str) -> None:
    assert judged(an_error(-32603), content_type=content_type) == TaskOutcome.ANSWERED


def test_neither_is_what_is_compressed_too_large_or_no_json() -> None:
    assert judged(an_error(-32603), is_coded=True) == TaskOutcome.ANSWERED
    padding = b" " * LONGEST_LOOKED_AT
    assert judged(padding, an_error(-32603)) == TaskOutcome.ANSWERED
    assert judged(b"data: " + padding + b"\n\n", content_type="text/event-stream") == TaskOutcome.ANSWERED
    assert judged(b"{") == TaskOutcome.ANSWERED


def test_a_status_of_failure_stays_one_whatever_the_body_says() -> None:
    assert judged(json.dumps(in_state("completed")[0]).encode(), status=500) == TaskOutcome.FAILED
