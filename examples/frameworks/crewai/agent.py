"""An agent of CrewAI: a crew of one."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from crewai import Agent, Crew, Task
from crewai.mcp import MCPServerHTTP
from crewai.tools import BaseTool
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

TASK = "Call back the first contact of eu-west: find it, and create a task for it."
SERVERS = json.loads(Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text())["mcpServers"]


class Tool(BaseTool):
    """A tool of an MCP server, in place of CrewAI's own.

    The name of CrewAI's own has the URL in front and ends after 64 characters, so the model would see a part of the
    agent's key where the name of the tool should be. With Python 3.11, CrewAI 1.15 also loses its results.
    """

    url: str

    def _run(self, **arguments: Any) -> str:
        return asyncio.run(self._call(arguments))

    async def _call(self, arguments: dict[str, Any]) -> str:
        async with streamablehttp_client(self.url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            result = await session.call_tool(self.name, arguments)
        # A denial is a result with isError, whose text says why. It goes to the model like any other.
        return "\n".join(part.text for part in result.content if part.type == "text")


def work(task: str) -> str:
    """Do a task, and return the model's last words."""
    model = "openai/gpt-4o-mini"
    caller = Agent(role="Caller", goal="Work with a CRM", backstory="You call customers back.", llm=model)
    job = Task(description=task, expected_output="What was done", agent=caller)
    crew = Crew(agents=[caller], tasks=[job])  # from here on CrewAI prints no URLs
    job.tools = [
        Tool(name=one.original_tool_name, description=one.description, args_schema=one.args_schema, url=server["url"])
        for server in SERVERS.values()
        for one in caller.get_mcp_tools([MCPServerHTTP(url=server["url"])])
    ]
    return crew.kickoff().raw


if __name__ == "__main__":
    print(work(TASK))
