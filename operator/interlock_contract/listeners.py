"""The table of all TCP listeners: how much each one takes from all its peers, and from one of them. No I/O.

`interlock_http` enforces the rows. A listener that has no row here cannot be opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_KIB: Final = 1024
_MIB: Final = 1024 * 1024


class ListenerName(StrEnum):
    """The listeners of Interlock's programs."""

    AGENT = "agent"
    """The guard's port 7410: MCP and models, for the agent."""
    OBSERVE = "observe"
    """Port 7411 of the guard and of the notifier: probes and metrics."""
    TASKS = "tasks"
    """The guard's port 7412: tasks for the agent."""
    AUDIT = "audit"
    """The collector's port 7420: audit records, from guards and for readers."""
    TELEMETRY = "telemetry"
    """Probes and metrics of operator and kill controller (port 8080) and of the collector (port 7421)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a listener takes.

    Attributes:
        connections: Most open connections.
        connections_per_peer: Most open connections of one address.
        head_seconds: Most seconds from the first byte of a request (of the first one: from the connection) to the end
            of its head.
        idle_seconds: Most seconds between two requests of a connection.
        request_seconds: Most seconds from a request's head to the end of its response; None where streams and calls
            may last.
        body_seconds: Most seconds from a request's head to the end of a body that is read whole.
        fields: Most header fields of a request.
        field_bytes: Longest header field.
        body_bytes: Largest body.
        head_bytes: Most bytes of one head, and of trailers or pipelined requests behind one request.
        head_bytes_in_flight: Most bytes of heads, incomplete or of requests under way, and of pipelined requests.
        bytes_in_flight: Most bytes of bodies whose requests are under way.
    """

    connections: int
    connections_per_peer: int
    head_seconds: float = 10
    idle_seconds: float = 75
    request_seconds: float | None = None
    body_seconds: float = 30
    fields: int = 64
    field_bytes: int = 8190
    head_bytes: int = 32 * _KIB
    head_bytes_in_flight: int
    body_bytes: int
    bytes_in_flight: int


_PROBES: Final = Bounds(
    connections=128,
    connections_per_peer=32,  # one kubelet probes a guard and up to 16 MCP servers of its pod
    head_seconds=5,
    request_seconds=10,
    fields=32,
    field_bytes=4 * _KIB,
    head_bytes=8 * _KIB,
    head_bytes_in_flight=1 * _MIB,
    body_bytes=1,
    bytes_in_flight=1 * _MIB,
)

LISTENERS: Final[Mapping[ListenerName, Bounds]] = {
    ListenerName.AGENT: Bounds(
        connections=512,
        connections_per_peer=384,  # in a shared pod the agent and its guard's MCP servers are one peer, 127.0.0.1
        head_bytes_in_flight=4 * _MIB,
        body_bytes=4 * _MIB,
        bytes_in_flight=128 * _MIB,  # that are received, bodies for models too: budgets of the guard are smaller
    ),
    ListenerName.OBSERVE: _PROBES,
    ListenerName.TASKS: Bounds(
        connections=3072,
        connections_per_peer=2560,  # 512 tasks, four that wait for each, and control requests: one gateway sends all
        fields=128,  # gateways and meshes add theirs
        field_bytes=64 * _KIB,  # tokens and cookies of callers, as much as the usual proxies take
        head_bytes=128 * _KIB,
        head_bytes_in_flight=8 * _MIB,
        body_bytes=16 * _MIB,
        bytes_in_flight=8 * _MIB,  # short bodies, which are read before they are routed: all others pass through
    ),
    ListenerName.AUDIT: Bounds(
        connections=1024,
        connections_per_peer=16,  # a guard sends one batch at a time
        idle_seconds=30,
        request_seconds=60,
        head_bytes_in_flight=8 * _MIB,
        body_bytes=1 * _MIB,
        bytes_in_flight=32 * _MIB,
    ),
    ListenerName.TELEMETRY: _PROBES,
}
