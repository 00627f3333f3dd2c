"""An agent that answers questions about a stock of goods: tasks over HTTP, answered with the tools of an MCP server.

The rules in `plan` stand for your model or framework. The agent finds its server in an `mcpServers` file, as desktop
clients do. Of Interlock it knows nothing.
"""

import asyncio
import json
import os
import re
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mcp.client import Client
from mcp.types import TextContent

VERSION = 1
PORT = 8080  # spec.tasks.port of the Agent


def plan(question: str) -> tuple[str, dict[str, Any]]:
    """Return the tool that answers a question, and its arguments."""
    if order := re.search(r"reserve (\d+) (\w+?)s?\b", question):
        return "reserve", {"item": order[2], "pieces": int(order[1])}
    item = re.search(r"(\w+?)s?\W*$", question)
    return "stock_level", {"item": item[1] if item else question}


def server_url(source: str) -> str:
    """Return the URL of the server of a source in `spec.bindings` of the Agent."""
    config = json.loads(Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text(encoding="utf-8"))
    return str(config["mcpServers"][source]["url"])


async def answer(question: str) -> str:
    """Return what the server says, or why the call was denied: both are the text of the tool's result."""
    async with Client(server_url("stock")) as client:
        result = await client.call_tool(*plan(question.lower()))
    return " ".join(part.text for part in result.content if isinstance(part, TextContent))


class Tasks(BaseHTTPRequestHandler):
    """Each POST is one task: its body is a question."""

    def do_POST(self) -> None:
        """Answer one question."""
        question = self.rfile.read(int(self.headers["Content-Length"])).decode()
        body = f"version {VERSION}: {asyncio.run(answer(question))}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    # Process 1 of a container ignores SIGTERM unless it handles it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ThreadingHTTPServer(("0.0.0.0", PORT), Tasks).serve_forever()  # noqa: S104  # the guard is in another pod
