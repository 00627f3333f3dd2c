"""The answers to kubelets and Prometheus, alike for all programs."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from interlock_contract.exposition import CONTENT_TYPE

SHUTDOWN_SECONDS: Final = 0.1
"""How long a server of probes waits for requests under way when it closes."""


def build_probe_app(
    *,
    metrics: Callable[[], bytes],
    unready: Callable[[], str | Awaitable[str | None] | None] | None = None,
    unhealthy: Callable[[], str | None] = lambda: None,
) -> web.Application:
    """Return the HTTP application with /healthz, /readyz and /metrics.

    Args:
        metrics: Returns the metrics in Prometheus' text format.
        unready: Returns what keeps the program from its work, None while nothing does. Without it there is no /readyz.
        unhealthy: Returns what only a restart can end, None while there is nothing.
    """

    async def healthz(_: web.Request) -> web.Response:
        return respond_to_probe(unhealthy())

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", show_metrics)
    if unready is not None:
        find_problem = unready

        async def readyz(_: web.Request) -> web.Response:
            problem = unhealthy() or find_problem()
            return respond_to_probe(await problem if inspect.isawaitable(problem) else problem)

        app.router.add_get("/readyz", readyz)
    return app


def respond_to_probe(problem: str | None) -> web.Response:
    """Return 200, or 503 with the problem.

    Args:
        problem: What is wrong, None while nothing is.
    """
    return web.Response(text="ok\n") if problem is None else web.Response(status=503, text=f"{problem}\n")
