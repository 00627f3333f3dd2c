"""Pins of servers that are not ours: what the verifier sees of them, as before any agent is attached."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from interlock_contract.bundle import (
    AgentIdentity,
    Bundle,
    BundlePrompt,
    BundleSource,
    BundleTool,
    Grant,
    Pin,
    ServerRequest,
)
from interlock_contract.http_target import HttpTarget
from interlock_contract.verification import VerificationPlan, VerificationResult
from interlock_guard.upstream.pipes import PipePair
from interlock_guard.upstream.sources import build_upstream
from interlock_guard.verification.verifier import verify
from tests.integration.guard.habits import kept_running
from tests.integration.guard.harness import SOURCE
from tests.support.pins import LearntPins

LEARN_SECONDS = 60.0
EVERY_QUESTION: tuple[ServerRequest, ...] = ("Sampling", "Elicitation", "Roots")
_GRANTS = (Grant("Binding", "b", ("*",), (), ()), Grant("Matrix", "m", ("*",), (), ()))


async def learn_on_pipes(
    command: list[str], folder: Path, questions: tuple[ServerRequest, ...] = EVERY_QUESTION
) -> LearntPins:
    """Run a server alone and return its pins, as listed to a client with these capabilities."""
    return _pins_of(await verify_on_pipes(command, folder, questions))


async def verify_on_pipes(
    command: list[str], folder: Path, questions: tuple[ServerRequest, ...] = EVERY_QUESTION
) -> VerificationResult:
    """Run a server alone, again after each end, and return what its verification finds."""
    PipePair(folder / "learning" / SOURCE).make()
    async with kept_running(folder / "learning" / SOURCE, command):
        return await _verify(BundleSource(SOURCE, "b", "stdio", (), _GRANTS, server_requests=questions), folder)


async def learn_over_http(target: HttpTarget, folder: Path) -> LearntPins:
    """Return pins of all tools and prompts of a server that runs."""
    return _pins_of(await _verify(BundleSource(SOURCE, "b", "http", (), _GRANTS, http=target), folder))


async def _verify(source: BundleSource, folder: Path) -> VerificationResult:
    source = replace(source, tools=(BundleTool("*", "read", "x"),), prompts=(BundlePrompt("*", "read", "x"),))
    bundle = Bundle(4, AgentIdentity("a", "n", "u"), "r", "s", "s", (), (source,))
    async with asyncio.timeout(LEARN_SECONDS):
        build: Callable[..., object] = lambda served, listener: build_upstream(  # noqa: E731
            served,
            listener,
            lambda _: None,
            pipes=folder / "learning",
            secrets=folder / "secrets",
            dialable=("127.0.0.1", "::1"),
            are_pipes_made=True,
        )
        return await verify(VerificationPlan("learning", SOURCE), bundle, build)  # type: ignore[arg-type]


def _pins_of(result: VerificationResult) -> LearntPins:
    assert result.tools, result
    tools, prompts = ((Pin(one.name, one.digest) for one in seen or ()) for seen in (result.tools, result.prompts))
    return LearntPins(tuple(tools), tuple(prompts))
