"""How what was allowed ended: one outcome for each record that let something pass."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from interlock_guard.audit.recorder import Recorder
from interlock_guard.decision.decide import Deny
from interlock_guard.downstream.capabilities import needs_input
from interlock_guard.downstream.sessions import NO_ANSWER
from interlock_guard.upstream.upstream import Call, Interrupted
from interlock_guard.wire.jsonrpc import RpcResponse

ABANDONED: Final = "Abandoned"
"""Nobody waited for the answer any more."""
ANSWERED: Final = "Answered"
"""There was a result."""
ERROR: Final = "Error"
"""There was an error as the answer."""
INPUT_REQUIRED: Final = "InputRequired"
"""The answer was a question; what follows on the client's answer is decided on anew."""
NOT_ASKED: Final = "NotAsked"
"""No client could be asked what the server may ask."""
TOOL_ERROR: Final = "ToolError"
"""There was a result in which the tool says that it failed."""


@dataclass(slots=True, eq=False)
class OpenRecord:
    """The record of something that was allowed, until its outcome is recorded; the first outcome stands.

    `seq` is the record's number; `monotonic` the clock by which its latency is measured.
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
        """Record how it ended, in one word."""
        if not self.is_complete:
            self.is_complete = True
            self.recorder.complete(self.seq, outcome, self.monotonic() - self._since)


def outcome_of(call: Call) -> str:
    """Return how a call ended: what its server answered, why there was no answer, or that nobody waits for it."""
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


def outcome_of_question(response: RpcResponse) -> str:
    """Return how a server's question ended: what its client answered, or that it did not."""
    if response.result is not None:
        return ANSWERED
    return ABANDONED if response.error == NO_ANSWER else ERROR
