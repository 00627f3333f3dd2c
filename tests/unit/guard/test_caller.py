from typing import Any

import pytest

from interlock_guard.audit.recorder import UNKNOWN_CALLER, Caller, read_caller

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("meta", "headers", "expected"),
    [
        (None, {}, UNKNOWN_CALLER),
        ([], {}, UNKNOWN_CALLER),
        ({"interlock.dev/task": "t-1", "traceparent": PARENT}, {}, Caller("t-1", TRACE)),
        ({}, {"Interlock-Task": "t-2", "traceparent": PARENT}, Caller("t-2", TRACE)),
        ({"interlock.dev/task": "body"}, {"Interlock-Task": "header"}, Caller("body")),
        ({"traceparent": "nonsense"}, {"traceparent": PARENT}, UNKNOWN_CALLER),
        ({"traceparent": f"cc-{TRACE}-b7ad6b7169203331-01-more"}, {}, Caller("", TRACE)),
    ],
)
def test_task_and_trace_are_read_from_the_body_and_else_from_headers(
    meta: Any, headers: dict[str, str], expected: Caller
) -> None:
    assert read_caller(meta, headers) == expected


@pytest.mark.parametrize("task", [7, "", "x" * 257, "a\nb", "a\udcff", None])
def test_a_malformed_task_is_left_out(task: Any) -> None:
    assert read_caller({"interlock.dev/task": task}, {}).task == ""


@pytest.mark.parametrize("parent", [7, "", TRACE, PARENT.upper(), f"00-{'0' * 32}-b7ad6b7169203331-01", PARENT + "\n"])
def test_a_malformed_trace_is_left_out(parent: Any) -> None:
    assert read_caller({"traceparent": parent}, {}).trace == ""
