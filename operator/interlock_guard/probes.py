"""Probes and metrics, on every interface: they say how the guard is, and nothing of what passes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from interlock_guard.audit.recorder import Recorder
from interlock_guard.audit.shipper import AuditShipper
from interlock_guard.decision.decide import check_open
from interlock_guard.state import LiveState
from interlock_guard.tasks.endpoint import TaskEndpoint
from interlock_guard.upstream.sources import Sources

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSources:
    """The parts of the guard that there is something to say about."""

    live: LiveState
    sources: Sources
    recorder: Recorder
    shipping: AuditShipper
    tasks: TaskEndpoint


class ProbeServer:
    """Answers the kubelet and Prometheus."""

    def __init__(self, observed: ProbeSources, *, monotonic: Callable[[], float]) -> None:
        self._live, self._sources = observed.live, observed.sources
        self._recorder, self._shipping, self._tasks = observed.recorder, observed.shipping, observed.tasks
        self._monotonic = monotonic

    def build_runner(self) -> web.AppRunner:
        """Return the HTTP server, not started."""
        app = web.Application(client_max_size=1)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/startupz", self._startupz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/ready/{source}", self._ready_source)
        app.router.add_get("/metrics", self._metrics)
        return web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _startupz(self, _: web.Request) -> web.Response:
        """Started: the Agent was seen, dead or alive, and the bundle, whose pipes are made as it comes in."""
        seen = self._live.state.agent_uid is not None and self._live.bundle is not None
        return _verdict(None if seen else "the agent or its bundle has not been seen yet")

    async def _readyz(self, _: web.Request) -> web.Response:
        denial = check_open(self._live.bundle, self._live.state, self._monotonic())
        return _verdict(None if denial is None else denial.reason.value)

    async def _ready_source(self, http: web.Request) -> web.Response:
        upstream = self._sources.get(http.match_info["source"])
        if upstream is None:
            return web.Response(status=404, text="no such source\n")
        return _verdict(None if upstream.is_ready else "no handshake yet")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body="".join(f"{line}\n" for line in self._lines()), headers={"Content-Type": _METRICS_TYPE}
        )

    def _lines(self) -> list[str]:
        state, now = self._live.state, self._monotonic()
        is_open = check_open(self._live.bundle, state, now) is None
        age = -1 if state.contact_at is None else now - state.contact_at
        lines = [
            "# HELP interlock_guard_open Whether requests are decided on (1) or all refused (0).",
            "# TYPE interlock_guard_open gauge",
            f"interlock_guard_open {int(is_open)}",
            "# HELP interlock_guard_killed Whether the kill switch is on.",
            "# TYPE interlock_guard_killed gauge",
            f"interlock_guard_killed {int(state.kill.message is not None)}",
            "# HELP interlock_guard_state_age_seconds Age of what is known from the API server; -1 before anything is.",
            "# TYPE interlock_guard_state_age_seconds gauge",
            f"interlock_guard_state_age_seconds {age:.3f}",
            "# HELP interlock_guard_decisions_total Decisions, by outcome and reason.",
            "# TYPE interlock_guard_decisions_total counter",
        ]
        # Sources and reasons are words of ours, so no label needs escaping.
        lines += [
            f'interlock_guard_decisions_total{{decision="{verdict}",reason="{reason}",source="{source}"}} {count}'
            for (verdict, reason, source), count in sorted(self._recorder.counts.items())
        ]
        return lines + self._source_lines() + self._tasks.lines() + self._record_lines()

    def _source_lines(self) -> list[str]:
        upstreams = self._sources.all()
        return [
            "# HELP interlock_guard_calls_in_flight Calls under way in a source's server.",
            "# TYPE interlock_guard_calls_in_flight gauge",
            *(f'interlock_guard_calls_in_flight{{source="{one.source}"}} {one.in_flight}' for one in upstreams),
            "# HELP interlock_guard_server_generations_total Times that a source's server was taken up.",
            "# TYPE interlock_guard_server_generations_total counter",
            *(
                f'interlock_guard_server_generations_total{{source="{one.source}"}} {one.generation}'
                for one in upstreams
            ),
        ]

    def _record_lines(self) -> list[str]:
        figures = (
            ("unrecorded_total", "counter", "Denials, outcomes and tasks without a record.", self._recorder.unrecorded),
            ("spool_bytes", "gauge", "Records on the guard's own disk.", self._recorder.spool.used),
            ("spool_held_bytes", "gauge", "Records in memory, since the disk refuses them.", self._recorder.spool.held),
            ("shipped_total", "counter", "Records that the collector has confirmed.", self._shipping.shipped),
            ("shipping_stuck", "gauge", "Whether the collector refuses this guard's chain.", self._shipping.stuck),
        )
        return [
            line
            for name, kind, text, value in figures
            for line in (
                f"# HELP interlock_guard_audit_{name} {text}",
                f"# TYPE interlock_guard_audit_{name} {kind}",
                f"interlock_guard_audit_{name} {value:d}",
            )
        ]


def _verdict(trouble: str | None) -> web.Response:
    return web.Response(text="ok\n") if trouble is None else web.Response(status=503, text=f"{trouble}\n")
