"""A stdio MCP server whose list of tools is huge from the second time on, and that reports a change all the time."""

import json
import sys
import threading
import time
from typing import Any

item, size = sys.argv[1], int(sys.argv[2])
lock = threading.Lock()


def write(text: str) -> None:
    with lock:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def send(message: dict[str, Any]) -> None:
    write(json.dumps({"jsonrpc": "2.0", **message}))


def report_changes() -> None:
    while True:
        time.sleep(0.5)
        send({"method": "notifications/tools/list_changed"})


def tool(more: str = "") -> str:
    return '{"name":"echo","inputSchema":{"type":"object"' + more + "}}"


lists = 0
for line in sys.stdin:
    message = json.loads(line)
    match message.get("method"):
        case "initialize":
            info = {"name": "monster", "version": "1"}
            version = message["params"]["protocolVersion"]
            result = {"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": info}
            send({"id": message["id"], "result": result})
        case "notifications/initialized":
            threading.Thread(target=report_changes, daemon=True).start()
        case "tools/list":
            lists += 1
            more = "" if lists == 1 else ',"x":[' + ",".join([item] * (size // (len(item) + 1))) + "]"
            write(f'{{"jsonrpc":"2.0","id":{message["id"]},"result":{{"tools":[{tool(more)}]}}}}')
        case _ if "id" in message:
            send({"id": message["id"], "error": {"code": -32601, "message": "no"}})
