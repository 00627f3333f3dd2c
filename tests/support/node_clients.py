"""The official clients that are Node programs, each run once against one guard: the TypeScript SDK's, the inspector."""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.offspring import end_with_parent

PROGRAM = Path(__file__).parent / "mcp_clients" / "sdk_client.mjs"
CLIENT_SECONDS = 50.0
TOOL_ERROR = 5
"""The inspector's exit code for a result with `isError`, and for a tool that is not listed."""


@dataclass(frozen=True)
class NodeClients:
    """Where Node and its packages are, and a folder for what clients leave behind."""

    node: Path
    node_modules: Path
    home: Path

    async def inspect(self, url: str, *arguments: str) -> "Inspected":
        """Run the inspector's command line with a method and what belongs to it."""
        program = (self.node_modules / ".bin" / "mcp-inspector").resolve()
        command = (self.node, program, "--cli", url, "--transport", "http", "--method", *arguments)
        code, out = await self._run(*command)
        return Inspected(code, json.loads(out or b"{}"))

    async def run_sdk(self, url: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        """List the tools and make some calls with the TypeScript SDK's client; return what it saw."""
        code, out = await self._run(self.node, PROGRAM, self.node_modules.parent, url, json.dumps(calls))
        assert code == 0
        seen: dict[str, Any] = json.loads(out)
        return seen

    async def _run(self, *command: Path | str) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, "HOME": str(self.home)},
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=end_with_parent,
        )
        async with asyncio.timeout(CLIENT_SECONDS):
            out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out


@dataclass(frozen=True)
class Inspected:
    """What the inspector's CLI had to say; without a result it has printed none."""

    code: int
    result: dict[str, Any]
