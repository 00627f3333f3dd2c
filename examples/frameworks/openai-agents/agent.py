"""An agent of the OpenAI Agents SDK."""

import asyncio
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path

from agents import Agent, Runner
from agents.mcp import MCPServerStreamableHttp

TASK = "Call back the first contact of eu-west: find it, and create a task for it."
SERVERS = json.loads(Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text())["mcpServers"]


def work(task: str) -> str:
    """Do a task, and return the model's last words."""
    return asyncio.run(_work(task))


async def _work(task: str) -> str:
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(MCPServerStreamableHttp({"url": server["url"]}, name=name))
            for name, server in SERVERS.items()
        ]
        agent = Agent("caller", instructions="You work with a CRM.", model="gpt-4o-mini", mcp_servers=servers)
        result = await Runner.run(agent, task)
        return result.final_output


if __name__ == "__main__":
    print(work(TASK))
