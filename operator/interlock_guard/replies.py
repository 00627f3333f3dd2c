"""What goes back to the agent: HTTP status and JSON-RPC body of every kind of answer. No I/O."""

from dataclasses import dataclass
from typing import Any, Final

from interlock_guard.bundle import Bundle
from interlock_guard.decide import TOOLS_CALL, TOOLS_LIST, Deny, Reason, may_list_tool
from interlock_guard.jsonrpc import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    REFUSED,
    Id,
    Request,
    Response,
    dump_error,
    dump_result,
)
from interlock_guard.mcp import HANDSHAKE_VERSIONS, UNSUPPORTED_VERSION, denied_result, filter_tools
from interlock_guard.strictjson import dump_json

_ERRORS: Final[dict[Reason, tuple[int, int]]] = {
    Reason.KILLED: (503, REFUSED),
    Reason.NO_BUNDLE: (503, REFUSED),
    Reason.STALE_STATE: (503, REFUSED),
    Reason.AGENT_MISMATCH: (503, REFUSED),
    Reason.SERVER_UNAVAILABLE: (503, REFUSED),
    Reason.UNKNOWN_SOURCE: (404, REFUSED),
    Reason.METHOD_NOT_ALLOWED: (200, METHOD_NOT_FOUND),
    Reason.BAD_REQUEST: (400, INVALID_REQUEST),
}
_CANCELLED: Final = -32000
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP status and the JSON-RPC message that is its body."""

    status: int
    body: bytes

    @property
    def is_answer(self) -> bool:
        """Whether it answers the request, rather than refusing to."""
        return self.status == _OK


def refuse(request_id: Id | None, denial: Deny, code: int | None = None) -> Reply:
    """Return an error with the denial's reason in `data`; `code` overrides the reason's JSON-RPC code."""
    status, usual_code = _ERRORS.get(denial.reason, (403, REFUSED))
    data = {"reason": denial.reason.value, "message": denial.message}
    return Reply(status, dump_error(request_id, code or usual_code, denial.message, data))


def deny(request: Request, denial: Deny) -> Reply:
    """Return the refusal of a request: what policy says is for the model to read, so it is a tool result."""
    for_model = denial.reason not in _ERRORS or denial.reason == Reason.SERVER_UNAVAILABLE
    if request.method == TOOLS_CALL and for_model:
        return Reply(_OK, dump_result(request.id, denied_result(denial)))
    return refuse(request.id, denial)


def answer(request: Request, response: Response, bundle: Bundle | None, source: str) -> Reply:
    """Return a server's answer under the client's id, lists without what the agent may not call."""
    if response.result is None:
        return Reply(_OK, dump_json({"jsonrpc": "2.0", "id": request.id, "error": response.error}))
    result = response.result
    if request.method == TOOLS_LIST:
        result = filter_tools(result, lambda name: bundle is not None and may_list_tool(bundle, source, name))
    return Reply(_OK, dump_result(request.id, result))


def refuse_version(request_id: Id, requested: Any) -> Reply:
    """Return the stateless era's answer for a version that is not spoken here; its clients then shake hands."""
    data = {"supported": list(HANDSHAKE_VERSIONS), "requested": requested}
    return Reply(400, dump_error(request_id, UNSUPPORTED_VERSION, "Unsupported protocol version", data))


def answer_cancelled() -> Response:
    """Return what ends the wait of a request that its client has cancelled."""
    return Response(None, None, {"code": _CANCELLED, "message": "The client cancelled the request."})
