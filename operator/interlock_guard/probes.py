"""Probes and metrics, on every interface: the guard's own condition, and nothing of the requests that pass it."""

from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web

from interlock_contract.exposition import join_lines, render_family, render_labels
from interlock_contract.listeners import ListenerName
from interlock_guard.audit.recorder import Recorder
from interlock_guard.audit.shipper import AuditShipper
from interlock_guard.decision.decide import check_open
from interlock_guard.downstream.callers import Callers
from interlock_guard.state import LiveState
from interlock_guard.tasks.endpoint import TaskEndpoint
from interlock_guard.upstream.sources import Sources
from interlock_http.listener import BoundedListener
from interlock_http.probes import respond_to_probe, respond_with_metrics

_PREFIX: Final = "interlock_guard_"


class ProbeServer:
    """Answers the kubelet and Prometheus."""

    def __init__(
        self,
        *,
        live: LiveState,
        sources: Sources,
        recorder: Recorder,
        shipping: AuditShipper,
        tasks: TaskEndpoint,
        callers: Callers,
        listeners: Mapping[ListenerName, BoundedListener],
        monotonic: Callable[[], float],
    ) -> None:
        self._live, self._sources = live, sources
        self._recorder, self._shipping, self._tasks = recorder, shipping, tasks
        self._callers, self._listeners, self._monotonic = callers, listeners, monotonic

    def build_app(self) -> web.Application:
        """Return the HTTP application."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/startupz", self._startupz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/ready/{source}", self._ready_source)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        return respond_to_probe(None)

    async def _startupz(self, _: web.Request) -> web.Response:
        """Started: the Agent was seen, dead or alive, and the bundle, whose pipes are made as it comes in."""
        seen = self._live.state.agent_uid is not None and self._live.bundle is not None
        return respond_to_probe(None if seen else "the agent or its bundle has not been seen yet")

    async def _readyz(self, _: web.Request) -> web.Response:
        denial = check_open(self._live.bundle, self._live.state, self._monotonic())
        return respond_to_probe(None if denial is None else denial.reason.value)

    async def _ready_source(self, http: web.Request) -> web.Response:
        upstream = self._sources.get(http.match_info["source"])
        if upstream is None:
            return web.Response(status=404, text="no such source\n")
        return respond_to_probe(None if upstream.is_ready else "the MCP server is not initialized yet")

    async def _metrics(self, _: web.Request) -> web.Response:
        return respond_with_metrics(join_lines(self._lines()))

    def _lines(self) -> list[str]:
        state, now = self._live.state, self._monotonic()
        is_open = check_open(self._live.bundle, state, now) is None
        age = -1 if state.contact_at is None else now - state.contact_at
        decisions = [
            (render_labels(decision=verdict, reason=reason, source=source), count)
            for (verdict, reason, source), count in sorted(self._recorder.counts.items())
        ]
        return [
            *_gauge("open", "Whether requests are decided on (1) or all refused (0).", int(is_open)),
            *_gauge("killed", "Whether the kill switch is on.", int(state.kill.message is not None)),
            *_gauge(
                "state_age_seconds",
                "Age of what is known from the API server; -1 before anything is.",
                f"{age:.3f}",
            ),
            *render_family(f"{_PREFIX}decisions_total", "counter", "Decisions, by outcome and reason.", decisions),
            *self._source_lines(),
            *self._tasks.lines(),
            *self._callers.lines(),
            *self._record_lines(),
            *render_family(
                f"{_PREFIX}connections_closed_total",
                "counter",
                "Connections that a bound has closed, by listener.",
                [(render_labels(listener=name), one.closed) for name, one in self._listeners.items()],
            ),
        ]

    def _source_lines(self) -> list[str]:
        upstreams = self._sources.all()
        return [
            *render_family(
                f"{_PREFIX}calls_in_flight",
                "gauge",
                "Calls under way in a source's server.",
                [(render_labels(source=one.source), one.in_flight) for one in upstreams],
            ),
            *render_family(
                f"{_PREFIX}server_generations_total",
                "counter",
                "Times that a source's server was initialized.",
                [(render_labels(source=one.source), one.generation) for one in upstreams],
            ),
            *render_family(
                f"{_PREFIX}server_messages_dropped_total",
                "counter",
                "Messages of a source's server that were no MCP, or answered no request.",
                [(render_labels(source=one.source), one.dropped.count) for one in upstreams],
            ),
        ]

    def _record_lines(self) -> list[str]:
        recorder, spool, shipper = self._recorder, self._recorder.spool, self._shipping
        return [
            *_counter("audit_unrecorded_total", "Denials, outcomes and tasks without a record.", recorder.unrecorded),
            *_gauge("audit_spool_bytes", "Records on the guard's own disk.", spool.used),
            *_gauge("audit_spool_held_bytes", "Records in memory, since the disk refuses them.", spool.held),
            *_counter("audit_shipped_total", "Records that the collector has confirmed.", shipper.shipped),
            *_gauge("audit_shipping_stuck", "Whether the collector refuses this guard's chain.", int(shipper.stuck)),
        ]


def _gauge(name: str, text: str, value: int | str) -> list[str]:
    return render_family(f"{_PREFIX}{name}", "gauge", text, [("", value)])


def _counter(name: str, text: str, value: int) -> list[str]:
    return render_family(f"{_PREFIX}{name}", "counter", text, [("", value)])
