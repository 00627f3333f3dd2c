"""An agent that takes tasks: it waits, computes and calls tools as a task says, and answers with its version.

On SIGTERM it takes the tasks of two more seconds, until guards know that it goes, finishes what it has, and ends.

Environment variables:
    VERSION: what it answers with. `broken`: it fails every task.
    ON_SIGTERM: `end` ends it immediately instead, with the tasks that it has.
"""

import asyncio
import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mcp.client import Client
from mcp.types import TextContent

VERSION = os.environ["VERSION"]
SERVERS = json.loads(Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text())["mcpServers"]
PORT = 8080
LATE_SECONDS = 2.0


def outcome(result: Any) -> str:
    """Return how a call ended: allowed, or the reason of its denial."""
    if not result.is_error:
        return "allowed"
    reasons = [
        value["reason"] for value in (result.meta or {}).values() if isinstance(value, dict) and "reason" in value
    ]
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    return str((reasons or texts)[0])


async def call(calls: list[tuple[str, dict[str, str]]]) -> list[str]:
    """Make some calls; return how each of them ended."""
    async with Client(SERVERS["crm"]["url"], read_timeout_seconds=20) as client:
        return [outcome(await client.call_tool(tool, arguments)) for tool, arguments in calls]


class Worker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        task = json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        async def work() -> list[str]:
            end = time.monotonic() + float(task.get("busy", 0))
            while time.monotonic() < end:
                pass
            await asyncio.sleep(float(task.get("seconds", 0)))
            return await call(task["calls"]) if "calls" in task else []

        body = json.dumps({"version": VERSION, "calls": asyncio.run(work())}).encode()
        self.send_response(500 if VERSION == "broken" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing of each request."""


server = ThreadingHTTPServer(("0.0.0.0", PORT), Worker)  # noqa: S104 - a pod's own
server.daemon_threads = False
if os.environ.get("ON_SIGTERM") == "end":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
else:
    signal.signal(signal.SIGTERM, lambda *_: threading.Timer(LATE_SECONDS, server.shutdown).start())
server.serve_forever(poll_interval=0.05)
server.server_close()  # waits for the tasks
