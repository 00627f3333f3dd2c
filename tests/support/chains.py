"""Chains of records as guards write them, made by hand."""

from typing import Any

from interlock_contract.audit_chain import Head, Line, open_line, seal

GUARD = "agents/triage-0123456789-abcde/0000000000000001"
NEXT_GUARD = "agents/triage-0123456789-abcde/0000000000000002"


class ChainWriter:
    """Writes one chain."""

    def __init__(self, guard: str = GUARD, agent: str = "triage") -> None:
        self.guard, self.agent = guard, agent
        self.head = Head()
        self.lines: list[bytes] = []

    def write(self, kind: str, **fields: Any) -> int:
        """Add a line; return its number."""
        time = fields.pop("time", f"2026-03-02T09:00:{self.head.next % 60:02d}.000Z")
        line, self.head = seal(self.guard, self.head, {"kind": kind, "time": time, **fields})
        self.lines.append(line)
        return self.head.next - 1

    def begin(self, previous: Line | None = None, **fields: Any) -> "ChainWriter":
        """Write the genesis."""
        named = None
        if previous is not None:
            named = {"guard": previous.guard, "seq": previous.seq, "hash": previous.hash, "time": previous.time}
        self.write("genesis", agent=self.agent, bundle="b" * 64, previous=named, **fields)
        return self

    def call(self, count: int = 1, **fields: Any) -> "ChainWriter":
        """Write allowed calls, each with its outcome."""
        for _ in range(count):
            decision = self.write("decision", agent=self.agent, decision="Allow", **fields)
            self.write("outcome", of=decision, outcome="Answered", latencySeconds=0.01, **fields)
        return self

    def deny(self, count: int = 1, **fields: Any) -> "ChainWriter":
        """Write denials."""
        for _ in range(count):
            self.write("decision", agent=self.agent, decision="Deny", **fields)
        return self

    @property
    def last(self) -> Line:
        """The last line."""
        return open_line(self.lines[-1])

    def text(self) -> bytes:
        """All lines, as in a file."""
        return b"".join(line + b"\n" for line in self.lines)
