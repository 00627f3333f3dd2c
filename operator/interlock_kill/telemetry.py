"""The kill controller's own metrics, and its HTTP endpoint. No label takes a value that users write."""

from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

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

_SHUTDOWN_SECONDS: Final = 0.1

Problem = Callable[[], str | None]


def build_runner(is_alive: Problem, is_ready: Problem) -> web.AppRunner:
    """Return the HTTP server with /healthz, /readyz and /metrics, not started.

    Args:
        is_alive: Returns what only a restart can end, None while there is nothing.
        is_ready: Returns what keeps kills from being carried out, None while there is nothing.
    """

    async def healthz(_: web.Request) -> web.Response:
        return _answer(is_alive())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(is_alive() or is_ready())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(client_max_size=1)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)


def _answer(problem: str | None) -> web.Response:
    return web.Response(text="ok\n") if problem is None else web.Response(status=503, text=f"{problem}\n")
