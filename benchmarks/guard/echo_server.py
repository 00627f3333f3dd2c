"""The cheapest stdio MCP server: one tool that gives back its text, so that what is measured is the way to it."""

import json
import os
import sys

TOOL = {"name": "echo", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}}


def answer(message: dict[str, object]) -> dict[str, object] | None:
    """Return the result of one request; None for what gets none."""
    match message.get("method"):
        case "initialize":
            info = {"name": "echo", "version": "1"}
            return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            params = message["params"]
            assert isinstance(params, dict)
            return {"content": [{"type": "text", "text": params["arguments"]["text"] * 2}]}
        case _:
            return None


def main() -> None:
    """Answer line by line until the input ends."""
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(message)
        failed = {"error": {"code": -32601, "message": "not found"}}
        body = {"jsonrpc": "2.0", "id": message["id"], **(failed if result is None else {"result": result})}
        os.write(1, json.dumps(body, separators=(",", ":")).encode() + b"\n")


if __name__ == "__main__":
    main()
