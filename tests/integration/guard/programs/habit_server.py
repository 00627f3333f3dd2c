"""A stdio MCP server with one habit of servers in use: `habit_server.py <habit> <log>`.

The log has a line for its start, and one for each message and each call. Several processes append to it.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HABIT, _, OPTION = sys.argv[1].partition("=")
LOG = Path(sys.argv[2])
Json = dict[str, Any]


def note(**what: Any) -> None:
    with LOG.open("a") as opened:
        opened.write(json.dumps(what) + "\n")


_writing = threading.Lock()


def write(line: str | bytes) -> None:
    with _writing:
        sys.stdout.buffer.write(line if isinstance(line, bytes) else line.encode())
        sys.stdout.buffer.flush()


def write_without_end(line: str, per_second: float) -> None:
    """Write a line again and again, next to all else."""

    def run() -> None:
        while True:
            write(line + "\n")
            time.sleep(1 / per_second)

    threading.Thread(target=run, daemon=True).start()


def send(message: Json) -> None:
    message = {"jsonrpc": "2.0", **message}
    if HABIT == "text_ids" and isinstance(message.get("id"), int):
        message["id"] = str(message["id"])
    if HABIT == "decimal_ids" and isinstance(message.get("id"), int):
        message["id"] = float(message["id"])
    if HABIT == "error_null" and "result" in message:
        message["error"] = None
    if HABIT == "unknown_member":
        message["serverTime"] = "2026-01-01T00:00:00Z"
    write(json.dumps(message) + ("\r\n" if HABIT == "crlf" else "\n"))


def answer(number: Any, text: str) -> None:
    send({"id": number, "result": {"content": [{"type": "text", "text": text}]}})


def raw(template: str | bytes) -> Callable[[Any, Json], None]:
    """Return a tool whose answer is a text, with its id for `#`."""

    def tool(number: Any, _: Json) -> None:
        line = template if isinstance(template, bytes) else template.encode()
        write(line.replace(b"#", json.dumps(number).encode()) + b"\n")

    return tool


def before(line: str) -> Callable[[Any, Json], None]:
    """Return a tool that writes a line before its answer."""

    def tool(number: Any, _: Json) -> None:
        write(line + "\n")
        answer(number, "done")

    return tool


def echo(number: Any, params: Json) -> None:
    answer(number, json.dumps(params.get("arguments")))


def slow(number: Any, params: Json) -> None:
    time.sleep(float(params["arguments"]["seconds"]))
    answer(number, "done")


def deep(number: Any, params: Json) -> None:
    depth = int(params["arguments"]["depth"])
    raw(f'{{"jsonrpc":"2.0","id":#,"result":{{"content":[],"a":{"[" * depth + "]" * depth}}}}}')(number, params)


def long(number: Any, params: Json) -> None:
    answer(number, "x" * int(params["arguments"]["bytes"]))


def progress(number: Any, params: Json) -> None:
    token = params["_meta"]["progressToken"]
    for step in range(3):
        said = str(token) if HABIT == "text_tokens" else token
        send({"method": "notifications/progress", "params": {"progressToken": said, "progress": step, "total": None}})
    answer(number, "done")


def flood(number: Any, params: Json) -> None:
    for line in range(int(params["arguments"]["lines"])):
        write(f"DEBUG: line {line}\n")
    answer(number, "done")


def chatty(number: Any, _: Json) -> None:
    send({"method": "notifications/message", "params": {"level": "warn", "data": "x"}})
    send({"method": "notifications/made_up", "params": {"a": 1}})
    send({"method": "notifications/message"})
    send({"method": "notifications/progress"})
    answer(number, "done")


def quoted(number: Any, _: Json) -> None:
    write(f'DEBUG sending {{"jsonrpc":"2.0","id":{number},"result":{{}}}} ...\n')
    answer(number, "done")


_CONTENT = '"content":[{"type":"text","text":"x"}]'
TOOLS: dict[str, Callable[[Any, Json], None]] = {
    "echo": echo,
    "slow": slow,
    "deep": deep,
    "long": long,
    "flood": flood,
    "chatty": chatty,
    "progress": progress,
    "half_emoji": raw('{"jsonrpc":"2.0","id":#,"result":{"content":[{"type":"text","text":"party \\ud83c"}]}}'),
    "nan": raw(f'{{"jsonrpc":"2.0","id":#,"result":{{{_CONTENT},"structuredContent":{{"mean":NaN}}}}}}'),
    "latin1": raw(b'{"jsonrpc":"2.0","id":#,"result":{"content":[{"type":"text","text":"caf\xe9"}]}}'),
    "separators": raw('{"jsonrpc":"2.0","id":#,"result":{"content":[{"type":"text","text":"a\u2028b\u0085c"}]}}'),
    "big": raw('{"jsonrpc":"2.0","id":#,"result":{"content":[],"structuredContent":{"id":9007199254740993,"p":1.10}}}'),
    "double_key": raw('{"jsonrpc":"2.0","id":#,"result":{"content":[],"content":[]}}'),
    "unfinished": raw('{"jsonrpc":"2.0","id":#,"result":{"content":['),
    "quoted": quoted,
    "several": raw(f'[{{"jsonrpc":"2.0","method":"m"}},{{"jsonrpc":"2.0","id":#,"result":{{{_CONTENT}}}}},7]'),
    "list_result": raw('{"jsonrpc":"2.0","id":#,"result":[{"type":"text","text":"x"}]}'),
    "null_members": raw(f'{{"jsonrpc":"2.0","id":#,"result":{{{_CONTENT},"_meta":null,"isError":null}}}}'),
    "text_code": raw('{"jsonrpc":"2.0","id":#,"error":{"code":"ENOENT","message":"no such file"}}'),
    "no_message": raw('{"jsonrpc":"2.0","id":#,"error":{"code":-32000}}'),
    "text_error": raw('{"jsonrpc":"2.0","id":#,"error":"no such file"}'),
    "no_version": raw(f'{{"id":#,"result":{{{_CONTENT}}}}}'),
    "debug_line": before("DEBUG: querying the database with key 0123456789abcdef0123"),
    "json_line": before('"ready"'),
    "log_line": before('{"level":"info","message":"querying"}'),
    "unknown_id": before('{"jsonrpc":"2.0","id":987654321,"result":{}}'),
    "foreign_id": before('{"jsonrpc":"2.0","id":"r-1","result":{}}'),
    "null_id_notification": before('{"jsonrpc":"2.0","id":null,"method":"notifications/message","params":{"data":1}}'),
    "null_params": before('{"jsonrpc":"2.0","method":"notifications/message","params":null}'),
    "list_params": before('{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":[]}'),
    "batch": before('[{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}]'),
}


def list_tools(number: Any, params: Json) -> None:
    cursor = params.get("cursor")
    note(list=cursor)
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
    if HABIT == "changes_while_listing":
        send({"method": "notifications/tools/list_changed"})
    if HABIT == "slow_list":
        time.sleep(float(OPTION))
    result: Json = {"tools": tools}
    if HABIT == "empty_cursor":
        result["nextCursor"] = ""
    elif HABIT == "null_cursor":
        result["nextCursor"] = None
    elif HABIT == "same_cursor":
        result["nextCursor"] = "more"
    elif HABIT == "pages":  # one filler on each page but the last
        page = int(cursor or 1)
        if page < int(OPTION):
            filler = {"name": f"filler-{page}", "inputSchema": {"type": "object"}}
            result = {"tools": [filler], "nextCursor": str(page + 1)}
    send({"id": number, "result": result})


def initialize(number: Any, params: Json) -> None:
    if HABIT == "refuses_initialize_once" and not (LOG.parent / "refused").exists():
        (LOG.parent / "refused").touch()
        send({"id": number, "error": {"code": -32603, "message": "not now"}})
        return
    if HABIT == "one_version" and params["protocolVersion"] != "2025-03-26":
        send({"id": number, "error": {"code": -32602, "message": "Unsupported", "data": {"expected": "2025-03-26"}}})
        return
    if HABIT == "early_requests":
        send({"method": "notifications/message", "params": {"level": "info", "data": "starting"}})
        send({"id": 0, "method": "ping"})
        send({"id": "", "method": "roots/list"})
    info = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "x"}}
    send({"id": number, "result": info})


def handle(message: Json) -> None:
    method, number, params = message.get("method"), message.get("id"), message.get("params") or {}
    note(got=method)
    if method == "initialize":
        initialize(number, params)
    elif method == "tools/list":
        list_tools(number, params)
    elif method == "tools/call":
        note(called=params["name"])
        TOOLS[params["name"]](number, params)
    elif number is None and method is not None:  # a notification, which some servers answer
        error = {"code": -32601, "message": f"Method not found: {method}"}
        if HABIT == "null_id_errors":
            write(json.dumps({"jsonrpc": "2.0", "id": None, "error": error}) + "\n")
        elif HABIT == "no_id_errors":
            write(json.dumps({"jsonrpc": "2.0", "error": error}) + "\n")
        elif HABIT == "null_id_results":
            write(json.dumps({"jsonrpc": "2.0", "id": None, "result": {}}) + "\n")
    elif number is not None and method is not None:
        send({"id": number, "error": {"code": -32601, "message": "Method not found"}})


def main() -> None:  # noqa: C901 - a line a habit
    note(started=HABIT)
    if HABIT == "ends":
        return
    if HABIT == "banner":
        write("\U0001f680 MCP server running on stdio\n")
    if HABIT == "garbage":
        write_without_end("DEBUG: 2026-01-01 00:00:00 a line of a log with key 0123456789abcdef", float(OPTION))
    if HABIT == "storm":
        write_without_end('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}', float(OPTION))
    if HABIT == "byte_order_mark":
        write(b"\xef\xbb\xbf")
    if HABIT == "slow_start":
        time.sleep(float(OPTION))
    is_first = True
    for line in sys.stdin:
        message = json.loads(line)
        if HABIT in {"strict", "refuses_initialize_once"} and is_first and message.get("method") != "initialize":
            note(ended_at=message.get("method"))
            sys.exit(1)
        is_first = False
        if HABIT == "mute" and message.get("method") == "server/discover":
            continue
        handle(message)
        if HABIT == "ends_after_each_call" and message.get("method") == "tools/call":
            return


main()
