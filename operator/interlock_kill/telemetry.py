"""The kill controller's own metrics, and its HTTP endpoint. No label takes a value that users write."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import Counter, Gauge, Histogram, generate_latest

from interlock_http.probes import respond_to_probe, respond_with_metrics

KILLS = Counter("interlock_kills_total", "Kill switches that were engaged.")
AGENTS_KILLED = Gauge("interlock_agents_killed", "Agents whose kill switch is engaged.")
KILL_SECONDS = Histogram(
    "interlock_kill_zero_pods_seconds",
    "Seconds from observing an engaged kill switch until no pod of the agent was left.",
    buckets=(0.5, 1, 2, 3, 5, 10, 30, 60),
)
RELABELLED_PODS = Counter(
    "interlock_relabelled_pods_total", "Pods that were deleted because their label interlock.dev/agent was changed."
)

Problem = Callable[[], str | None]


def build_app(is_alive: Problem, is_ready: Problem) -> web.Application:
    """Return the HTTP application with /healthz, /readyz and /metrics.

    Args:
        is_alive: Returns what only a restart can end, None while there is nothing.
        is_ready: Returns what keeps kills from being carried out, None while there is nothing.
    """

    async def healthz(_: web.Request) -> web.Response:
        return respond_to_probe(is_alive())

    async def readyz(_: web.Request) -> web.Response:
        return respond_to_probe(is_alive() or is_ready())

    async def metrics(_: web.Request) -> web.Response:
        return respond_with_metrics(generate_latest())

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app
