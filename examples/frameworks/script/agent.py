"""An agent of the standard library alone: two HTTP APIs, and a loop between them."""

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

TASK = "Call back the first contact of eu-west: find it, and create a task for it."
SERVERS = json.loads(Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text())["mcpServers"]
MODEL = f"{os.environ['OPENAI_BASE_URL']}/chat/completions"


def post(url: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[Any, Any]:
    """Send JSON and return the answer with its headers."""
    sent = {"Content-Type": "application/json", "Accept": "application/json", **headers}
    request = urllib.request.Request(url, json.dumps(body).encode(), sent)  # noqa: S310 - a URL of the guard
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null"), answer.headers


class Server:
    """An MCP server over HTTP, in one session."""

    def __init__(self, url: str) -> None:
        self.url, self.headers, self.requests = url, {}, 0
        about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "script", "version": "1"}}
        result, headers = self._send({"id": 0, "method": "initialize", "params": about})
        self.headers["MCP-Protocol-Version"] = result["result"]["protocolVersion"]
        if session := headers.get("Mcp-Session-Id"):
            self.headers["Mcp-Session-Id"] = session
        self._send({"method": "notifications/initialized"})

    def request(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a request."""
        self.requests += 1
        answer, _ = self._send({"id": self.requests, "method": method, "params": params})
        return answer["result"]

    def _send(self, message: dict[str, Any]) -> tuple[Any, Any]:
        return post(self.url, {"jsonrpc": "2.0", **message}, self.headers)


def ask(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the model's next message."""
    functions = [
        {"name": tool["name"], "description": tool.get("description", ""), "parameters": tool["inputSchema"]}
        for tool in tools
    ]
    body = {
        "model": "gpt-4o-mini",
        "messages": messages,
        "tools": [{"type": "function", "function": one} for one in functions],
    }
    answer, _ = post(MODEL, body, {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"})
    return answer["choices"][0]["message"]


def work(task: str) -> str:
    """Do a task, and return the model's last words."""
    server = Server(SERVERS["crm"]["url"])
    tools = server.request("tools/list")["tools"]
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    while True:
        message = ask(messages, tools)
        messages.append(message)
        if not message.get("tool_calls"):
            return message["content"]
        for call in message["tool_calls"]:
            function = call["function"]
            result = server.request("tools/call", name=function["name"], arguments=json.loads(function["arguments"]))
            # A denial is a result with isError, whose text says why. It goes to the model like any other.
            text = "\n".join(part["text"] for part in result["content"] if part["type"] == "text")
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})


if __name__ == "__main__":
    print(work(TASK))
