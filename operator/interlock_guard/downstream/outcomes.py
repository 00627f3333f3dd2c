"""Outcomes: how each allowed request ended, recorded once for each record of an `Allow`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from interlock_guard.audit.recorder import Recorder
from interlock_guard.decision.decide import Deny
from interlock_guard.downstream.results import needs_input
from interlock_guard.downstream.sessions import NO_ANSWER
from interlock_guard.upstream.upstream import Call, Interrupted
from interlock_guard.wire.jsonrpc import RpcResponse

ABANDONED: Final = "Abandoned"
"""The answer was no longer waited for."""
ANSWERED: Final = "Answered"
"""There was a result."""
ERROR: Final = "Error"
"""There was an error as the answer."""
INPUT_REQUIRED: Final = "InputRequired"
"""The server required input; the call with the input is decided on again."""
NOT_ASKED: Final = "NotAsked"
"""No client could be given the request that the server may send."""
TOOL_ERROR: Final = "ToolError"
"""There was a result in which the tool reports that it failed."""


@dataclass(slots=True, eq=False)
class OpenRecord:
    """The record of an allowed request until its outcome is recorded; the first outcome stands.

    Attributes:
        recorder: Stores the outcome.
        seq: The record's number.
        monotonic: The clock that the latency is measured by, in seconds.
        is_complete: Whether the outcome is recorded.
    """

    recorder: Recorder
    seq: int
    monotonic: Callable[[], float]
    is_complete: bool = False
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin to measure."""
        self._since = self.monotonic()

    def complete(self, outcome: str) -> None:
        """Record the outcome, one stable word."""
        if not self.is_complete:
            self.is_complete = True
            self.recorder.complete(self.seq, outcome, self.monotonic() - self._since)


def outcome_of(call: Call) -> str:
    """Return how a call ended: by its server's answer, by a denial, or abandoned."""
    if not call.future.done() or call.future.cancelled():
        return ABANDONED
    outcome = call.future.result()
    if isinstance(outcome, Interrupted):
        return ABANDONED
    if isinstance(outcome, Deny):
        return outcome.reason.value
    if outcome.result is None:
        return ERROR
    if needs_input(outcome.result):
        return INPUT_REQUIRED
    return TOOL_ERROR if outcome.result.get("isError") is True else ANSWERED


def outcome_of_server_request(response: RpcResponse) -> str:
    """Return how a server's request ended: with its client's answer, or without one."""
    if response.result is not None:
        return ANSWERED
    return ABANDONED if response.error == NO_ANSWER else ERROR
