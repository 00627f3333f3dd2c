"""The parser of a guard's batch: consecutive lines of one chain, from this guard only. No I/O."""

from interlock_audit.reviewer import Identity, agent_of
from interlock_audit.stores import Batch, Received
from interlock_contract.audit_chain import LineInvalid, open_line, parse_guard, read_previous


class BatchInvalid(ValueError):  # noqa: N818 - says the state of a batch
    """The batch is invalid. The message says why, `seq` at which line if that is known."""

    def __init__(self, message: str, seq: int | None = None) -> None:
        super().__init__(message)
        self.seq = seq


class NotYours(Exception):  # noqa: N818 - says the state of a batch
    """The records belong to another guard or agent than the sender."""


def read_batch(body: bytes, identity: Identity, *, received: str, lost: int | None) -> Batch:
    """Return a batch, parsed and checked.

    Args:
        body: Lines, each with its line break.
        identity: The sender.
        received: The time, as records spell it.
        lost: The first number that the guard declares as lost, up to the first line of the batch.

    Raises:
        BatchInvalid: A line is damaged, or does not continue the line before.
        NotYours: The lines belong to another guard or agent.
    """
    if not body.endswith(b"\n"):
        raise BatchInvalid("the batch has no line, or ends with half a line")
    lines = [_received(text) for text in body[:-1].split(b"\n")]
    first = lines[0].line
    guard = parse_guard(first.guard)
    agent = agent_of(identity, guard)
    if agent is None:
        raise NotYours(
            f"{identity.user} (pod {', '.join(identity.pods) or 'unknown'}) must not send records of {first.guard}"
        )
    head = None
    for received_line in lines:
        line = received_line.line
        if line.guard != first.guard or (head is not None and (line.seq, line.prev) != (head.next, head.hash)):
            raise BatchInvalid("a line does not continue the line before", line.seq)
        if line.fields.get("agent", agent) != agent:
            raise NotYours(f"{identity.user} must not send records of another agent than {agent}")
        try:
            read_previous(line)
        except LineInvalid as error:
            raise BatchInvalid(str(error), line.seq) from None
        head = line.head
    return Batch(guard.namespace, agent, lines, received, lost)


def _received(text: bytes) -> Received:
    try:
        line = open_line(text)
    except LineInvalid as error:
        raise BatchInvalid(f"a line is damaged: {error}") from None
    return Received(text.decode(), line)
