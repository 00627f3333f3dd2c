"""Why a task is not passed on to the agent, and what its caller is told. No I/O.

The answer is a JSON-RPC error, so that A2A clients read it as one; `error.data` has the stable reason for everybody.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_guard.decision.decide import Deny
from interlock_guard.wire.jsonrpc import INVALID_REQUEST, REFUSED, dump_error

MAX_BODY: Final = LISTENERS[ListenerName.TASKS].body_bytes
"""Largest body of a task in bytes."""
RETRY_SECONDS: Final = 10
"""When a caller that finds no room should come back."""


class TaskReason(StrEnum):
    """Why a task was refused, next to the reasons for which a guard is closed (`decide.Reason`); stable words."""

    BAD_REQUEST = "BadRequest"
    """Two HTTP parsers could read the request differently, or it asks for what is not spoken here."""
    NO_TASKS = "NoTasks"
    """The agent takes no tasks: its `spec.tasks` names no port."""
    BUDGET_EXHAUSTED = "BudgetExhausted"
    """The agent has no money left for calls of models until the next window of its budget."""
    OWN_POD = "OwnPod"
    """The caller is in the pod of the guard: an MCP server, or the agent itself."""
    TASK_TOO_LARGE = "TaskTooLarge"
    """The body is beyond the bound."""
    TOO_MANY_TASKS = "TooManyTasks"
    """As many tasks as the agent takes are under way, and others wait already or this one has waited long enough."""
    BODY_TIMED_OUT = "BodyTimedOut"
    """The caller did not send its body in time."""
    GAVE_UP = "GaveUp"
    """The caller hung up before its turn came."""
    AGENT_UNAVAILABLE = "AgentUnavailable"
    """No connection to the agent was made in time. Nothing of the task was sent."""
    BROKEN_OFF = "BrokenOff"
    """The agent ended the connection before its answer was whole."""
    BAD_ANSWER = "BadAnswer"
    """The agent's answer is not HTTP as it is spoken here, or its head is too large."""
    TIMED_OUT = "TimedOut"
    """The agent, or the placement that a task was passed on to, took longer than a task may."""
    OUT_OF_SCOPE = "OutOfScope"
    """The task names values that this placement does not serve, and no other one serves as a whole."""
    UNKNOWN_TASK = "UnknownTask"
    """Another guard asked for a task or context that was not begun here."""
    DRAINING = "Draining"
    """The placement is being taken away, and no other one serves the task."""
    PEER_UNAVAILABLE = "PeerUnavailable"
    """The placement that serves the task cannot be reached, or does not serve it yet."""


RECORDED: Final = frozenset({TaskReason.OUT_OF_SCOPE, TaskReason.DRAINING, TaskReason.PEER_UNAVAILABLE})
"""Refusals that have an audit record."""


@dataclass(frozen=True, slots=True)
class TaskRefusal:
    """What a caller is told instead of an answer.

    Attributes:
        status: The HTTP status.
        reason: One stable word, of `TaskReason` or `decide.Reason`.
        message: One sentence for the caller.
        retry_after: Seconds after which another try makes sense; None where the caller has to change something, or
            where that is unknown.
        ends_connection: The rest of what the caller sends cannot be told from another request.
        served_by: For a task out of scope, the placements that serve its values.
    """

    status: int
    reason: str
    message: str
    retry_after: int | None = None
    ends_connection: bool = False
    served_by: tuple[dict[str, Any], ...] | None = None

    @property
    def body(self) -> bytes:
        """The answer's body."""
        code = INVALID_REQUEST if self.reason == TaskReason.BAD_REQUEST else REFUSED
        data: dict[str, Any] = {"reason": str(self.reason), "message": self.message}
        if self.served_by is not None:
            data["servedBy"] = list(self.served_by)
        return dump_error(None, code, self.message, data)

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers, but for those that every answer has."""
        headers = {"Content-Type": "application/json"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return headers


class TaskRefused(Exception):  # noqa: N818 - says what became of a task
    """A task is not passed on."""

    def __init__(self, refusal: TaskRefusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def closed(denial: Deny) -> TaskRefusal:
    """Return what is said while the guard is closed for everything."""
    return TaskRefusal(503, denial.reason.value, denial.message)


def malformed(message: str, status: int = 400) -> TaskRefusal:
    """Return what is said of a request that two parsers could read differently, or that is not HTTP as spoken here."""
    return TaskRefusal(status, TaskReason.BAD_REQUEST, message, ends_connection=True)


def bad_answer(too_large: str) -> TaskRefusal:
    """Return what is said of an answer of the agent that cannot be passed on.

    Args:
        too_large: What of its head is too large; empty where it is not well-formed.
    """
    has = f"has {too_large}" if too_large else "is not well-formed HTTP/1.1"
    message = f"The agent's answer {has}, so it is not passed on; the agent may have done the task."
    return TaskRefusal(502, TaskReason.BAD_ANSWER, message)


def exhausted(seconds: int) -> TaskRefusal:
    """Return what is said while the budget is exhausted.

    Args:
        seconds: Until the next window begins.
    """
    message = f"The budget of the agent is exhausted; its next window begins in {seconds} s."
    return TaskRefusal(429, TaskReason.BUDGET_EXHAUSTED, message, retry_after=max(1, seconds))


NO_TASKS: Final = TaskRefusal(404, TaskReason.NO_TASKS, "This agent takes no tasks: its spec.tasks.port is not set.")
OWN_POD: Final = TaskRefusal(
    403,
    TaskReason.OWN_POD,
    "Callers in the pod of the guard, such as MCP servers and port-forwards, send no tasks: call the Service of the "
    "guard from another pod of the namespace.",
    ends_connection=True,
)
TOO_LARGE: Final = TaskRefusal(
    413, TaskReason.TASK_TOO_LARGE, f"The body of a task has at most {MAX_BODY} bytes: pass large data by reference."
)
TOO_MANY: Final = TaskRefusal(
    429,
    TaskReason.TOO_MANY_TASKS,
    "The agent has as many tasks as it takes at the same time, and others wait already: try again later.",
    retry_after=RETRY_SECONDS,
)
WAITED_TOO_LONG: Final = TaskRefusal(
    429,
    TaskReason.TOO_MANY_TASKS,
    "The agent has as many tasks as it takes at the same time, and none has ended in time: try again later.",
    retry_after=RETRY_SECONDS,
)
BODY_TIMED_OUT: Final = TaskRefusal(
    408, TaskReason.BODY_TIMED_OUT, "The body of the task did not arrive in time.", ends_connection=True
)
BROKEN_OFF: Final = TaskRefusal(
    502,
    TaskReason.BROKEN_OFF,
    "The agent ended the connection without an answer; how much of the task it has done is unknown.",
)
TIMED_OUT: Final = TaskRefusal(
    504, TaskReason.TIMED_OUT, "The agent has not answered in the time that a task may take; it may still be at work."
)
DRAINING: Final = TaskRefusal(
    503,
    TaskReason.DRAINING,
    "This placement of the agent is being taken away and takes no new tasks, and no other one serves this task yet.",
    retry_after=2,
)
UNKNOWN_TASK: Final = TaskRefusal(421, TaskReason.UNKNOWN_TASK, "No task or context of this id was begun here.")


def peer_unavailable(stage: str) -> TaskRefusal:
    """Return what is said of a task whose placement does not take it now.

    Args:
        stage: The stage of that placement.
    """
    message = f"Stage {stage!r} serves this task, and none of its guards takes it at the moment."
    return TaskRefusal(503, TaskReason.PEER_UNAVAILABLE, message, retry_after=2)


def peer_timed_out(stage: str) -> TaskRefusal:
    """Return what is said of a task whose placement took it and has not answered in time.

    Args:
        stage: The stage of that placement.
    """
    message = f"Stage {stage!r} took this task, and has not answered in the time of a task; it may still be at work."
    return TaskRefusal(504, TaskReason.TIMED_OUT, message)


def too_late(stage: str = "") -> TaskRefusal:
    """Return what is said of a task whose time was over before there was a connection.

    Args:
        stage: The stage of the placement that it was to be passed on to; empty for the guard's own agent.
    """
    where = f"stage {stage!r}" if stage else "the agent"
    message = f"The time that a task may take was over before {where} was reached. Nothing of the task was sent there."
    return TaskRefusal(504, TaskReason.TIMED_OUT, message)


def unavailable(seconds: float, tries: int, why: str) -> TaskRefusal:
    """Return what is said of a task whose agent was not reached.

    Args:
        seconds: How long it was tried.
        tries: How often it was tried.
        why: Sentences that say why the last try failed.
    """
    message = f"The agent was not reached within {seconds:.0f} s (tries: {tries}). {why} Nothing of the task was sent."
    return TaskRefusal(502, TaskReason.AGENT_UNAVAILABLE, message)
