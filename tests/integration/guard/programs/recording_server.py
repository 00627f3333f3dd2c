"""A stdio MCP server that writes down every line that reaches it, before it answers it with the least that is one."""

import json
import sys
from pathlib import Path
from typing import Any

received = Path(sys.argv[1])


def answer(message: dict[str, Any]) -> dict[str, Any]:
    match message["method"]:
        case "initialize":
            info = {"name": "recording", "version": "1"}
            version = message["params"]["protocolVersion"]
            return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}}
        case "server/discover":
            return {"error": {"code": -32601, "message": "Method not found"}}
        case "tools/list":
            return {
                "result": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "drop")]}
            }
        case _:
            return {"result": {"content": [{"type": "text", "text": "done"}]}}


for line in sys.stdin:
    with received.open("a") as log:
        log.write(line)
    message = json.loads(line)
    if "id" in message:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer(message)}) + "\n")
        sys.stdout.flush()
