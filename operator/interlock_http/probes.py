"""The answers to kubelets and Prometheus, alike for all programs."""

from typing import Final

from aiohttp import web

from interlock_contract.exposition import CONTENT_TYPE

SHUTDOWN_SECONDS: Final = 0.1
"""How long a server of probes waits for requests under way when it closes."""


def respond_to_probe(problem: str | None) -> web.Response:
    """Return 200, or 503 with the problem.

    Args:
        problem: What is wrong, None while nothing is.
    """
    return web.Response(text="ok\n") if problem is None else web.Response(status=503, text=f"{problem}\n")


def respond_with_metrics(body: bytes) -> web.Response:
    """Return metrics in Prometheus' text format."""
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
