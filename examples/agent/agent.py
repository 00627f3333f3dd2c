"""An agent that works with a CRM, and tries what it should not do, on the official MCP SDK.

It is an ordinary MCP client. It finds its servers in an `mcpServers` file, as desktop clients do, and is told by an
environment variable on which part of the work it is to work; of policies, bindings and guards it knows nothing. A
real agent would let a language model choose the calls; this one makes the same ones round by round, and prints a line
for each, so that its log tells what it may and may not do.

Environment variables:
    INTERLOCK_MCP_CONFIG: the `mcpServers` file.
    INTERLOCK_SCOPE: the part of the work, as JSON: `[{"dimension": "region", "values": ["eu-west"]}]`; `[]`: all of it.
    CALL_INTERVAL: seconds between two rounds, 1 by default.
    REGIONS: all regions that there are, `eu-west,us-east` by default.
    SOURCE: the server in the file to work with, `crm` by default.
    RESOURCES: URIs to read in each round, separated by commas, none by default.
    PROMPT: a prompt to get in each round, with the `id` of a contact as its argument, none by default.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, GetPromptResult, ReadResourceResult, TextContent, TextResourceContents

TIMEOUT = 10.0  # seconds for one answer
PUT_AWAY = 0.5  # seconds to close the connection at the end, a part of the second that a pod has


@dataclass(frozen=True)
class Work:
    """The agent's configuration: its server, regions inside and outside of its scope, and further items to read."""

    url: str
    inside: Sequence[str]
    outside: Sequence[str]
    interval: float
    resources: Sequence[str] = ()
    prompt: str = ""


def read_work(environ: Mapping[str, str]) -> Work:
    """Read files and environment.

    Raises:
        KeyError: the mcpServers file has no such server, or none is named.
    """
    servers = json.loads(Path(environ["INTERLOCK_MCP_CONFIG"]).read_text(encoding="utf-8"))["mcpServers"]
    regions = environ.get("REGIONS", "eu-west,us-east").split(",")
    limits = {limit["dimension"]: limit["values"] for limit in json.loads(environ.get("INTERLOCK_SCOPE") or "[]")}
    inside = limits.get("region", regions)
    return Work(
        url=servers[environ.get("SOURCE", "crm")]["url"],
        inside=inside,
        outside=[region for region in regions if region not in inside],
        interval=float(environ.get("CALL_INTERVAL", "1")),
        resources=tuple(uri for uri in environ.get("RESOURCES", "").split(",") if uri),
        prompt=environ.get("PROMPT", ""),
    )


def say(text: str) -> None:
    """Print one line at once; line breaks in what others wrote would make it look like several."""
    print(" ".join(text.split()), flush=True)


def refusal(details: Any) -> str | None:
    """Return the reason of a gateway's refusal, which is machine-readable where the gateway is a good one."""
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if isinstance(reason, str) else None


def outcome(call: str, result: CallToolResult) -> str:
    """Return the line for one answer."""
    text = next((block.text for block in result.content if isinstance(block, TextContent)), "")
    if result.is_error:
        reasons = (refusal(value) for value in (result.meta or {}).values())
        reason = next((reason for reason in reasons if reason), None)
        return f"denied: {reason} {call}: {text}" if reason else f"failed: {call}: {text}"
    found = (result.structured_content or {}).get("result")
    return f"allowed: {call}: {len(found)} found" if isinstance(found, list) else f"allowed: {call}: {text}"


async def attempt(client: Client, tool: str, **arguments: str) -> CallToolResult:
    """Call a tool and print what came of it."""
    call = " ".join([tool, *(f"{name}={value}" for name, value in arguments.items())])
    result = await client.call_tool(tool, arguments)
    say(outcome(call, result))
    return result


def told(found: ReadResourceResult | GetPromptResult) -> str:
    """Return the text of a resource or a prompt."""
    if isinstance(found, ReadResourceResult):
        return next((part.text for part in found.contents if isinstance(part, TextResourceContents)), "")
    return next((one.content.text for one in found.messages if isinstance(one.content, TextContent)), "")


async def read(what: str, asked: Awaitable[ReadResourceResult | GetPromptResult]) -> None:
    """Wait for a resource or a prompt and print what came of it; these are refused by an error, not by a result."""
    try:
        say(f"allowed: {what}: {told(await asked)}")
    except MCPError as error:
        reason = refusal(error.data)
        say(f"denied: {reason} {what}: {error.message}" if reason else f"failed: {what}: {error.message}")


async def work_once(client: Client, work: Work) -> None:
    """Make one round: the agent's own work, then what it should not do."""
    listed = await client.list_tools()
    say("tools: " + ", ".join(sorted(tool.name for tool in listed.tools)))
    contact = "none"
    for region in work.inside:
        contacts = await attempt(client, "list_contacts", region=region)
        await attempt(client, "list_opportunities", region=region)
        contact = next((found["id"] for found in (contacts.structured_content or {}).get("result", ())), contact)
        await attempt(client, "create_task", region=region, title="Call back", contact=contact)
    await attempt(client, "get_contact", id=contact)
    for region in work.outside:
        await attempt(client, "list_contacts", region=region)
    for uri in work.resources:
        await read(f"read {uri}", client.read_resource(uri))
    if work.prompt:
        await read(f"{work.prompt} id={contact}", client.get_prompt(work.prompt, {"id": contact}))
    await attempt(client, "export_everything")
    await attempt(client, "delete_contact", id=contact)


def why(error: BaseException) -> str:
    """Return what went wrong; the SDK's connections fail as groups of exceptions."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MCPError) and (reason := refusal(error.data)):
        return f"denied: {reason} {error.message}"
    return f"failed: {type(error).__name__} {error}"


async def live(work: Work) -> None:
    """Work round by round. After any failure, connect again and continue."""
    while True:
        try:
            async with Client(work.url, read_timeout_seconds=TIMEOUT) as client:
                while True:
                    await work_once(client, work)
                    await asyncio.sleep(work.interval)
        except Exception as error:  # noqa: BLE001 - an agent has to outlive everything that its servers do
            say(why(error))
        await asyncio.sleep(work.interval)


async def main() -> None:
    """Live until TERM."""
    life = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if life is not None:
            life.cancel()
        loop.call_later(PUT_AWAY, os._exit, 0)

    loop.add_signal_handler(signal.SIGTERM, end)
    await live(read_work(os.environ))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        sys.exit(0)
