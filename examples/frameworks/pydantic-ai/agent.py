"""An agent of Pydantic AI."""

import json
import os
from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset

TASK = "Call back the first contact of eu-west: find it, and create a task for it."
SERVERS = json.loads(Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text())["mcpServers"]


def work(task: str) -> str:
    """Do a task, and return the model's last words."""
    # A denial goes to the model as a failed call. By default it would count as a retry, of which there is one.
    tools = [MCPToolset(server["url"], id=name, tool_error_behavior="failed") for name, server in SERVERS.items()]
    return Agent("openai-chat:gpt-4o-mini", toolsets=tools).run_sync(task).output


if __name__ == "__main__":
    print(work(TASK))
