"""One JSON line per decision, written out before anything is forwarded."""

import os
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

from interlock_guard.bundle import Bundle
from interlock_guard.decide import Allow, Decision, Deny, Request
from interlock_guard.strictjson import dump_json

STDOUT: Final = 1


class RecordFailed(Exception):  # noqa: N818 - says what happened to a record
    """The record could not be written, so the action must not happen."""


class Recorder:
    """Writes decision records to a file descriptor and counts them."""

    def __init__(self, agent: str, namespace: str, clock: Callable[[], datetime], descriptor: int = STDOUT) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """Decisions by (decision, reason, source); the source is empty where the bundle has none of that name."""
        self._agent, self._namespace = agent, namespace
        self._clock = clock
        self._descriptor = descriptor

    def record(self, bundle: Bundle | None, request: Request, decision: Decision) -> None:
        """Write one record; it has left the process when this returns.

        Raises:
            RecordFailed: The descriptor does not take it.
        """
        verdict, reason = ("Allow", "") if isinstance(decision, Allow) else ("Deny", decision.reason.value)
        line = dump_json(
            {
                "time": self._clock().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "agent": self._agent,
                "namespace": self._namespace,
                "revision": "" if bundle is None else bundle.revision,
                "stage": "" if bundle is None else bundle.stage,
                "source": request.source,
                "method": request.method,
                "tool": request.tool or "",
                "operation": "" if decision.tool is None else decision.tool.operation,
                "resource": "" if decision.tool is None else decision.tool.resource,
                "decision": verdict,
                "reason": reason,
                "rule": decision.rule,
                "message": decision.message if isinstance(decision, Deny) else "",
            }
        )
        self._write(line + b"\n")
        known = bundle is not None and any(source.name == request.source for source in bundle.sources)
        self.counts[verdict, reason, request.source if known else ""] += 1

    def _write(self, line: bytes) -> None:
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            raise RecordFailed(f"cannot write a record: {error.strerror}") from None
