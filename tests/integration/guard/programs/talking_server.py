"""A stdio MCP server that logs messages of almost 1 MiB all the time.

With an argument it writes as much as it can: `short` messages, `garbage` that is none, or `halves` of surrogate pairs.
"""

import json
import sys
import threading
import time
from typing import Any

TEXT = "x" * (1024 * 1024 - 1000)
lock = threading.Lock()


def send(message: dict[str, Any]) -> None:
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def talk() -> None:
    if sys.argv[1:]:
        flood(FLOODS[sys.argv[1]])
    while True:
        send({"method": "notifications/message", "params": {"level": "error", "data": TEXT}})
        time.sleep(0.1)


NOTE = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":%s}}\n'
FLOODS = {
    "short": NOTE % "1" * 1000,
    "garbage": '{"level":"error","data":1} DEBUG: a line of a log\n' * 1000,
    "halves": NOTE % ('"' + 150_000 * "\\ud83c" + '"'),
}


def flood(lines: str) -> None:
    while True:
        with lock:
            sys.stdout.write(lines)
            sys.stdout.flush()


for line in sys.stdin:
    message = json.loads(line)
    match message.get("method"):
        case "initialize":
            info = {"name": "talking", "version": "1"}
            version = message["params"]["protocolVersion"]
            result = {"protocolVersion": version, "capabilities": {"tools": {}, "logging": {}}, "serverInfo": info}
            send({"id": message["id"], "result": result})
        case "notifications/initialized":
            threading.Thread(target=talk, daemon=True).start()
        case "tools/list":
            send({"id": message["id"], "result": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}})
        case "tools/call":
            send({"id": message["id"], "result": {"content": []}})
        case _ if "id" in message:
            send({"id": message["id"], "error": {"code": -32601, "message": "no"}})
