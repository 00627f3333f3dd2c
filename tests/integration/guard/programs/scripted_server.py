"""A stdio MCP server that behaves as badly as it is told, and keeps a log of every call that it executed."""

import json
import os
import signal
import sys
import time
from pathlib import Path

EXECUTED = Path(sys.argv[1])
TOOLS = [
    "echo",
    "slow",
    "never",
    "half_line",
    "die",
    "huge",
    "ask",
    "garbage",
    "unknown_id",
    "progress",
    "hidden",
    "sleepy",
]


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(request_id, value):
    send({"id": request_id, "result": {"content": [{"type": "text", "text": value}]}})


def call(request_id, params):
    name, arguments = params["name"], params.get("arguments", {})
    with EXECUTED.open("a") as log:
        log.write(json.dumps({"pid": os.getpid(), "name": name, "arguments": arguments}) + "\n")
    if name == "half_line":
        sys.stdout.write('{"jsonrpc": "2.0", "id": ' + str(request_id) + ', "result": {"content": [')
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "huge":
        text(request_id, "x" * (17 * 1024 * 1024))
    elif name == "large":
        text(request_id, "x" * arguments["bytes"])
    elif name == "ask":
        send({"id": "ask-1", "method": "sampling/createMessage", "params": {"messages": []}})
        text(request_id, sys.stdin.readline())
    elif name == "garbage":
        sys.stdout.write("Listening on stdio\n")
        sys.stdout.flush()
    elif name == "unknown_id":
        send({"id": 10**9, "result": {}})
    elif name == "progress":
        token = params["_meta"]["progressToken"]
        for step in (1, 2):
            send(
                {
                    "method": "notifications/progress",
                    "params": {"progressToken": token, "progress": step, "secret": "x"},
                }
            )
        text(request_id, json.dumps({"token_is_mine": token != "mine"}))
    elif name == "progress_forever":
        token = params["_meta"]["progressToken"]
        send({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
    elif name == "slow":
        time.sleep(float(arguments["seconds"]))
        text(request_id, "slow is done")
    elif name == "never":
        pass
    else:
        text(request_id, json.dumps({"pid": os.getpid(), "arguments": arguments, "params": sorted(params)}))


for line in sys.stdin:
    message = json.loads(line)
    method = message.get("method")
    if method == "initialize":
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "s", "version": "1"},
        }
        send({"id": message["id"], "result": result})
    elif method == "tools/list":
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
        send({"id": message["id"], "result": {"tools": tools, "secret": "not for the agent"}})
    elif method == "tools/call":
        call(message["id"], message["params"])
    elif method == "notifications/cancelled":
        with EXECUTED.open("a") as log:
            log.write(json.dumps({"cancelled": message["params"]["reason"]}) + "\n")
