"""The ids of A2A's tasks and contexts in requests and answers, of both bindings and of A2A 0.3 and 1.0. No I/O.

JSON-RPC    {"method": "SendMessage", "params": {"message": {"taskId": "t-1", "contextId": "c-1"}}}
            {"method": "tasks/get", "params": {"id": "t-1"}}
HTTP+JSON   POST /message:send {"message": {"contextId": "c-1"}}, GET /tasks/t-1, GET /tasks?contextId=c-1
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from interlock_guard.tasks.outcome_classifier import FAILED_STATE, FINAL_STATES, plain_state
from interlock_guard.tasks.refusals import TaskRefused, malformed

MAX_ID: Final = 256
"""Longest id in characters; a longer one is known to no guard."""
_PATH: Final = re.compile(r"(?:/[^/]+)*/tasks/([^/:]+)(?::[a-zA-Z]+|/pushNotificationConfigs(?:/[^/]+)?)?\Z")
_LIST: Final = re.compile(r"(?:/[^/]+)*/tasks\Z")
_WRAPPERS: Final = ("task", "statusUpdate", "artifactUpdate", "message")
_MAX_QUERY: Final = 64


@dataclass(frozen=True, slots=True)
class SeenTask:
    """What one message of an answer says of a task.

    Attributes:
        task: Id of the task; empty where the message names none.
        context: Id of its context; empty where the message names none.
        is_final: Whether its state is final; None where the message says none.
        has_failed: Whether its state is that of a failure of the agent.
    """

    task: str
    context: str
    is_final: bool | None
    has_failed: bool = False


def read_request_ids(target: str, body: Any) -> frozenset[str]:
    """Return the ids of tasks and contexts that a request is about; empty where it begins something new.

    Args:
        target: Path and query.
        body: The body as strict JSON; None where it is none or was not read.

    Raises:
        TaskRefused: The body names two ids in the two spellings of one member.
    """
    path, _, query = target.partition("?")
    found = {unquote(match[1]) for match in (_PATH.match(path),) if match is not None}
    if _LIST.match(path) is not None and query:
        try:
            pairs = parse_qsl(query, max_num_fields=_MAX_QUERY)
        except ValueError:
            pairs = []
        found |= {value for key, value in pairs if key in ("contextId", "context_id")}
    found |= set(_body_ids(body))
    return frozenset(one for one in found if 0 < len(one) <= MAX_ID)


def _body_ids(body: Any) -> Iterator[str]:
    if not isinstance(body, dict):
        return
    is_rpc = "jsonrpc" in body
    params = body.get("params") if is_rpc else body
    if not isinstance(params, dict):
        return
    message = params.get("message")
    for holder in (params, message if isinstance(message, dict) else {}):
        for camel, snake in (("taskId", "task_id"), ("contextId", "context_id")):
            one, other = holder.get(camel), holder.get(snake)
            if one is not None and other is not None and one != other:
                raise TaskRefused(malformed(f"The body names two ids, as {camel} and as {snake}."))
            value = one if one is not None else other
            if isinstance(value, str):
                yield value
    if is_rpc and isinstance(params.get("id"), str):
        yield params["id"]


def read_answer_ids(message: Any) -> SeenTask | None:
    """Return what one message of an answer says of a task; None where it is about none.

    Args:
        message: A body or an event, as strict JSON.
    """
    if isinstance(message, dict) and "jsonrpc" in message:
        message = message.get("result")
    for key in _WRAPPERS:
        if isinstance(message, dict) and isinstance(message.get(key), dict):
            message = message[key]
            break
    if not isinstance(message, dict):
        return None
    status = message.get("status")
    said = status.get("state") if isinstance(status, dict) else None
    state = plain_state(said) if isinstance(said, str) else None
    task = message.get("taskId") or (message.get("id") if isinstance(status, dict) else None)
    found = SeenTask(
        _text(task),
        _text(message.get("contextId")),
        None if state is None else state in FINAL_STATES,
        state == FAILED_STATE,
    )
    return found if found.task or found.context else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID else ""
