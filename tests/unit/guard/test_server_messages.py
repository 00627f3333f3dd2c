"""Messages of MCP servers as the guard reads them: leniently, and never as what a strict text could not say."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.strict_json import MAX_DEPTH, JsonInvalid, parse_json, replace_surrogates
from interlock_guard.wire.jsonrpc import (
    INTERNAL_ERROR,
    MAX_RESULT,
    Message,
    MessageInvalid,
    RpcNotification,
    RpcRequest,
    RpcResponse,
    dump_notification,
    dump_request,
    dump_response,
    parse_message,
    parse_messages,
)
from interlock_guard.wire.large_messages import SMALL, LargeMessages
from interlock_guard.wire.server_messages import FROM_SERVER, MAX_BATCH, MAX_REPAIRED, own_id
from tests.requirements import requirement


def read(text: str | bytes) -> Message:
    data = text if isinstance(text, bytes) else text.encode()
    [message] = parse_messages(data, max_bytes=MAX_RESULT, reader=FROM_SERVER)
    return message


def answer(**members: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 7, **members})


def failed(code: int, message: str, **more: Any) -> RpcResponse:
    return RpcResponse(7, None, {"code": code, "message": message, **more})


OK = RpcResponse(7, {"a": 1}, None)
NULLS = [None] * 3
UNKNOWN = {"code": -32601, "message": "x"}


@requirement("guard.odd-messages")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"jsonrpc":"2.0","id":7,"result":{"a":"party \\ud83c"}}', RpcResponse(7, {"a": "party \ufffd"}, None)),
        ('{"jsonrpc":"2.0","id":7,"result":{"\\udc00":1}}', RpcResponse(7, {"\ufffd": 1}, None)),
        ('{"jsonrpc":"2.0","id":7,"result":{"a":"\\ud83c\\udf89"}}', RpcResponse(7, {"a": "\U0001f389"}, None)),
        (b'{"jsonrpc":"2.0","id":7,"result":{"a":"caf\xe9"}}', RpcResponse(7, {"a": "caf\ufffd"}, None)),
        ('{"jsonrpc":"2.0","id":7,"result":{"a":[NaN,-Infinity,1e999,2]}}', RpcResponse(7, {"a": [*NULLS, 2]}, None)),
        ('\ufeff{"jsonrpc":"2.0","id":7,"result":{"a":1}}', OK),
        (f"\x1b[2K\x1b[1G\x1b[32m{answer(result={'a': 1})}\x1b[0m\r", OK),
        (f"\x1e\ufeff\r\n{answer(result={'a': 1})}\x00", OK),
        (answer(result={"a": 1}, error=None), OK),
        (answer(result={"a": 1}, error={}), OK),
        (answer(result={"a": 1}, error=""), OK),
        (answer(result={"a": 1}, error=False), OK),
        (answer(result={}, error=UNKNOWN), failed(-32601, "x")),
        (answer(result=[], error=UNKNOWN), failed(-32601, "x")),
        (answer(result={"a": 1}, method="tools/call"), OK),
        (answer(result={"a": 1}, method="tools/call", params={"name": "t"}, error=None), OK),
        (answer(error=UNKNOWN, method="tools/call"), failed(-32601, "x")),
        (f"[{answer(result={'a': 1})}]", OK),
        ('[{"jsonrpc":"2.0","method":"m"}]', RpcNotification("m", {})),
        (answer(result={"a": 1}, serverTime="now"), OK),
        (answer(result={"a": 1}, params=None, method=None), OK),
        (answer(result={"a": 1}, id="7"), OK),
        (answer(result={"a": 1}, id=7.0), OK),
        ('{"id":7,"result":{"a":1}}', OK),
        (answer(id=None, error=UNKNOWN), RpcResponse(None, None, UNKNOWN)),
        ('{"jsonrpc":"2.0","error":{"code":1,"message":"x"}}', RpcResponse(None, None, {"code": 1, "message": "x"})),
        (answer(id=True, result={}), RpcResponse(None, {}, None)),
        (answer(id="07", result={}), RpcResponse("07", {}, None)),
        (answer(id="server-error", result={}), RpcResponse("server-error", {}, None)),
        (answer(error={"code": "ENOENT", "message": "no file"}), failed(INTERNAL_ERROR, "ENOENT: no file")),
        (answer(error={"code": -32000}), failed(-32000, "")),
        (answer(error={"code": 1.5, "message": 2, "data": 3}), failed(INTERNAL_ERROR, "", data=3)),
        (answer(error="no file", result=None), failed(INTERNAL_ERROR, "no file")),
        ('{"jsonrpc":"2.0","method":"m","params":[]}', RpcNotification("m", {})),
        ('{"jsonrpc":"2.0","method":"m","params":null}', RpcNotification("m", {})),
        ('{"jsonrpc":"2.0","id":null,"method":"m","extra":1}', RpcNotification("m", {})),
        ('{"jsonrpc":"2.0","id":null,"method":"m","result":{"a":1}}', RpcNotification("m", {})),
        ('{"jsonrpc":"2.0","id":9,"method":"m","result":{},"error":null}', RpcRequest(9, "m", {})),
        ('{"jsonrpc":"2.0","id":"","method":"m","params":[]}', RpcRequest("", "m", {})),
    ],
)  # fmt: skip
def test_an_odd_message_is_read_as_what_its_server_meant(text: str | bytes, message: Message) -> None:
    assert read(text) == message


@requirement("guard.odd-messages")
@pytest.mark.parametrize("item", ["7", "null", "{}", '"ready"', "[]"])
def test_an_array_of_messages_is_read_without_its_items_that_are_none(item: str) -> None:
    text = f'[{{"jsonrpc":"2.0","method":"m"}},{item},{answer(result={"a": 1})}]'.encode()
    assert parse_messages(text, max_bytes=MAX_RESULT, reader=FROM_SERVER) == [RpcNotification("m", {}), OK]
    with pytest.raises(MessageInvalid, match="batches are not accepted"):
        parse_message(text)


@pytest.mark.parametrize(
    "members",
    [{"result": []}, {"result": None}, {"result": "x"}, {}, {"result": {"a": 1}, "error": {"code": 1, "message": ""}}],
)
def test_an_answer_without_a_sound_result_is_an_error_of_its_own_call(members: dict[str, Any]) -> None:
    message = read(answer(**members))
    assert isinstance(message, RpcResponse)
    assert (message.id, message.result) == (7, None)
    assert message.error is not None
    assert message.error["code"] == INTERNAL_ERROR


@pytest.mark.parametrize(
    "text",
    [
        "DEBUG: querying the database",
        f"\x1b[32mINFO\x1b[0m {answer(result={})}",
        f"{answer(result={})}\x1b[0m.",
        "\x1b[2K",
        "\x1b" * 100,
        '"ready"',
        "7",
        "[]",
        "[[], 7]",
        '[{"jsonrpc":"2.0","method":"m"}%s]' % (',{"jsonrpc":"2.0","method":"m"}' * MAX_BATCH),
        '[[{"jsonrpc":"2.0","id":7,"result":{}}]]',
        "{}",
        '{"level":"info","message":"querying"}',
        '{"id":7,"level":"info"}',
        '{"id":7,"result":"ok"}',
        '{"method":"GET","path":"/"}',
        '{"jsonrpc":"2.0","result":[]}',
        '{"jsonrpc":"2.0","method":"","params":{}}',
        '{"jsonrpc":"2.0","method":"m","params":"x"}',
        '{"jsonrpc":"2.0","id":[],"method":"m"}',
        '{"jsonrpc":"2.0","id":7,"result":{"a":1,"a":2}}',
        '{"jsonrpc":"2.0","id":7,"id":8,"result":{}}',
        '{"jsonrpc":"2.0","id":7,"result":{"\\ud800":1,"\\ud801":2}}',
        '{"jsonrpc":"2.0","id":7,"result":{"a":%s}}' % ("[" * MAX_DEPTH + "]" * MAX_DEPTH),
        '{"jsonrpc":"2.0","id":7,"result":{"a":%s}}' % ("[" * 100_000 + "]" * 100_000),
        '{"jsonrpc":"2.0","id":7,"result":{"a":"\\ud800%s"}}' % ("x" * MAX_REPAIRED),
    ],
)  # fmt: skip
def test_what_is_no_message_or_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(MessageInvalid):
        read(text)


@pytest.mark.parametrize(("value", "meant"), [("0", 0), ("12", 12), (3.0, 3), (-1.0, -1)])
def test_the_guards_own_integers_are_known_in_other_forms(value: Any, meant: int) -> None:
    found = own_id(value)
    assert (found, type(found)) == (meant, int)


@pytest.mark.parametrize(
    "value", ["", "007", "+1", "-1", " 1", "1 ", "1.0", "\u0661", "9" * 20, 1.5, 1e300, None, True, [], {}]
)
def test_another_value_is_no_id_of_the_guard(value: Any) -> None:
    assert own_id(value) is value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@requirement("guard.odd-messages")
@given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "x"]), JSON))
def test_whatever_is_read_could_have_been_sent_strictly(value: dict[str, Any]) -> None:
    """So a decision on it is one that the server could have had anyway."""
    try:
        message = read(json.dumps({"jsonrpc": "2.0", **value}))
    except MessageInvalid:
        return
    match message:
        case RpcRequest():
            text = dump_request(message.id, message.method, message.params)
        case RpcNotification():
            text = dump_notification(message.method, message.params)
        case RpcResponse():
            text = dump_response(message)
    if not isinstance(message, RpcResponse) or message.id is not None or message.result is None:
        assert parse_message(text, max_bytes=MAX_RESULT) == message


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_only_halves_of_pairs_are_replaced(text: str) -> None:
    found = replace_surrogates({"a": text})["a"]
    assert found == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    parse_json(json.dumps(found))


def test_two_keys_that_are_equal_once_they_are_replaced_are_one_key_twice() -> None:
    with pytest.raises(JsonInvalid):
        replace_surrogates({chr(0xD800): 1, chr(0xD801): 2})


@requirement("guard.odd-messages")
@pytest.mark.parametrize("filling", [0, 2 * SMALL])
async def test_a_large_message_is_read_as_a_small_one(filling: int) -> None:
    large = LargeMessages()
    text = f'{{"jsonrpc":"2.0","id":"7","result":{{"a":"\\ud83c","b":NaN,"c":"{"x" * filling}"}},"error":null}}'
    [message] = await large.parse_messages(
        text.encode(), max_bytes=MAX_RESULT, hold=large.results.hold(), reader=FROM_SERVER
    )
    assert message == RpcResponse(7, {"a": "\ufffd", "b": None, "c": "x" * filling}, None)
