"""The reader of what MCP servers send: as lenient as a message can be read that answers at most one call. No I/O.

A server's output answers an agent's calls. A line that is refused as a whole costs the call that it answers, or more,
so the reader refuses only what it cannot understand. Each value that it returns is one that the server could have sent
in a strict form, too. So no decision depends on how the line was written:

    half a surrogate pair, a byte that is no UTF-8          U+FFFD
    NaN, Infinity, 1e999                                    null
    a byte order mark, unknown members                      ignored
    control characters and sequences around the message     ignored: spinners clear their line before it
    `"error": null` or empty next to a result               ignored, and so is an empty result next to an error
    `"method"` next to a result or an error                 ignored: the server repeats the request that it answers
    an array of messages                                    the messages: protocol version 2025-03-26 has such batches
    `"id": "7"` or `7.0` of an answer                       7: the guard's own ids are integers
    `"params": []` or null                                  {}
    an error whose code is no integer, or that is a text    the code -32603, with the text as the message
    an answer with a result that is no object               an error of its own call that says so

JSON with one key twice, and nesting beyond the bound, stay refused: two readers could understand them differently.
"""

# mypy: disable-error-code="explicit-override"
# Python 3.11 has no `override`, and the guard's image has no typing_extensions.

import re
from typing import Any, Final

from interlock_contract.strict_json import (
    JsonInvalid,
    check_depth,
    has_lone_surrogates,
    parse_lenient,
    replace_surrogates,
)
from interlock_guard.wire.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    MAX_METHOD,
    Id,
    Message,
    MessageInvalid,
    MessageReader,
    RpcNotification,
    RpcRequest,
    RpcResponse,
    is_id,
)

MAX_REPAIRED: Final = 1024 * 1024
"""Longest text in characters in which halves of surrogate pairs are replaced: the work takes memory many times its
length."""
MAX_BATCH: Final = 32
"""Messages of one array: all of them are handled in one turn of the event loop."""
_CONTROL: Final = r"(?:\x1b\[[0-9;?]{0,16}[A-Za-z]|[\x00-\x1a\x1c-\x1f\ufeff])"
_MAX_CONTROLS: Final = 64
_CONTROLS: Final = re.compile(f"{_CONTROL}{{1,{_MAX_CONTROLS}}}")
_CONTROLS_AT_END: Final = re.compile(rf"{_CONTROL}+\Z")
_ENDS: Final = ("}", "]")
_MAX_DIGITS: Final = 16
_MAX_CODE: Final = 64


class ServerMessageReader(MessageReader):
    """Reads messages of MCP servers."""

    def decode(self, data: bytes | bytearray) -> str:
        """Return the text, with U+FFFD for what is no UTF-8, and without what moves or colours a terminal's text."""
        text = data.decode("utf-8", "replace")
        start = _CONTROLS.match(text)
        if start is not None:
            text = text[start.end() :]
        if text.endswith(_ENDS):
            return text
        end = _CONTROLS_AT_END.search(text, max(0, len(text) - _MAX_CONTROLS))
        return text if end is None else text[: end.start()]

    def parse(self, text: str) -> Any:
        """Return the value of the text.

        Raises:
            JsonInvalid: The text is no JSON, or has an object with one key twice.
        """
        return parse_lenient(text)

    def check(self, value: Any, text: str) -> Any:
        """Return the value with U+FFFD for each half of a surrogate pair.

        Raises:
            JsonInvalid: The value is too deep, or is too large to be repaired.
        """
        check_depth(value, text)
        if not has_lone_surrogates(value, text):
            return value
        if len(text) > MAX_REPAIRED:
            raise JsonInvalid(f"lone surrogate in more than {MAX_REPAIRED} characters")
        return replace_surrogates(value)

    def read(self, value: Any) -> Message:
        """Return the message that the value is.

        Raises:
            MessageInvalid: The value is no message.
        """
        if not isinstance(value, dict):
            raise MessageInvalid(INVALID_REQUEST, "no JSON object")
        is_answer = value.get("id") is not None and bool(value.get("result") or value.get("error"))
        return _read_call(value) if isinstance(value.get("method"), str) and not is_answer else _read_answer(value)

    def read_all(self, value: Any) -> list[Message]:
        """Return the messages of an array, or the one message that the value is.

        An item that is no message is left out, unless all of them are.

        Raises:
            MessageInvalid: There is no message, or there are more than are read.
        """
        if not isinstance(value, list):
            return [self.read(value)]
        if len(value) > MAX_BATCH:
            raise MessageInvalid(INVALID_REQUEST, f"an array of more than {MAX_BATCH} messages")
        messages, refused = [], MessageInvalid(INVALID_REQUEST, "no JSON object")
        for item in value:
            try:
                messages.append(self.read(item))
            except MessageInvalid as error:
                refused = error
        if not messages:
            raise MessageInvalid(refused.code, str(refused))
        return messages


FROM_SERVER: Final = ServerMessageReader()


def own_id(value: Any) -> Any:
    """Return the integer that a server means by an id or progress token of the guard's; else the value itself."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    is_number = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS
    return int(value) if is_number and str(int(value)) == value else value


def _read_call(value: dict[str, Any]) -> RpcRequest | RpcNotification:
    method, params, request_id = value["method"], value.get("params"), value.get("id")
    if value.get("jsonrpc") != "2.0" or not 0 < len(method) <= MAX_METHOD:
        raise MessageInvalid(INVALID_REQUEST, "no JSON-RPC 2.0 message")
    if params is None or params == []:
        params = {}
    if not isinstance(params, dict):
        raise MessageInvalid(INVALID_REQUEST, "params must be an object")
    if request_id is None:
        return RpcNotification(method, params)
    if not is_id(request_id):
        raise MessageInvalid(INVALID_REQUEST, "id must be a string or an integer")
    return RpcRequest(request_id, method, params)


def _read_answer(value: dict[str, Any]) -> RpcResponse:
    """Return an answer. One without `jsonrpc` may be a line of a log, so it must have a sound result or an error."""
    result, error = value.get("result"), value.get("error")
    is_rpc = value.get("jsonrpc") == "2.0"
    if "id" not in value and not is_rpc:
        raise MessageInvalid(INVALID_REQUEST, "no JSON-RPC 2.0 message")
    response_id: Id | None = own_id(value.get("id"))
    if not is_id(response_id):
        response_id = None
    if not error and isinstance(result, dict):
        return RpcResponse(response_id, result, None)
    if error is not None and not result:
        return RpcResponse(response_id, None, _read_error(error))
    if not is_rpc or response_id is None:
        raise MessageInvalid(INVALID_REQUEST, "neither a request nor an answer")
    flaw = "a result that is no object" if error is None else "both a result and an error"
    return RpcResponse(response_id, None, internal_error(f"The MCP server answered with {flaw}."))


def internal_error(message: str) -> dict[str, Any]:
    """Return the error that stands for an answer of a server that has none."""
    return {"code": INTERNAL_ERROR, "message": message}


def _read_error(error: Any) -> dict[str, Any]:
    if not isinstance(error, dict):
        return internal_error(error if isinstance(error, str) else "The MCP server answered with an error.")
    code, message = error.get("code"), error.get("message")
    text = message if isinstance(message, str) else ""
    if type(code) is int:
        return {**error, "message": text}
    if isinstance(code, str) and 0 < len(code) <= _MAX_CODE:
        text = f"{code}: {text}"
    return {**error, "code": INTERNAL_ERROR, "message": text}
