"""An agent of LangGraph: one node asks the model, the other one calls the tools that it asked for."""

import asyncio
import json
import os
from pathlib import Path

from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

TASK = "Call back the first contact of eu-west: find it, and create a task for it."
SERVERS = json.loads(Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text())["mcpServers"]


def work(task: str) -> str:
    """Do a task, and return the model's last words."""
    return asyncio.run(_work(task))


async def _work(task: str) -> str:
    client = MultiServerMCPClient(
        {name: {"transport": "streamable_http", "url": server["url"]} for name, server in SERVERS.items()}
    )
    tools = await client.get_tools()
    model = ChatOpenAI(model="gpt-4o-mini").bind_tools(tools)

    async def call_model(state: MessagesState) -> dict:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("call_model", call_model)
    graph.add_node("tools", ToolNode(tools, handle_tool_errors=True))  # a denial goes to the model
    graph.add_edge(START, "call_model")
    graph.add_conditional_edges("call_model", tools_condition)
    graph.add_edge("tools", "call_model")
    result = await graph.compile().ainvoke({"messages": [("user", task)]})
    return result["messages"][-1].content


if __name__ == "__main__":
    print(work(TASK))
