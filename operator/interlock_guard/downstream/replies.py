"""Replies to the agent: HTTP status and JSON-RPC body of every kind of answer. No I/O.

Lists hold only what the agent may use, and a result has the form of the client's protocol version.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock_contract import mcp
from interlock_contract.strict_json import dump_json
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.upstream.forward import GUARD_INFO, server_request_params
from interlock_guard.wire.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REFUSED,
    Id,
    RpcRequest,
    RpcResponse,
    dump_error,
    dump_result,
)

DENIAL_META: Final = "interlock.dev/denial"
"""Key of a result's `_meta` that gives the reason for which the guard denied the call."""

_OWN_META: Final = "interlock.dev/"
"""Beginning of the keys of `_meta` that are the guard's own."""
_REASONS: Final[frozenset[str]] = frozenset(DenyReason)
_WITHOUT_RESULT: Final = frozenset({mcp.SUBSCRIBE, mcp.UNSUBSCRIBE})
"""Requests whose results are empty."""
WITHOUT_TEXT: Final = _WITHOUT_RESULT | frozenset(mcp.LISTS)
"""Requests whose errors pass without the server's text."""

_ERRORS: Final[dict[DenyReason, tuple[int, int]]] = {
    DenyReason.KILLED: (503, REFUSED),
    DenyReason.NO_BUNDLE: (503, REFUSED),
    DenyReason.BUNDLE_NOT_CONFIRMED: (503, REFUSED),
    DenyReason.POLICY_NOT_TESTED: (503, REFUSED),
    DenyReason.STALE_STATE: (503, REFUSED),
    DenyReason.AGENT_MISMATCH: (503, REFUSED),
    DenyReason.SERVER_UNAVAILABLE: (503, REFUSED),
    DenyReason.AUDIT_UNAVAILABLE: (503, REFUSED),
    DenyReason.UNKNOWN_SOURCE: (404, REFUSED),
    DenyReason.METHOD_NOT_ALLOWED: (200, METHOD_NOT_FOUND),
    DenyReason.BAD_REQUEST: (400, INVALID_REQUEST),
}
_CLOSED: Final = frozenset(
    {
        DenyReason.KILLED,
        DenyReason.NO_BUNDLE,
        DenyReason.BUNDLE_NOT_CONFIRMED,
        DenyReason.POLICY_NOT_TESTED,
        DenyReason.STALE_STATE,
        DenyReason.AGENT_MISMATCH,
    }
)
_STATUS_OF_ERROR: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    METHOD_NOT_FOUND: 404,
    mcp.HEADER_MISMATCH: 400,
    mcp.MISSING_CAPABILITY: 400,
    mcp.UNSUPPORTED_VERSION: 400,
}
"""HTTP statuses of errors in sessionless versions; any other error is answered with 200."""
_FOR_MODEL: Final = frozenset({DenyReason.SERVER_UNAVAILABLE, DenyReason.AUDIT_UNAVAILABLE})
_CANCELLED: Final = -32800  # LSP's RequestCancelled, which the official Python SDK's server answers with, too
_OK: Final = 200

LIST_TTL_MS: Final = 5000
"""How long a sessionless client may keep a list: short, so that a change of permissions is seen."""

MayShow = Callable[[str, Mapping[str, Any]], bool]
"""Returns True if an item may be shown, given its name, URI or URI template, and the whole of it."""

GiveCursor = Callable[[str], str]
"""Returns the guard's own cursor in place of a server's."""

_MAX_INPUT_REQUESTS: Final = 64
"""Requests for input in one answer: each one is recorded."""
_SESSIONLESS_KEYS: Final = ("resultType", "ttlMs", "cacheScope")
_MEDIA_TYPE: Final = re.compile(r"[a-z]{1,32}/[A-Za-z0-9.+-]{1,80}(; ?charset=[A-Za-z0-9-]{1,24})?\Z")
"""A media type that has no room for prose."""
_COMPLETE: Final = "complete"
_INPUT_REQUIRED: Final = "input_required"


@dataclass(slots=True)
class Reply:
    """An HTTP status and the JSON-RPC message that is its body.

    `closes` is set where the guard is closed: an answer that has begun is aborted. `hold` is the part of the budget for
    large messages that the body takes until it is sent.
    """

    status: int
    body: bytes
    closes: bool = False
    hold: object = None


@dataclass(slots=True)
class Form:
    """The form of an answer: the versions of client and server, and the contents of a list.

    Attributes:
        may_show: Decides on the items of a list.
        give_cursor: Replaces the cursor of a list.
        has_descriptions: Whether a list of resources shows the texts that its server wrote.
    """

    to_sessionless: bool
    from_sessionless: bool
    may_show: MayShow
    give_cursor: GiveCursor
    has_descriptions: bool = False


def refuse(request_id: Id | None, denial: Deny, code: int | None = None) -> Reply:
    """Return an error with the denial's reason in `data`; `code` overrides the reason's JSON-RPC code."""
    status, usual_code = _ERRORS.get(denial.reason, (_OK, REFUSED))
    data = {"reason": denial.reason.value, "message": denial.message}
    body = dump_error(request_id, code or usual_code, denial.message, data)
    return Reply(status, body, closes=denial.reason in _CLOSED)


def deny(request: RpcRequest, denial: Deny, *, to_sessionless: bool = False) -> Reply:
    """Return the refusal of a request. The policy's denial of a tool call is a tool result, which the model reads."""
    for_model = denial.reason not in _ERRORS or denial.reason in _FOR_MODEL
    if request.method == mcp.TOOLS_CALL and for_model:
        return _result(request, denied_result(denial), to_sessionless=to_sessionless)
    reply = refuse(request.id, denial)
    is_unknown = to_sessionless and denial.reason == DenyReason.METHOD_NOT_ALLOWED
    return Reply(404, reply.body) if is_unknown else reply


def denied_result(denial: Deny) -> dict[str, Any]:
    """Return a denial as a tool result that a model can act on."""
    return {
        "content": [{"type": "text", "text": denial.message}],
        "isError": True,
        "_meta": {DENIAL_META: {"reason": denial.reason.value, "rule": denial.rule}},
    }


def answer(request: RpcRequest, response: RpcResponse, form: Form) -> Reply:
    """Return a server's answer under the client's id; lists hold only what the agent may use."""
    if response.result is None:
        error = read_error(request.method, response.error or {})
        status = _STATUS_OF_ERROR.get(error.get("code", 0), _OK) if form.to_sessionless else _OK
        return Reply(status, dump_json({"jsonrpc": "2.0", "id": request.id, "error": error}))
    if not is_complete(response.result):
        denial = Deny(DenyReason.SERVER_UNAVAILABLE, "", "The server answered in a way that the guard does not know.")
        return deny(request, denial, to_sessionless=form.to_sessionless)
    result = _without_own_meta(response.result)
    if request.method in _WITHOUT_RESULT:
        result = {}
    elif request.method in mcp.LISTS:
        result = filter_list(request.method, result, form)
    if form.to_sessionless:
        return _result(request, result, to_sessionless=True)
    return Reply(_OK, dump_result(request.id, for_session_based(result, from_sessionless=form.from_sessionless)))


def read_error(method: str, error: dict[str, Any]) -> dict[str, Any]:
    """Return a server's error as its client may read it: without the marks of a denial, which only the guard gives.

    A list has no text of the server but what was verified, so neither has the error in place of a list.
    """
    code, data = error.get("code", 0), error.get("data")
    shown: dict[str, Any] = {"code": INTERNAL_ERROR if code == REFUSED else code}
    if method in WITHOUT_TEXT:
        return {**shown, "message": "The server answered with an error."}
    shown["message"] = error.get("message", "")
    reason = data.get("reason") if isinstance(data, dict) else None
    if data is not None and not (isinstance(reason, str) and reason in _REASONS):
        shown["data"] = data
    return shown


def _without_own_meta(result: dict[str, Any]) -> dict[str, Any]:
    """Return a server's result without keys of `_meta` that only the guard writes."""
    meta = result.get("_meta")
    if not isinstance(meta, dict) or not any(key.startswith(_OWN_META) for key in meta):
        return result
    return {**result, "_meta": {key: value for key, value in meta.items() if not key.startswith(_OWN_META)}}


def give(request: RpcRequest, result: dict[str, Any]) -> Reply:
    """Return a result as it is."""
    return Reply(_OK, dump_result(request.id, result))


def refuse_version(request_id: Id, requested: Any) -> Reply:
    """Return the sessionless answer to a protocol version that the guard does not speak."""
    supported = [*mcp.SESSION_VERSIONS, *mcp.SESSIONLESS_VERSIONS]
    data = {"supported": supported, "requested": requested}
    return Reply(400, dump_error(request_id, mcp.UNSUPPORTED_VERSION, "Unsupported protocol version", data))


def answer_cancelled() -> RpcResponse:
    """Return the outcome of a call that its client has cancelled."""
    return RpcResponse(None, None, {"code": _CANCELLED, "message": "The client cancelled the request."})


def _result(request: RpcRequest, result: dict[str, Any], *, to_sessionless: bool) -> Reply:
    return give(request, for_sessionless(request.method, result) if to_sessionless else result)


def filter_list(method: str, result: dict[str, Any], form: Form) -> dict[str, Any]:
    """Return the result of a request for a list with nothing in it but what may be shown, and the guard's cursor."""
    key, naming = mcp.LISTS[method]
    items = result.get(key)
    shown = [item for item in items if _may_show(item, naming, form.may_show)] if isinstance(items, list) else []
    if naming != "name" and not form.has_descriptions:
        shown = [without_descriptions(item, naming) for item in shown]
    filtered: dict[str, Any] = {key: shown}
    if isinstance(result.get("nextCursor"), str):
        filtered["nextCursor"] = form.give_cursor(result["nextCursor"])
    return filtered


def without_descriptions(item: Mapping[str, Any], naming: str) -> dict[str, Any]:
    """Return a resource, or a template, without the texts that its server wrote: the URI is its name too.

    Args:
        item: The item as its server lists it.
        naming: The key of its URI or URI template.
    """
    kept: dict[str, Any] = {naming: item[naming], "name": item[naming]}
    media_type, size = item.get("mimeType"), item.get("size")
    if isinstance(media_type, str) and _MEDIA_TYPE.match(media_type):
        kept["mimeType"] = media_type
    if type(size) is int:
        kept["size"] = size
    return kept


def is_complete(result: dict[str, Any]) -> bool:
    """Return True for a result that ends its call; servers of older versions do not mark theirs."""
    return bool(result.get("resultType", _COMPLETE) == _COMPLETE)


def needs_input(result: dict[str, Any] | None) -> bool:
    """Return True if a server answered with requests for input."""
    return result is not None and result.get("resultType") == _INPUT_REQUIRED


def for_session_based(result: dict[str, Any], *, from_sessionless: bool) -> dict[str, Any]:
    """Return a complete result as a session-based client reads it."""
    if not from_sessionless:
        return result
    adapted = {key: value for key, value in result.items() if key not in _SESSIONLESS_KEYS}
    if not isinstance(adapted.get("structuredContent", {}), dict):
        del adapted["structuredContent"]  # only an object, before 2026-07-28; the same is in `content` as text
    meta = adapted.get("_meta")
    if isinstance(meta, dict) and mcp.SERVER_INFO_META in meta:
        adapted["_meta"] = {key: value for key, value in meta.items() if key != mcp.SERVER_INFO_META}
    return adapted


def for_sessionless(method: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return a complete result as a sessionless client reads it."""
    meta = result.get("_meta")
    adapted = {
        **result,
        "resultType": _COMPLETE,
        "_meta": {**(meta if isinstance(meta, dict) else {}), mcp.SERVER_INFO_META: GUARD_INFO},
    }
    if method in mcp.CACHEABLE:
        ttl = result.get("ttlMs") if method == "resources/read" else LIST_TTL_MS
        adapted["ttlMs"] = min(max(ttl, 0), LIST_TTL_MS) if type(ttl) is int else 0
        adapted["cacheScope"] = "private"
    return adapted


def read_input_requests(result: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]] | None:
    """Return a server's requests for input as method and parameters by key, or None if they are malformed."""
    requests, state = result.get("inputRequests"), result.get("requestState")
    requests = {} if requests is None else requests
    if (
        not isinstance(requests, dict)
        or len(requests) > _MAX_INPUT_REQUESTS
        or not isinstance(state, str | None)
        or (not requests and state is None)
    ):
        return None
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for key, request in requests.items():
        match request:
            case {"method": str(method)} if method in mcp.SERVER_REQUESTS:
                params = request.get("params", {})
            case _:
                return None
        if not isinstance(params, dict):
            return None
        found[key] = method, server_request_params(params)
    return found


def input_required(requests: dict[str, Any], state: str | None) -> dict[str, Any]:
    """Return the result that puts a server's requests for input to a sessionless client."""
    result: dict[str, Any] = {"resultType": _INPUT_REQUIRED, "_meta": {mcp.SERVER_INFO_META: GUARD_INFO}}
    if requests:
        result["inputRequests"] = requests
    if state is not None:
        result["requestState"] = state
    return result


def _may_show(item: Any, naming: str, may_show: MayShow) -> bool:
    name = item.get(naming) if isinstance(item, dict) else None
    return isinstance(name, str) and may_show(name, item)
