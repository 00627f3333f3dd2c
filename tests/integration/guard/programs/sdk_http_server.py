"""An MCP server of the official Python SDK over HTTP, for both protocols or only session-based; keeps each request."""

import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

port, protocol, seen = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
server = MCPServer("sdk")


@server.tool()
def add(left: int, right: int) -> int:
    """Add two numbers."""
    return left + right


@server.tool()
async def count(steps: int, context: Context[Any, Any]) -> str:
    """Count, and say how far."""
    for step in range(1, steps + 1):
        await context.report_progress(step, steps)
    return "counted"


@server.tool()
def secret() -> str:
    """Do what no binding maps."""
    raise AssertionError


app = server.streamable_http_app()


def note(entry: Any) -> None:
    with seen.open("a") as log:
        log.write(json.dumps(entry) + "\n")


async def recording(scope: Any, receive: Any, send: Any) -> None:
    """Keep every request's headers; with `session-based`, be a server of before 2026."""
    if scope["type"] == "http":
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        note({"method": scope["method"], "headers": headers})
        if protocol == "session-based" and headers.get("mcp-protocol-version", "") > "2026":
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"Bad Request: Unsupported protocol version"})
            return
    await app(scope, receive, send)


uvicorn.run(recording, host="127.0.0.1", port=port, log_level="warning")
