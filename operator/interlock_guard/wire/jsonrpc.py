"""JSON-RPC 2.0 as MCP uses it, without I/O. Clients' messages are read strictly: one object, no batch, nothing unknown.

Messages of MCP servers have a reader of their own (`wire.server_messages`).
"""

from dataclasses import dataclass, field
from typing import Any, Final

from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_contract.strict_json import JsonInvalid, check_parsed, decode_text, dump_json, parse_text

MAX_BODY: Final = LISTENERS[ListenerName.AGENT].body_bytes
"""Largest message from a client, in bytes."""
MAX_RESULT: Final = 16 * 1024 * 1024
"""Largest message from a server, in bytes."""

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
REFUSED: Final = -32010
"""The guard is closed (killed, stale, without bundle); `data.reason` says why."""

_KEYS: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
MAX_METHOD: Final = 128
_MAX_ID: Final = 256
_MAX_INTEGER: Final = 2**53

Id = str | int


class MessageInvalid(ValueError):  # noqa: N818 - says the state of a message, like BundleInvalid
    """The bytes are no acceptable message; `code` is JSON-RPC's error code for it, `id` the request's, if readable."""

    def __init__(self, code: int, message: str, request_id: Id | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.id = request_id


class MessageTooLarge(MessageInvalid):
    """The bytes may be a message, but are beyond a bound."""

    def __init__(self, message: str) -> None:
        super().__init__(INVALID_REQUEST, message)


@dataclass(slots=True)
class RpcRequest:
    """A message that requires an answer."""

    id: Id
    method: str
    params: dict[str, Any]
    size: int = field(default=0, compare=False)
    hold: object = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class RpcNotification:
    """A message without an answer."""

    method: str
    params: dict[str, Any]
    size: int = field(default=0, compare=False)
    hold: object = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class RpcResponse:
    """An answer: exactly one of `result` and `error`. `id` is None where the sender could not read the request's.

    Of every kind of message, `size` is in bytes, 0 for a small one, and `hold` is its part of the budget for large
    messages, which the message keeps while it lives (`wire.large_messages`).
    """

    id: Id | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    size: int = field(default=0, compare=False)
    hold: object = field(default=None, compare=False, repr=False)


Message = RpcRequest | RpcNotification | RpcResponse


class MessageReader:
    """The steps from bytes to a message, read strictly. Large messages are read with pauses between the steps."""

    def decode(self, data: bytes | bytearray) -> str:
        """Return the text.

        Raises:
            JsonInvalid: The bytes are no text.
        """
        return decode_text(data)

    def parse(self, text: str) -> Any:
        """Return the value of the text.

        Raises:
            JsonInvalid: The text is no JSON that is read.
        """
        return parse_text(text)

    def check(self, value: Any, text: str) -> Any:
        """Return the checked value.

        Raises:
            JsonInvalid: The value is beyond a bound, or has a part that no JSON may have.
        """
        check_parsed(value, text)
        return value

    def read(self, value: Any) -> Message:
        """Return the message that the value is.

        Raises:
            MessageInvalid: The value is no message.
        """
        return read_message(value)

    def read_all(self, value: Any) -> list[Message]:
        """Return the messages that the value is, at least one; more are accepted from MCP servers only.

        Raises:
            MessageInvalid: The value is no message.
        """
        return [self.read(value)]


STRICT: Final = MessageReader()


def parse_message(data: bytes | bytearray, *, max_bytes: int = MAX_BODY) -> Message:
    """Parse one message of a client.

    Raises:
        MessageInvalid: It is not strict JSON or not one JSON-RPC 2.0 message.
        MessageTooLarge: It has more bytes.
    """
    [message] = parse_messages(data, max_bytes=max_bytes, reader=STRICT)
    return message


def parse_messages(data: bytes | bytearray, *, max_bytes: int, reader: MessageReader) -> list[Message]:
    """Parse one message, or several in one array where the reader accepts them.

    Raises:
        MessageInvalid: It is no message that the reader accepts.
        MessageTooLarge: It has more bytes.
    """
    if len(data) > max_bytes:
        raise MessageTooLarge(f"larger than {max_bytes} bytes")
    try:
        text = reader.decode(data)
        return reader.read_all(reader.check(reader.parse(text), text))
    except JsonInvalid as error:
        raise MessageInvalid(PARSE_ERROR, str(error)) from None


def read_message(value: Any) -> Message:
    """Return the message that a parsed value is.

    Raises:
        MessageInvalid: It is not one JSON-RPC 2.0 message.
    """
    if not isinstance(value, dict):
        raise MessageInvalid(INVALID_REQUEST, "must be one object (batches are not accepted)")
    readable_id = value["id"] if is_id(value.get("id")) else None
    if value.get("jsonrpc") != "2.0" or not value.keys() <= _KEYS:
        raise MessageInvalid(INVALID_REQUEST, "is not a JSON-RPC 2.0 message", readable_id)
    if "id" in value and readable_id is None and ("error" not in value or value["id"] is not None):
        raise MessageInvalid(INVALID_REQUEST, "id must be a string or an integer")
    return _request(value, readable_id) if "method" in value else _response(value, readable_id)


def is_id(value: Any) -> bool:
    """Return True if a value may be a request's id or a progress token: a bounded string or integer."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) <= _MAX_INTEGER
    return isinstance(value, str) and len(value) <= _MAX_ID


def dump_result(request_id: Id | None, result: Any) -> bytes:
    """Serialise an answer."""
    return dump_json({"jsonrpc": "2.0", "id": request_id, "result": result})


def dump_error(request_id: Id | None, code: int, message: str, data: Any = None) -> bytes:
    """Serialise an error answer; `request_id` is None where the request's could not be read."""
    error = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return dump_json({"jsonrpc": "2.0", "id": request_id, "error": error})


def dump_response(response: RpcResponse) -> bytes:
    """Serialise an answer of either kind."""
    if response.result is None:
        return dump_json({"jsonrpc": "2.0", "id": response.id, "error": response.error})
    return dump_result(response.id, response.result)


def dump_request(request_id: Id, method: str, params: dict[str, Any]) -> bytes:
    """Serialise a request."""
    return dump_json({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def dump_notification(method: str, params: dict[str, Any]) -> bytes:
    """Serialise a notification."""
    return dump_json({"jsonrpc": "2.0", "method": method, "params": params})


def _request(value: dict[str, Any], request_id: Id | None) -> RpcRequest | RpcNotification:
    method, params = value["method"], value.get("params", {})
    if "result" in value or "error" in value:
        raise MessageInvalid(INVALID_REQUEST, "is a request and a response at once", request_id)
    if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD:
        raise MessageInvalid(INVALID_REQUEST, f"method must be a string of 1 to {MAX_METHOD} characters", request_id)
    if not isinstance(params, dict):
        raise MessageInvalid(INVALID_REQUEST, "params must be an object", request_id)
    return RpcNotification(method, params) if request_id is None else RpcRequest(request_id, method, params)


def _response(value: dict[str, Any], response_id: Id | None) -> RpcResponse:
    result, error = value.get("result"), value.get("error")
    if "params" in value or "id" not in value or ("result" in value) == ("error" in value):
        raise MessageInvalid(INVALID_REQUEST, "is neither a request nor a response", response_id)
    if "result" in value and not isinstance(result, dict):
        raise MessageInvalid(INVALID_REQUEST, "result must be an object", response_id)
    if "error" in value and not (
        isinstance(error, dict) and type(error.get("code")) is int and isinstance(error.get("message"), str)
    ):
        raise MessageInvalid(INVALID_REQUEST, "error must have a code and a message", response_id)
    return RpcResponse(response_id, result, error)
