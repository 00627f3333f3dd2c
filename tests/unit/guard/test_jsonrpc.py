import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.strict_json import JsonInvalid, NodeCounter, dump_json, parse_json
from interlock_guard.wire.jsonrpc import (
    MessageInvalid,
    RpcNotification,
    RpcRequest,
    RpcResponse,
    dump_error,
    dump_notification,
    dump_request,
    dump_response,
    dump_result,
    parse_message,
)
from tests.requirements import requirement


def test_the_three_kinds_of_message_are_told_apart() -> None:
    assert parse_message(b'{"jsonrpc":"2.0","id":"a","method":"m"}') == RpcRequest("a", "m", {})
    assert parse_message(b'{"jsonrpc":"2.0","method":"m","params":{"a":1}}') == RpcNotification("m", {"a": 1})
    assert parse_message(b'{"jsonrpc":"2.0","id":1,"result":{}}') == RpcResponse(1, {}, None)
    error = {"code": -1, "message": "no"}
    assert parse_message(dump_error(None, -1, "no")) == RpcResponse(None, None, error)


def test_what_is_written_can_be_read() -> None:
    assert parse_message(dump_request(1, "m", {"a": "é\n"})) == RpcRequest(1, "m", {"a": "é\n"})
    assert parse_message(dump_notification("m", {})) == RpcNotification("m", {})
    assert parse_message(dump_result(1, {"a": 1})) == RpcResponse(1, {"a": 1}, None)
    assert parse_message(dump_error(1, -1, "no", {"reason": "x"})) == RpcResponse(
        1, None, {"code": -1, "message": "no", "data": {"reason": "x"}}
    )


@pytest.mark.parametrize(
    "message",
    [
        {"id": 1, "result": []},
        {"id": 1, "result": None},
        {"id": 1, "result": {}, "error": {"code": 1, "message": ""}},
        {"id": 1, "error": {"code": "1", "message": ""}},
        {"id": 1, "error": {"code": True, "message": ""}},
        {"id": 1, "error": {"code": 1}},
        {"id": 1, "error": "no"},
        {"id": None, "result": {}},
        {"result": {}},
        {"error": {"code": 1, "message": ""}},
        {"id": 1},
        {"id": 1, "method": ""},
        {"id": 2**53 + 1, "method": "m"},
        {"id": 1, "result": {}, "params": {}},
    ],
)
def test_what_is_neither_a_request_nor_a_response_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(MessageInvalid):
        parse_message(json.dumps({"jsonrpc": "2.0", **message}).encode())


def test_the_bound_on_the_size_is_exact() -> None:
    message = dump_notification("m", {})
    assert parse_message(message, max_bytes=len(message))
    with pytest.raises(MessageInvalid, match="larger than"):
        parse_message(message, max_bytes=len(message) - 1)


def test_a_refusal_contains_the_id_where_it_can_be_read() -> None:
    with pytest.raises(MessageInvalid) as refusal:
        parse_message(b'{"jsonrpc":"1.0","id":"mine","method":"m"}')
    assert refusal.value.id == "mine"


@pytest.mark.parametrize("depth", [63, 64])
def test_depth_is_counted_exactly(depth: int) -> None:
    for empty in ("", "1"):
        assert parse_json("[" * depth + empty + "]" * depth) is not None
        with pytest.raises(JsonInvalid, match="deeper"):
            parse_json("[" * 65 + empty + "]" * 65)
    wide = json.dumps([[{}]] * 100)
    assert parse_json(wide) == [[{}]] * 100


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', '[{"a":1,"\\u0061":2}]', "NaN", "-Infinity", "1e999", "", "1 2", "{'a':1}"]
)
def test_what_two_parsers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(JsonInvalid):
        parse_json(text)


def test_brackets_in_strings_are_not_depth() -> None:
    assert parse_json(json.dumps("[" * 1000)) == "[" * 1000


def test_surrogate_pairs_are_characters_and_lone_ones_are_refused() -> None:
    assert parse_json('"\\ud83d\\ude00"') == "\U0001f600"
    for text in ('"\\ud83d"', '"\\uDE00"', '{"\\ud83d": 1}'):
        with pytest.raises(JsonInvalid, match="surrogate"):
            parse_json(text)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    with suppress(MessageInvalid):
        parse_message(data)


IDS = st.text(max_size=256) | st.integers(-(2**53), 2**53)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_sent_on_reads_as_what_was_decided_on(value: Any) -> None:
    written = dump_json(value)
    assert b"\n" not in written
    assert json.loads(written) == value
    assert parse_json(written) == value


OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)
METHODS = st.text(min_size=1, max_size=128)
ERRORS = st.fixed_dictionaries({"code": st.integers(), "message": st.text()}, optional={"data": VALUES})
MESSAGES = (
    st.builds(RpcRequest, IDS, METHODS, OBJECTS)
    | st.builds(RpcNotification, METHODS, OBJECTS)
    | st.builds(RpcResponse, IDS, OBJECTS, st.none())
    | st.builds(RpcResponse, IDS, st.none(), ERRORS)
)


def dump(message: RpcRequest | RpcNotification | RpcResponse) -> bytes:
    match message:
        case RpcRequest():
            return dump_request(message.id, message.method, message.params)
        case RpcNotification():
            return dump_notification(message.method, message.params)
        case RpcResponse():
            return dump_response(message)


@requirement("guard.hostile")
@given(MESSAGES)
def test_every_message_reads_as_it_was_written(message: RpcRequest | RpcNotification | RpcResponse) -> None:
    assert parse_message(dump(message)) == message


PIECES = [b'"', b"{", b"[", b"\\u", b",", b":", b"\0", b"1e999"]


@requirement("guard.hostile")
@given(MESSAGES, st.data())
def test_no_mutation_of_a_message_breaks_the_parser_and_what_passes_reads_the_same_again(
    message: RpcRequest | RpcNotification | RpcResponse, data: st.DataObject
) -> None:
    written = bytearray(dump(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(written) - 1))
        piece = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"[", b"\\u", b",", b":", b"\0", b"1e999"])
        )
        written[at : at + data.draw(st.integers(0, 3))] = piece
        if not written:
            return
    try:
        read = parse_message(bytes(written))
    except MessageInvalid:
        return
    assert parse_message(dump(read)) == read


@requirement("guard.hostile")
@given(st.text(alphabet='{}[]":,0123456789eE+-.truefalsn \\uD8', max_size=300))
def test_no_text_of_json_letters_breaks_the_parser(text: str) -> None:
    with suppress(JsonInvalid):
        value = parse_json(text)
        assert parse_json(dump_json(value)) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=30,
)


def nodes_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + nodes_of(child) for child in value.values())
    return 1 + (sum(map(nodes_of, value)) if isinstance(value, list) else 0)


def count_nodes(*chunks: bytes) -> int:
    counter = NodeCounter()
    for chunk in chunks:
        counter.feed(chunk)
    return counter.nodes


@requirement("guard.load")
@given(value=JSON, size=st.integers(1, 7), ensure_ascii=st.booleans())
def test_the_nodes_of_a_text_are_counted_without_parsing_wherever_its_chunks_end(
    *, value: Any, size: int, ensure_ascii: bool
) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii).encode()
    counted = count_nodes(text)
    assert nodes_of(value) <= counted <= 2 * nodes_of(value)
    assert count_nodes(*(text[start : start + size] for start in range(0, len(text), size))) == counted


@requirement("guard.load")
@given(st.text(alphabet='\\"a[,', max_size=40))
def test_what_stands_in_a_string_is_no_node(text: str) -> None:
    assert count_nodes(json.dumps(text).encode()) == 1
