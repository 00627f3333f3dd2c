"""An agent of AutoGen."""

import asyncio
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path

from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.tools.mcp import McpWorkbench, StreamableHttpServerParams

TASK = "Call back the first contact of eu-west: find it, and create a task for it."
SERVERS = json.loads(Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text())["mcpServers"]


def work(task: str) -> str:
    """Do a task, and return the model's last words."""
    return asyncio.run(_work(task))


async def _work(task: str) -> str:
    async with AsyncExitStack() as stack:
        benches = [
            await stack.enter_async_context(McpWorkbench(StreamableHttpServerParams(url=server["url"])))
            for server in SERVERS.values()
        ]
        model = OpenAIChatCompletionClient(model="gpt-4o-mini")
        agent = AssistantAgent("caller", model_client=model, workbench=benches, max_tool_iterations=10)
        result = await agent.run(task=task)
        await model.close()
        return result.messages[-1].to_text()


if __name__ == "__main__":
    print(work(TASK))
