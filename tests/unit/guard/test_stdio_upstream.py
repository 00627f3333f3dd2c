"""A stdio server that is gone in the very moment in which its guard turns to it."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from interlock_guard.upstream.pipes import PipePair
from interlock_guard.upstream.stdio_upstream import StdioUpstream

GENERATIONS = 3
SECONDS = 10.0


class EndingServer(PipePair):
    """Pipes whose server lets go of its input between the guard's opening it and the guard's first word."""

    async def open_writer(self, *, is_wanted: Callable[[], bool]) -> int | None:
        reader = os.open(self.directory / "in", os.O_RDONLY | os.O_NONBLOCK)
        try:
            return await super().open_writer(is_wanted=is_wanted)
        finally:
            os.close(reader)


class Listener:
    """Ignores every event."""

    def client_capabilities(self, _: Any) -> dict[str, Any]:
        return {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_server_that_is_gone_before_the_first_word_is_waited_for_again(run: Any, tmp_path: Path) -> None:
    async def main() -> list[str]:
        said: list[str] = []
        again = asyncio.Event()

        def log(message: str) -> None:
            said.append(message)
            if message.endswith(f"generation {GENERATIONS} begins"):
                again.set()

        upstream = StdioUpstream("crm", EndingServer(tmp_path / "crm"), Listener(), log)
        upstream.open()
        serving = asyncio.create_task(upstream.run())
        async with asyncio.timeout(SECONDS):
            await again.wait()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return said

    said = run(main())
    assert said[1] == "server of crm: generation 1 is over: it no longer reads"
