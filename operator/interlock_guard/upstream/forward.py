"""A client's request, parsed and built again for the server, so that only understood parts pass. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from interlock_contract import mcp
from interlock_contract.version import VERSION
from interlock_guard.decision.decide import DecisionInput
from interlock_guard.upstream.upstream import ServerInfo
from interlock_guard.wire.jsonrpc import INVALID_PARAMS, Id, MessageInvalid, RpcRequest, is_id

GUARD_INFO: Final = {"name": "interlock-guard", "version": VERSION}

_MAX_NAME: Final = 1024
_MAX_URI: Final = 8192
_MAX_TRACE: Final = 8192
_MAX_SUBSCRIPTIONS: Final = 256
_PROGRESS_KEYS: Final[dict[str, tuple[type, ...]]] = {
    "progress": (int, float),
    "total": (int, float),
    "message": (str,),
}


@dataclass(slots=True)
class Forward(DecisionInput):
    """A client's request, taken apart: the input of its decision, and what goes out to the server.

    `params` are without `_meta`. `input_responses` and `request_state` give a sessionless server the input that it
    required. `is_large` says that its arguments are worked on in steps. `sent_arguments` are those of the client, where
    the guard has added to them.
    """

    params: dict[str, Any] = field(default_factory=dict)
    progress_token: Id | None = None
    trace: dict[str, str] = field(default_factory=dict)
    input_responses: dict[str, Any] | None = None
    request_state: str | None = None
    is_large: bool = False
    sent_arguments: Mapping[str, Any] | None = None

    def replace_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Send other arguments to the server than those of the client, which are kept."""
        self.sent_arguments = self.client_arguments
        self.arguments = arguments
        self.params = {**self.params, "arguments": arguments}

    def take_arguments(self, before: "Forward") -> None:
        """Take the arguments, and what is known of them, from the same request before."""
        self.sent_arguments, self.arguments, self.params = before.sent_arguments, before.arguments, before.params
        self.arguments_digest = before.arguments_digest

    @property
    def client_arguments(self) -> Mapping[str, Any] | None:
        """The arguments as the client sent them."""
        return self.arguments if self.sent_arguments is None else self.sent_arguments

    @property
    def answers_questions(self) -> bool:
        """Whether this repeats a request that a server had answered with questions."""
        return self.input_responses is not None or self.request_state is not None


def read_forward(source: str, request: RpcRequest, *, is_sessionless: bool = False) -> Forward:
    """Take a request of a method that has a reader apart.

    Raises:
        MessageInvalid: A parameter is unknown, missing or of the wrong type.
    """
    params = request.params
    responses, state = None, None
    if is_sessionless and request.method in mcp.MAY_ASK:
        responses, state = _read_answers(request)
        params = {key: value for key, value in params.items() if key not in {"inputResponses", "requestState"}}
    reader = _READERS[request.method]
    read = reader(request, params)
    token, trace = _read_meta(request)
    return Forward(
        source,
        request.method,
        **read,
        progress_token=token,
        trace=trace,
        input_responses=responses,
        request_state=state,
        is_large=request.hold is not None,
    )


def build_params(
    forward: Forward, server_info: ServerInfo, capabilities: dict[str, Any], log_level: str | None = None
) -> dict[str, Any]:
    """Return the parameters as they go out to a server of either kind of protocol version, but for the progress token.

    Args:
        forward: The request.
        server_info: The server.
        capabilities: What the server may ask of its client, for a server of a sessionless version.
        log_level: From which level on such a server is to report what it logs; None for nothing.
    """
    meta: dict[str, Any] = dict(forward.trace)
    params = forward.params
    if server_info.is_sessionless:
        meta |= sessionless_meta(server_info.version, capabilities)
        if log_level is not None:
            meta[mcp.LOG_LEVEL_META] = log_level
        if forward.answers_questions:
            params = {**params, **_answers(forward)}
    return {**params, "_meta": meta} if meta else params


def sessionless_meta(version: str, capabilities: dict[str, Any]) -> dict[str, Any]:
    """Return what every request to a server of a sessionless version carries in its `_meta`."""
    return {
        mcp.VERSION_META: version,
        mcp.CLIENT_INFO_META: GUARD_INFO,
        mcp.CLIENT_CAPABILITIES_META: capabilities,
    }


def progress_params(params: dict[str, Any], token: Id) -> dict[str, Any]:
    """Return a server's progress under the client's own token, with nothing in it but progress."""
    return {"progressToken": token} | {
        key: params[key] for key, kinds in _PROGRESS_KEYS.items() if isinstance(params.get(key), kinds)
    }


def without_meta(params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters or a result without `_meta`."""
    return {key: value for key, value in params.items() if key != "_meta"}


def server_request_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a server's request for its client, without what the client is not to be asked for."""
    return {key: value for key, value in params.items() if key not in ("_meta", mcp.WITHHELD)}


def read_listen(request: RpcRequest) -> dict[str, Any]:
    """Return what a `subscriptions/listen` asks for: keys of `methods.LISTS_CHANGED`, and `resourceSubscriptions`.

    Kinds of extensions are left out: the acknowledgement says what is honoured.

    Raises:
        MessageInvalid: It is malformed.
    """
    wanted = request.params.get("notifications")
    if not isinstance(wanted, dict) or not request.params.keys() <= {"notifications", "_meta"}:
        raise _invalid(request, "takes notifications and _meta")
    uris = wanted.get("resourceSubscriptions") or []
    if not isinstance(uris, list) or len(uris) > _MAX_SUBSCRIPTIONS or not all(_is_text(uri, _MAX_URI) for uri in uris):
        raise _invalid(request, f"takes at most {_MAX_SUBSCRIPTIONS} URIs as resourceSubscriptions")
    kinds = {key: True for key in mcp.LISTS_CHANGED.values() if wanted.get(key) is True}
    return {**kinds, "resourceSubscriptions": list(dict.fromkeys(uris))}


def _answers(forward: Forward) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    if forward.input_responses is not None:
        answers["inputResponses"] = forward.input_responses
    if forward.request_state is not None:
        answers["requestState"] = forward.request_state
    return answers


def _read_answers(request: RpcRequest) -> tuple[dict[str, Any] | None, str | None]:
    responses, state = request.params.get("inputResponses"), request.params.get("requestState")
    if not isinstance(state, str | None):
        raise _invalid(request, "takes a string as requestState")
    if responses is None:
        return None, state
    if not isinstance(responses, dict) or not all(isinstance(value, dict) for value in responses.values()):
        raise _invalid(request, "takes results by key as inputResponses")
    return {key: without_meta(value) for key, value in responses.items()}, state


def _read_meta(request: RpcRequest) -> tuple[Id | None, dict[str, str]]:
    if "_meta" not in request.params:
        return None, {}
    meta = request.params["_meta"]
    if not isinstance(meta, dict):
        raise _invalid(request, "takes an object as _meta")
    token = meta.get("progressToken")
    if token is not None and not is_id(token):
        raise _invalid(request, "takes a string or an integer as progressToken")
    trace = {key: meta[key] for key in mcp.TRACE_META if _is_text(meta.get(key), _MAX_TRACE)}
    return token, trace


def _read_call(request: RpcRequest, params: dict[str, Any]) -> dict[str, Any]:
    name, arguments = params.get("name"), params.get("arguments", {})
    if not _is_text(name, _MAX_NAME) or not isinstance(arguments, dict) or not params.keys() <= _NAMED_KEYS:
        raise _invalid(request, "takes name, arguments and _meta")
    return {"params": {"name": name, "arguments": arguments}, "tool": name, "arguments": arguments}


def _read_prompt(request: RpcRequest, params: dict[str, Any]) -> dict[str, Any]:
    name, arguments = params.get("name"), params.get("arguments", {})
    if not _is_text(name, _MAX_NAME) or not _is_strings(arguments) or not params.keys() <= _NAMED_KEYS:
        raise _invalid(request, "takes name, arguments (strings) and _meta")
    return {"params": {"name": name, "arguments": arguments}, "prompt": name, "arguments": arguments}


def _read_list(request: RpcRequest, params: dict[str, Any]) -> dict[str, Any]:
    cursor = params.get("cursor")
    if not params.keys() <= _LIST_KEYS or not isinstance(cursor, str | None):
        raise _invalid(request, "takes cursor and _meta")
    return {"params": {} if cursor is None else {"cursor": cursor}}


def _read_resource(request: RpcRequest, params: dict[str, Any]) -> dict[str, Any]:
    uri = params.get("uri")
    if not _is_text(uri, _MAX_URI) or not params.keys() <= _URI_KEYS:
        raise _invalid(request, "takes uri and _meta")
    return {"params": {"uri": uri}, "uri": uri}


def _read_completion(request: RpcRequest, params: dict[str, Any]) -> dict[str, Any]:
    argument: Any = params.get("argument")
    context = params.get("context")
    read = _read_reference(params.get("ref"))
    if (
        read is None
        or not params.keys() <= _COMPLETION_KEYS
        or not (_is_strings(argument) and argument.keys() == {"name", "value"})
        or not _is_context(context)
    ):
        raise _invalid(request, "takes ref, argument (name, value), context (arguments) and _meta")
    rebuilt = {"ref": read.pop("ref"), "argument": argument}
    if "uri" in read:
        known = {} if context is None else context.get("arguments", {})
        read["arguments"] = {**known, argument["name"]: argument["value"]}
    return {**read, "params": rebuilt if context is None else {**rebuilt, "context": context}}


def _read_reference(ref: Any) -> dict[str, Any] | None:
    match ref:
        case {"type": "ref/prompt", "name": str(name)} if 0 < len(name) <= _MAX_NAME:
            return {"ref": {"type": "ref/prompt", "name": name}, "prompt": name}
        case {"type": "ref/resource", "uri": str(uri)} if 0 < len(uri) <= _MAX_URI:
            return {"ref": {"type": "ref/resource", "uri": uri}, "uri": uri}
    return None


def _is_context(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, dict) and value.keys() <= {"arguments"} and _is_strings(value.get("arguments", {}))


def _is_text(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest


def _is_strings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _invalid(request: RpcRequest, what: str) -> MessageInvalid:
    return MessageInvalid(INVALID_PARAMS, f"{request.method} {what}", request.id)


_NAMED_KEYS: Final = frozenset({"name", "arguments", "_meta"})
_LIST_KEYS: Final = frozenset({"cursor", "_meta"})
_URI_KEYS: Final = frozenset({"uri", "_meta"})
_COMPLETION_KEYS: Final = frozenset({"ref", "argument", "context", "_meta"})
_READERS: Final[dict[str, Callable[[RpcRequest, dict[str, Any]], dict[str, Any]]]] = {
    mcp.TOOLS_CALL: _read_call,
    "prompts/get": _read_prompt,
    "completion/complete": _read_completion,
    "resources/read": _read_resource,
    mcp.SUBSCRIBE: _read_resource,
    mcp.UNSUBSCRIBE: _read_resource,
    **dict.fromkeys(mcp.LISTS, _read_list),
}
