"""Probes and metrics, on a port of their own: they say how the collector is, and nothing of what it holds."""

from typing import Final

from aiohttp import web

from interlock_audit.store_executor import StoreExecutor
from interlock_audit.stores import StoreUnavailable
from interlock_contract.exposition import CONTENT_TYPE, join_lines, render_family

_TEXTS: Final = {
    "stored_total": "Records taken in.",
    "repeated_total": "Records that were brought again.",
    "gaps_total": "Batches refused since records before them were missing.",
    "holes_total": "Times that a guard declared records as lost, which the collector had lost.",
    "forks_total": "Batches refused since other records of that number are kept: somebody wrote a chain twice.",
    "pruned_total": "Records taken out since they were kept long enough.",
    "unavailable_total": "Times that the database could not do what it was asked for.",
}


class Telemetry:
    """Answers the kubelet and Prometheus."""

    def __init__(self, keeper: StoreExecutor) -> None:
        self._keeper = keeper

    def build_runner(self) -> web.AppRunner:
        """Return the HTTP server, not started."""
        app = web.Application(client_max_size=1)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        try:
            await self._keeper.check()
        except StoreUnavailable as error:
            return web.Response(status=503, text=f"{error}\n")
        return web.Response(text="ok\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        counts = self._keeper.counts
        lines = []
        for name, text in _TEXTS.items():
            lines += render_family(f"interlock_audit_{name}", "counter", text, [("", counts[name])])
        # The counter's keys carry the label already: refused_total{error="..."}.
        refused = [(name.removeprefix("refused_total"), count) for name, count in sorted(counts.items()) if "{" in name]
        text = "Requests that were not answered, by error."
        lines += render_family("interlock_audit_refused_total", "counter", text, refused)
        return web.Response(body=join_lines(lines), headers={"Content-Type": CONTENT_TYPE})
