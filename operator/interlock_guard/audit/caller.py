"""On whose behalf a request is made, as the request itself says it: task and trace. No I/O.

A claim of the agent, for finding what belongs together; nothing is decided by it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

TASK_KEY: Final = "interlock.dev/task"
"""Key of `params._meta` that names the task that the agent works on."""
TASK_HEADER: Final = "Interlock-Task"
"""The header that may say the same; `_meta` comes first."""
TRACE_KEY: Final = "traceparent"
"""Key of `params._meta` for the trace context, as MCP reserves it (SEP-414), and name of W3C's header."""

_MAX_TASK: Final = 256
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?\Z")
"""W3C Trace Context, section 3.2; a version that does not exist yet may add fields at the end."""
_NO_TRACE: Final = "0" * 32


@dataclass(slots=True)
class Caller:
    """The task and the trace that a request belongs to; empty where it names none."""

    task: str = ""
    trace: str = ""


UNKNOWN_CALLER: Final = Caller()
"""The caller of a request that names neither."""


def read_caller(meta: Any, headers: Mapping[str, str]) -> Caller:
    """Return what a request says of its caller: in `params._meta`, else in its headers; what is malformed is left out.

    Args:
        meta: `params._meta`, whatever it is.
        headers: The HTTP headers, case-insensitive.
    """
    said = meta if isinstance(meta, dict) else {}
    task = said.get(TASK_KEY, headers.get(TASK_HEADER, ""))
    trace = said.get(TRACE_KEY, headers.get(TRACE_KEY, ""))
    is_task = isinstance(task, str) and len(task) <= _MAX_TASK and task.isprintable()
    match = _TRACEPARENT.match(trace) if isinstance(trace, str) else None
    trace_id = "" if match is None or match.group(1) == _NO_TRACE else match.group(1)
    return Caller(task if is_task else "", trace_id)
