"""The values and ids that a guard reads in a task, and the requests in which an agent could read others."""

from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from interlock_contract.bundle import BundleTaskScope
from interlock_guard.tasks.a2a_ids import SeenTask, read_answer_ids, read_request_ids
from interlock_guard.tasks.known_ids import KNOWN_SECONDS, MAX_KNOWN, KnownIds
from interlock_guard.tasks.refusals import TaskRefused
from interlock_guard.tasks.scope_values import check_body, read_values

DECLARED = (BundleTaskScope("region", header="X-Region"), BundleTaskScope("line", pointer="/meta/line"))


def read(*headers: tuple[str, str], body: Any = None) -> dict[str, tuple[str, ...]]:
    return read_values(DECLARED, CIMultiDictProxy(CIMultiDict(headers)), body)


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ([("x-region", "eu")], None, {"region": ("eu",)}),
        ([("X-REGION", " eu ,\tus,eu")], None, {"region": ("eu", "us")}),
        ([], {"meta": {"line": "loans"}}, {"line": ("loans",)}),
        ([], {"meta": {"line": ["loans", "cards"]}}, {"line": ("loans", "cards")}),
        ([], {"meta": {"line": []}}, {}),
        ([], {"meta": {"line": None}}, {}),
        ([], {"meta": "line"}, {}),
        ([], [1], {}),
        ([("Region", "eu"), ("X-Region-2", "eu")], None, {}),
    ],
)
def test_values_are_read_where_the_agent_says(headers: list[tuple[str, str]], body: Any, expected: Any) -> None:
    assert read(*headers, body=body) == expected


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("X-Region", "eu"), ("x-region", "us")], None),
        ([("X-Region", "eu"), ("X_Region", "us")], None),
        ([("X.Region", "us")], None),
        ([("X-Region", "eu"), ("Connection", "close, x-region")], None),
        ([("X-Region", "")], None),
        ([("X-Region", "eu,")], None),
        ([("X-Region", "\N{LATIN SMALL LETTER E WITH ACUTE}u")], None),
        ([("X-Region", "e\x7fu")], None),
        ([("X-Region", ",".join("abcde"[i % 5] for i in range(65)))], None),
        ([("X-Region", "e" * 257)], None),
        ([], {"meta": {"line": 7}}),
        ([], {"meta": {"line": ["loans", {"or": "cards"}]}}),
        ([], {"meta": {"line": [["loans"]]}}),
        ([], {"meta": {"line": ""}}),
        ([], {"meta": {"line": {"name": "loans"}}}),
        ([], [{"jsonrpc": "2.0", "meta": {"line": "loans"}}]),
    ],
)
def test_what_an_agent_could_read_in_another_way_is_refused(headers: list[tuple[str, str]], body: Any) -> None:
    with pytest.raises(TaskRefused) as refused:
        read(*headers, body=body)
    assert (refused.value.refusal.status, refused.value.refusal.reason) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("body", "json_type"),
    [
        (b'{"meta": {"line": "a"}, "meta": {"line": "b"}}', 0),
        (b'{"x": NaN, "meta": {"line": "a"}}', 0),
        (b'\xef\xbb\xbf{"meta": {"line": "a"}}', 0),
        ('{"meta": {"line": "a"}}'.encode("utf-16"), 0),
        (b"{'meta': 1}", 1),
        (b"", 1),
    ],
)
def test_a_body_that_only_lenient_parsers_read_is_refused(body: bytes, json_type: int) -> None:
    with pytest.raises(TaskRefused):
        check_body(body, is_json=bool(json_type))


@pytest.mark.parametrize("body", [b"a=b", b"12", b"\xff\x00", b"[" * 100_000, b"--x\r\n"])
def test_a_body_that_no_parser_reads_as_an_object_names_nothing(body: bytes) -> None:
    check_body(body, is_json=False)


def rpc(params: Any) -> Any:
    return {"jsonrpc": "2.0", "id": "9", "method": "m", "params": params}


@pytest.mark.parametrize(
    ("target", "body", "expected"),
    [
        ("/", rpc({"message": {"taskId": "t", "contextId": "c"}}), {"t", "c"}),
        ("/", rpc({"message": {"task_id": "t", "context_id": "c"}}), {"t", "c"}),
        ("/", rpc({"id": "t"}), {"t"}),
        ("/", rpc({"taskId": "t", "id": "config"}), {"t", "config"}),
        ("/", rpc([]), set()),
        ("/message:send", {"message": {"contextId": "c"}, "id": "no"}, {"c"}),
        ("/v1/tasks/t%2D1", None, {"t-1"}),
        ("/tasks/t:subscribe?x=1", None, {"t"}),
        ("/tasks/t/pushNotificationConfigs/7", None, {"t"}),
        ("/tasks?contextId=c&pageSize=1", None, {"c"}),
        ("/tasks/t/other", None, set()),
        ("/", rpc({"id": "t" * 257}), set()),
        ("/", rpc({"id": 7, "message": {"taskId": ["t"]}}), set()),
        ("/", "t", set()),
    ],
)
def test_ids_are_read_in_both_bindings(target: str, body: Any, expected: set[str]) -> None:
    assert read_request_ids(target, body) == expected


def test_two_spellings_of_one_id_are_refused() -> None:
    with pytest.raises(TaskRefused):
        read_request_ids("/", rpc({"message": {"taskId": "mine", "task_id": "other"}}))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"kind": "task", "id": "t", "contextId": "c", "status": {"state": "working"}}, ("t", "c", False)),
        ({"task": {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"}}}, ("t", "c", True)),
        ({"statusUpdate": {"taskId": "t", "status": {"state": "TASK_STATE_INPUT_REQUIRED"}}}, ("t", "", False)),
        ({"kind": "status-update", "taskId": "t", "status": {"state": "canceled"}}, ("t", "", True)),
        ({"kind": "task", "id": "t", "status": {"state": "failed"}}, ("t", "", True, True)),
        ({"task": {"id": "t", "status": {"state": "TASK_STATE_FAILED"}}}, ("t", "", True, True)),
        ({"artifactUpdate": {"taskId": "t", "contextId": "c"}}, ("t", "c", None)),
        ({"kind": "message", "messageId": "m", "contextId": "c"}, ("", "c", None)),
        ({"id": "config", "url": "https://x"}, None),
        (None, None),
    ],
)
def test_ids_and_states_are_read_in_answers(result: Any, expected: Any) -> None:
    wanted = None if expected is None else SeenTask(*expected)

    assert read_answer_ids({"jsonrpc": "2.0", "result": result}) == wanted
    assert read_answer_ids(result) == wanted, "plain HTTP has the result alone"


def test_the_table_of_ids_is_bounded_in_number_and_time() -> None:
    known = KnownIds()
    for number in range(MAX_KNOWN + 1):
        known.note(SeenTask(f"t{number}", "", is_final=False), float(number))

    assert known.under_way == MAX_KNOWN
    assert not known.knows(["t0"], 0.0)
    assert known.knows(["other", "t1"], 0.0)
    known.note(SeenTask("t1", "", is_final=None), KNOWN_SECONDS)
    last = float(MAX_KNOWN)
    assert known.knows([f"t{MAX_KNOWN}"], last + KNOWN_SECONDS)
    assert not known.knows([f"t{MAX_KNOWN}"], last + KNOWN_SECONDS + 1)
    assert known.under_way == 1, "t1, which was named later"


def test_a_task_ends_once_and_can_go_on_after_input() -> None:
    known = KnownIds()
    for is_final, under_way in ((False, 1), (None, 1), (True, 0), (True, 0), (False, 1), (True, 0)):
        known.note(SeenTask("t", "c", is_final), 0.0)
        assert known.under_way == under_way
