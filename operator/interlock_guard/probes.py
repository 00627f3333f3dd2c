"""Probes and metrics, on every interface: the guard's own condition, and nothing of the requests that pass it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiohttp import web

from interlock_contract.exposition import Metric, join_lines
from interlock_contract.listeners import ListenerName
from interlock_contract.pod import PRE_STOP_PATH
from interlock_guard.audit.recorder import Recorder
from interlock_guard.audit.shipper import AuditShipper
from interlock_guard.decision.decide import check_open
from interlock_guard.pre_stop import PreStop
from interlock_guard.state import LiveState
from interlock_guard.upstream.sources import Sources
from interlock_http.listener import BoundedListener
from interlock_http.probes import build_probe_app, respond_to_probe

OPEN: Final = Metric("interlock_guard_open", "gauge", "1 while requests are decided on, 0 while all are refused.")
KILLED: Final = Metric("interlock_guard_killed", "gauge", "1 while the agent is killed.")
STATE_AGE: Final = Metric(
    "interlock_guard_state_age_seconds", "gauge", "Age of the last answer of the API server, -1 before the first one."
)
DECISIONS: Final = Metric(
    "interlock_guard_decisions_total", "counter", "Decisions on requests.", ("decision", "reason", "source")
)
CALLS: Final = Metric("interlock_guard_calls_in_flight", "gauge", "Open calls of MCP servers.", ("source",))
GENERATIONS: Final = Metric(
    "interlock_guard_server_generations_total", "counter", "Initializations of MCP servers.", ("source",)
)
DROPPED: Final = Metric(
    "interlock_guard_server_messages_dropped_total",
    "counter",
    "Messages of MCP servers that were not MCP, or answered no request.",
    ("source",),
)
UNRECORDED: Final = Metric(
    "interlock_guard_audit_unrecorded_total", "counter", "Denials, outcomes and tasks without an audit record."
)
SPOOL: Final = Metric("interlock_guard_audit_spool_bytes", "gauge", "Bytes of audit records on the guard's disk.")
SPOOL_HELD: Final = Metric(
    "interlock_guard_audit_spool_held_bytes",
    "gauge",
    "Bytes of audit records in memory that the disk refuses.",
)
SHIPPED: Final = Metric(
    "interlock_guard_audit_shipped_total", "counter", "Audit records that the collector has confirmed."
)
STUCK: Final = Metric(
    "interlock_guard_audit_shipping_stuck", "gauge", "1 while the collector refuses the guard's chain of audit records."
)
CLOSED: Final = Metric(
    "interlock_guard_connections_closed_total", "counter", "Connections that a bound has closed.", ("listener",)
)


class ProbeServer:
    """Answers the kubelet and Prometheus."""

    def __init__(
        self,
        *,
        live: LiveState,
        sources: Sources,
        recorder: Recorder,
        shipping: AuditShipper,
        metrics: Sequence[Callable[[], list[str]]],
        pre_stop: PreStop,
        listeners: Mapping[ListenerName, BoundedListener],
        monotonic: Callable[[], float],
    ) -> None:
        self._live, self._sources = live, sources
        self._recorder, self._shipping, self._more = recorder, shipping, metrics
        self._pre_stop = pre_stop
        self._listeners, self._monotonic = listeners, monotonic

    def build_app(self) -> web.Application:
        """Return the HTTP application."""
        app = build_probe_app(metrics=lambda: join_lines(self._lines()), unready=self._unready)
        app.router.add_get("/startupz", self._startupz)
        app.router.add_get("/ready/{source}", self._ready_source)
        app.router.add_get(PRE_STOP_PATH, self._pre_stop.answer, allow_head=False)
        return app

    async def _startupz(self, http: web.Request) -> web.Response:
        """Started: the Agent was seen, dead or alive, and the bundle, whose pipes are made as it comes in."""
        self._pre_stop.note_start_probe(http.remote)
        seen = self._live.state.agent_uid is not None and self._live.bundle is not None
        return respond_to_probe(None if seen else "the agent or its bundle has not been seen yet")

    def _unready(self) -> str | None:
        denial = check_open(self._live.bundle, self._live.state, self._monotonic())
        return None if denial is None else denial.reason.value

    async def _ready_source(self, http: web.Request) -> web.Response:
        upstream = self._sources.get(http.match_info["source"])
        if upstream is None:
            return web.Response(status=404, text="no such source\n")
        return respond_to_probe(None if upstream.is_ready else "the MCP server is not initialized yet")

    def _lines(self) -> list[str]:
        state, now = self._live.state, self._monotonic()
        is_open = check_open(self._live.bundle, state, now) is None
        age = -1 if state.contact_at is None else now - state.contact_at
        return [
            *OPEN.render(int(is_open)),
            *KILLED.render(int(state.kill.message is not None)),
            *STATE_AGE.render(f"{age:.3f}"),
            *DECISIONS.render_by(sorted(self._recorder.counts.items())),
            *self._source_lines(),
            *(line for lines in self._more for line in lines()),
            *self._record_lines(),
            *CLOSED.render_by(((name,), one.closed) for name, one in self._listeners.items()),
        ]

    def _source_lines(self) -> list[str]:
        upstreams = self._sources.all()
        return [
            *CALLS.render_by(((one.source,), one.in_flight) for one in upstreams),
            *GENERATIONS.render_by(((one.source,), one.generation) for one in upstreams),
            *DROPPED.render_by(((one.source,), one.dropped.count) for one in upstreams),
        ]

    def _record_lines(self) -> list[str]:
        recorder, spool, shipper = self._recorder, self._recorder.spool, self._shipping
        return [
            *UNRECORDED.render(recorder.unrecorded),
            *SPOOL.render(spool.used),
            *SPOOL_HELD.render(spool.held),
            *SHIPPED.render(shipper.shipped),
            *STUCK.render(int(shipper.stuck)),
        ]
