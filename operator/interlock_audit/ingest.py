"""A guard's batch, taken apart: lines of one chain that follow on each other, of nobody but this guard. No I/O."""

from typing import Final

from interlock_audit.reviewer import Identity, agent_of
from interlock_audit.stores import Batch, Received
from interlock_contract.audit_chain import LineInvalid, open_line, parse_guard

MAX_BATCH: Final = 1024 * 1024
"""Largest batch in bytes."""


class BatchInvalid(ValueError):  # noqa: N818 - says the state of a batch
    """It is no batch; the message says why, `seq` at which line where that is known."""

    def __init__(self, message: str, seq: int | None = None) -> None:
        super().__init__(message)
        self.seq = seq


class NotYours(Exception):  # noqa: N818 - says the state of a batch
    """The records are of another guard or agent than the one that brings them."""


def read_batch(body: bytes, identity: Identity, *, received: str, lost: int | None) -> Batch:
    """Take a batch apart.

    Args:
        body: Lines, each with its end.
        identity: Who brings it.
        received: The time.
        lost: From which number on lines are lost, as the guard declares.

    Raises:
        BatchInvalid: A line is damaged, or does not follow on the one before it.
        NotYours: The lines are not the bringer's own.
    """
    if not body.endswith(b"\n"):
        raise BatchInvalid("there is no line, or half a line at the end")
    lines = [_received(text) for text in body[:-1].split(b"\n")]
    first = lines[0].line
    guard = parse_guard(first.guard)
    agent = agent_of(identity, guard)
    if agent is None:
        raise NotYours(f"{identity.user} (pod {', '.join(identity.pods) or 'unknown'}) brings records of {first.guard}")
    head = None
    for received_line in lines:
        line = received_line.line
        if line.guard != first.guard or (head is not None and (line.seq, line.prev) != (head.next, head.hash)):
            raise BatchInvalid("a line does not follow on the one before it", line.seq)
        if line.fields.get("agent", agent) != agent:
            raise NotYours(f"{identity.user} brings records of the agent {line.fields['agent']!r}")
        head = line.head
    return Batch(guard.namespace, agent, lines, received, lost)


def _received(text: bytes) -> Received:
    try:
        line = open_line(text)
    except LineInvalid as error:
        raise BatchInvalid(f"a line is damaged: {error}") from None
    return Received(text.decode(), line)
