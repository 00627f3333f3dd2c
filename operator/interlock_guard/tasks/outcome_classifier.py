"""How a task ended, as far as the agent's answer says it. No I/O.

HTTP alone says too little: A2A answers a task that failed with 200. So what passes is looked at, within bounds; what is
larger or compressed is judged by its status alone.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from interlock_contract.mcp import EVENT_STREAM
from interlock_contract.strict_json import JsonInvalid, parse_json
from interlock_guard.wire.streams import EventParser, EventTooLarge

LONGEST_LOOKED_AT: Final = 64 * 1024
"""Answers, and events of a stream, up to this size in bytes are looked at."""

_BAD_REQUEST, _SERVER_ERROR = 400, 500
_CALLERS_FAULT: Final = frozenset({-32700, -32600, -32601, -32602, -32001, -32002, -32003, -32004, -32005, -32007})
"""JSON-RPC's own codes and A2A's for what the caller got wrong: an unknown task, an unsupported operation."""
_ALSO_CALLERS_FAULT: Final = frozenset({-32008, -32009})  # A2A 1.0: extensions and versions
_JSON: Final = frozenset({"application/json", "application/a2a+json"})


class TaskOutcome(StrEnum):
    """How a task ended; stable words that metrics and records use.

    Where the guard cut it off, the word is the reason (`Killed`, `AgentMismatch`).
    """

    ANSWERED = "Answered"
    """There was an answer."""
    REJECTED = "Rejected"
    """The agent refused the request: a status of 4xx, an error of JSON-RPC that is the caller's, A2A's `rejected`."""
    FAILED = "Failed"
    """The agent failed: a status of 5xx, any other error of JSON-RPC, A2A's `failed`."""
    BROKEN_OFF = "BrokenOff"
    """The agent ended the connection before its answer was whole."""
    BAD_ANSWER = "BadAnswer"
    """The agent's answer is not HTTP as it is spoken here, or its head is too large."""
    AGENT_UNAVAILABLE = "AgentUnavailable"
    """No connection to the agent was made in time."""
    TIMED_OUT = "TimedOut"
    """The agent took longer than a task may."""
    CANCELLED = "Cancelled"
    """The caller hung up."""
    TOO_LARGE = "TaskTooLarge"
    """The body turned out to be beyond the bound."""
    GUARD_ENDED = "GuardEnded"
    """The guard itself was ended."""


FAILURES: Final = frozenset(
    {
        TaskOutcome.FAILED,
        TaskOutcome.BROKEN_OFF,
        TaskOutcome.BAD_ANSWER,
        TaskOutcome.AGENT_UNAVAILABLE,
        TaskOutcome.TIMED_OUT,
    }
)
"""What counts against the agent."""
OF_THE_AGENT: Final = FAILURES | {TaskOutcome.ANSWERED, TaskOutcome.REJECTED, TaskOutcome.CANCELLED}
"""How a task ends that the guard did not cut off: only these count for the gates of stages."""


def outcome_of_status(status: int) -> TaskOutcome:
    """Return what an HTTP status says."""
    if status >= _SERVER_ERROR:
        return TaskOutcome.FAILED
    return TaskOutcome.REJECTED if status >= _BAD_REQUEST else TaskOutcome.ANSWERED


class AnswerReader:
    """Looks at an answer as it passes, and says in the end what it came to.

    Args:
        status: The HTTP status.
        content_type: The media type, without parameters.
        is_coded: The body is compressed, so nothing is read in it.
        on_message: Called with each message of JSON in the answer.
    """

    def __init__(
        self,
        status: int,
        content_type: str,
        *,
        is_coded: bool,
        on_message: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self._on_message = on_message
        self._outcome = outcome_of_status(status)
        self.has_last_word = False
        """Whether the agent has said all that there is to say of the task; its answer may still be open."""
        is_open = self._outcome == TaskOutcome.ANSWERED and not is_coded
        self._events = EventParser(LONGEST_LOOKED_AT) if is_open and content_type == EVENT_STREAM else None
        self._text: bytearray | None = bytearray() if is_open and content_type in _JSON else None

    def feed(self, chunk: bytes) -> None:
        """Look at the next part of the answer."""
        if self._events is not None:
            self._feed_events(self._events, chunk)
        elif self._text is not None:
            self._text += chunk
            if len(self._text) > LONGEST_LOOKED_AT:
                self._text = None

    def finish(self) -> TaskOutcome:
        """Return what the answer came to, now that it is whole."""
        if self._text is not None:
            self._judge(bytes(self._text))
        return self._outcome

    def _feed_events(self, events: EventParser, chunk: bytes) -> None:
        try:
            for event in events.feed(chunk):
                self._judge(event.data)
        except EventTooLarge:
            self._events = None

    def _judge(self, text: bytes) -> None:
        try:
            message = parse_json(text)
        except JsonInvalid:
            return
        self._on_message(message)
        self._outcome = outcome_of_message(message) or self._outcome
        self.has_last_word = self.has_last_word or is_last_word(message)


def outcome_of_message(message: Any) -> TaskOutcome | None:
    """Return what one message of JSON-RPC or A2A says of how a task ended; None where it says nothing."""
    if not isinstance(message, dict):
        return None
    if "jsonrpc" in message:
        error = message.get("error")
        if isinstance(error, dict):
            code = error.get("code")
            is_callers = type(code) is int and code in _CALLERS_FAULT | _ALSO_CALLERS_FAULT
            return TaskOutcome.REJECTED if is_callers else TaskOutcome.FAILED
        message = message.get("result")
    return _STATES.get(_state_of(message))


def is_last_word(message: Any) -> bool:
    """Tell whether one message of A2A ends its task: a state that is final, or a message in place of a task."""
    if not isinstance(message, dict):
        return False
    if "jsonrpc" in message:
        message = message.get("result")
    result = message if isinstance(message, dict) else {}
    is_message = isinstance(result.get("message"), dict) or result.get("kind") == "message"
    return is_message or plain_state(_state_of(result)) in FINAL_STATES


FAILED_STATE: Final = "failed"
FINAL_STATES: Final = frozenset({"completed", FAILED_STATE, "rejected", "canceled", "cancelled"})
"""States after which a task no longer changes, as `plain_state` returns them."""


def plain_state(state: str) -> str:
    """Return a state of A2A 1.0 or 0.3 in one spelling: `TASK_STATE_WORKING` is `working`."""
    return state.lower().removeprefix("task_state_")


def _state_of(result: Any) -> str:
    """Return the state in a Task or a status update: bare in A2A 0.3, below a key that names it in 1.0."""
    found = result if isinstance(result, dict) else {}
    for key in ("task", "statusUpdate"):
        found = found[key] if isinstance(found.get(key), dict) else found
    status = found.get("status")
    state = status.get("state") if isinstance(status, dict) else None
    return state if isinstance(state, str) else ""


_STATES: Final = {
    "failed": TaskOutcome.FAILED,
    "TASK_STATE_FAILED": TaskOutcome.FAILED,
    "rejected": TaskOutcome.REJECTED,
    "TASK_STATE_REJECTED": TaskOutcome.REJECTED,
}
