"""Headers on their way to the agent and back: what belongs to one connection stays there. No I/O."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from multidict import CIMultiDict

from interlock_guard.audit.recorder import TASK_HEADER, TRACE_KEY

OWN_PREFIX: Final = "interlock-"
"""Headers that only the guard sets, towards the agent and towards the caller."""

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
"""RFC 9110, section 7.6.1, and what goes with an offer of HTTP/2."""
_FRAMING: Final = frozenset({"authorization", "content-length", "content-type", "expect", "host"})
_NO_LETTER: Final = re.compile(r"[^a-z0-9]")
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?\Z")
"""W3C Trace Context, section 3.2; a version that does not exist yet may add fields at the end."""
_STATE: Final = "tracestate"


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace that a task belongs to.

    Attributes:
        parent: The header `traceparent` as the agent gets it.
        is_new: It was made here, since the caller sent none that is valid; what it says of `tracestate` then is void.
    """

    parent: str
    is_new: bool = False

    @property
    def id(self) -> str:
        """The id of the trace, 32 hexadecimal digits."""
        return self.parent.split("-")[1]


def read_trace(parents: Iterable[str], fresh: str) -> Trace:
    """Return the caller's trace context, or a new one.

    Args:
        parents: Every `traceparent` that the caller sent.
        fresh: 48 hexadecimal digits of chance, of which a new context is made. It says "sampled", as the root of a
            trace does by OpenTelemetry's default: an agent that follows its parent would otherwise trace nothing.
    """
    found = list(parents)
    if len(found) == 1 and _is_valid(found[0]):
        return Trace(found[0])
    return Trace(f"00-{fresh[:32]}-{fresh[32:48]}-01", is_new=True)


def to_agent(headers: Mapping[str, str], task: str, trace: Trace) -> CIMultiDict[str]:
    """Return the headers that the agent gets: the caller's own but for those of the connection, and the guard's.

    Args:
        headers: The caller's, of which names may repeat.
        task: The task's id.
        trace: The task's trace.
    """
    dropped = {"expect", TRACE_KEY, *({_STATE} if trace.is_new else ())}
    found = CIMultiDict((name, value) for name, value in _end_to_end(headers) if name.lower() not in dropped)
    found[TRACE_KEY] = trace.parent
    found[TASK_HEADER] = task
    return found


def to_caller(headers: Mapping[str, str], task: str) -> CIMultiDict[str]:
    """Return the headers that the caller gets: the agent's own but for those of the connection, and the guard's."""
    found = CIMultiDict(_end_to_end(headers))
    found.setdefault("Server", "interlock-guard")
    found[TASK_HEADER] = task
    return found


def imitates(name: str) -> bool:
    """Return True if a server could take a header for another one that the guard sets or checks.

    CGI and WSGI make one variable of `Interlock-Task` and `Interlock_Task`, and some servers of any other sign.

    Args:
        name: The header's name.
    """
    lower = name.lower()
    folded = normalize_name(lower)
    return folded != lower and (folded.startswith(OWN_PREFIX) or folded in _FRAMING or folded in _HOP_BY_HOP)


def normalize_name(name: str) -> str:
    """Return the one name that servers which know no signs may make of a header's name in lower case."""
    return _NO_LETTER.sub("-", name)


def _end_to_end(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    named = {
        word.strip().lower()
        for name, value in headers.items()
        if name.lower() == "connection"
        for word in value.split(",")
    }
    for name, value in headers.items():
        lower = name.lower()
        is_framing = lower in ("content-length", "host")  # what says where a message ends is not for Connection to name
        is_ours = lower.startswith(OWN_PREFIX) or imitates(name)
        if lower not in _HOP_BY_HOP and not is_ours and (is_framing or lower not in named):
            yield name, value


def _is_valid(parent: str) -> bool:
    match = _TRACEPARENT.match(parent)
    if match is None or match[1] == "ff" or set(match[2]) == {"0"} or set(match[3]) == {"0"}:
        return False
    return match[1] != "00" or match[4] is None
