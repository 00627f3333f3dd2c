"""A server on the official Python SDK with what the official conformance suite asks for, for both protocols.

`stdio [--session-based]`, or `http PORT`. `--session-based` excludes the sessionless protocol, as in older SDKs.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from typing_extensions import override

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAAAAA=="
PAUSE = 0.05
SUBSCRIBED: set[str] = set()
BUS = InMemorySubscriptionBus()

Context = ServerRequestContext[Any, Any]
Answer = types.CallToolResult | types.InputRequiredResult
Handler = Callable[[Context, types.CallToolRequestParams], Awaitable[Answer]]


def text(value: str) -> types.TextContent:
    return types.TextContent(type="text", text=value)


def image() -> types.ImageContent:
    return types.ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, value: str, mime: str = "text/plain") -> types.EmbeddedResource:
    contents = types.TextResourceContents(uri=uri, mime_type=mime, text=value)
    return types.EmbeddedResource(type="resource", resource=contents)


def fixed(*content: types.ContentBlock, is_error: bool = False) -> Handler:
    async def handle(_ctx: Context, _params: types.CallToolRequestParams) -> Answer:
        return types.CallToolResult(content=list(content), is_error=is_error)

    return handle


def is_sessionless(ctx: Context) -> bool:
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


async def ask(
    ctx: Context, params: types.CallToolRequestParams, request: Any, result_type: type[Any]
) -> types.InputRequiredResult | Any:
    """Ask the client in the way of its protocol version; return its answer, or the result that asks for one."""
    if not is_sessionless(ctx):
        return await ctx.session.send_request(request, result_type, metadata=related(ctx))
    answers = params.input_responses or {}
    if "q" in answers:
        return answers["q"]
    return types.InputRequiredResult(input_requests={"q": request}, request_state="asked-once")


def related(ctx: Context) -> Any:
    from mcp.shared.message import ServerMessageMetadata  # noqa: PLC0415 - only here

    return ServerMessageMetadata(related_request_id=ctx.request_id)


async def log(ctx: Context, _params: types.CallToolRequestParams) -> Answer:
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        params = types.LoggingMessageNotificationParams(level="info", data=line)
        await ctx.session.send_notification(types.LoggingMessageNotification(params=params), ctx.request_id)
        await asyncio.sleep(PAUSE)
    return types.CallToolResult(content=[text("Logged three lines.")])


async def progress(ctx: Context, _params: types.CallToolRequestParams) -> Answer:
    for step in (0, 50, 100):
        await ctx.session.report_progress(step, 100)
        await asyncio.sleep(PAUSE)
    return types.CallToolResult(content=[text("Made progress.")])


async def sample(ctx: Context, params: types.CallToolRequestParams) -> Answer:
    prompt = types.SamplingMessage(role="user", content=text(str((params.arguments or {}).get("prompt"))))
    wanted = types.CreateMessageRequestParams(messages=[prompt], max_tokens=100)
    result = await ask(ctx, params, types.CreateMessageRequest(params=wanted), types.CreateMessageResult)
    if isinstance(result, types.InputRequiredResult):
        return result
    return types.CallToolResult(content=[text(f"LLM response: {result.content.text}")])


def elicit(properties: dict[str, Any], required: list[str]) -> Handler:
    async def handle(ctx: Context, params: types.CallToolRequestParams) -> Answer:
        schema = {"type": "object", "properties": properties, "required": required}
        message = str((params.arguments or {}).get("message", "Please answer."))
        wanted = types.ElicitRequestFormParams(message=message, requested_schema=schema)
        result = await ask(ctx, params, types.ElicitRequest(params=wanted), types.ElicitResult)
        if isinstance(result, types.InputRequiredResult):
            return result
        said = f"action={result.action}, content={json.dumps(result.content)}"
        return types.CallToolResult(content=[text(f"Elicitation completed: {said}")])

    return handle


async def roots(ctx: Context, params: types.CallToolRequestParams) -> Answer:
    result = await ask(ctx, params, types.ListRootsRequest(), types.ListRootsResult)
    if isinstance(result, types.InputRequiredResult):
        return result
    return types.CallToolResult(content=[text(", ".join(str(root.uri) for root in result.roots))])


async def change(ctx: Context, _params: types.CallToolRequestParams) -> Answer:
    """Say that every list and the watched resource changed, as each protocol version says it."""
    uri = "test://watched-resource"
    if is_sessionless(ctx):
        for event in (ToolsListChanged(), PromptsListChanged(), ResourcesListChanged(), ResourceUpdated(uri)):
            await BUS.publish(event)
    else:
        for changed in (
            types.ToolListChangedNotification(),
            types.PromptListChangedNotification(),
            types.ResourceListChangedNotification(),
        ):
            await ctx.session.send_notification(changed)
        if uri in SUBSCRIBED:
            await ctx.session.send_resource_updated(uri)
    return types.CallToolResult(content=[text("Changed.")])


async def wait(_ctx: Context, _params: types.CallToolRequestParams) -> Answer:
    await asyncio.sleep(600)
    raise AssertionError


async def reconnect(ctx: Context, _params: types.CallToolRequestParams) -> Answer:
    """Close the stream of the request in the middle, where there is one, so that the client must come back."""
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await asyncio.sleep(PAUSE)
    return types.CallToolResult(content=[text("Reconnected.")])


async def show_meta(ctx: Context, _params: types.CallToolRequestParams) -> Answer:
    return types.CallToolResult(content=[text(json.dumps(dict(ctx.meta or {}), sort_keys=True))])


def choices(*options: str) -> list[dict[str, str]]:
    return [{"const": option, "title": option.title()} for option in options]


DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
OPTIONS = ["option1", "option2", "option3"]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": OPTIONS},
    "titledSingle": {"type": "string", "oneOf": choices("value1", "value2", "value3")},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": choices("value1", "value2", "value3")}},
}
USER = {"username": {"type": "string"}, "email": {"type": "string"}}
EMPTY: dict[str, Any] = {"type": "object"}
STRICT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}

TOOLS: dict[str, Handler] = {
    "test_simple_text": fixed(text("This is a simple text response for testing.")),
    "test_image_content": fixed(image()),
    "test_audio_content": fixed(types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")),
    "test_embedded_resource": fixed(embedded("test://embedded-resource", "This is an embedded resource content.")),
    "test_multiple_content_types": fixed(
        text("Multiple content types test:"), image(), embedded("test://mixed", "{}", "application/json")
    ),
    "test_error_handling": fixed(text("This tool intentionally returns an error for testing"), is_error=True),
    "json_schema_2020_12_tool": fixed(text("ok")),
    "test_tool_with_logging": log,
    "test_tool_with_progress": progress,
    "test_sampling": sample,
    "test_elicitation": elicit(USER, ["username", "email"]),
    "test_elicitation_sep1034_defaults": elicit(DEFAULTS, []),
    "test_elicitation_sep1330_enums": elicit(ENUMS, []),
    "test_roots": roots,
    "test_change": change,
    "test_reconnection": reconnect,
    "test_wait": wait,
    "test_meta": show_meta,
    "test_unmapped": fixed(text("no agent may call this")),
}


async def list_tools(_ctx: Context, _params: Any) -> types.ListToolsResult:
    tools = [
        types.Tool(name=name, description=name, input_schema=STRICT if name.startswith("json_schema") else EMPTY)
        for name in TOOLS
    ]
    return types.ListToolsResult(tools=tools)


async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> Answer:
    handler = TOOLS.get(params.name)
    if handler is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
    return await handler(ctx, params)


async def list_resources(_ctx: Context, _params: Any) -> types.ListResourcesResult:
    uris = ["test://static-text", "test://static-binary", "test://watched-resource", "test://secret"]
    resources = [types.Resource(uri=uri, name=uri.split("//")[1], description=uri) for uri in uris]
    return types.ListResourcesResult(resources=resources)


async def list_templates(_ctx: Context, _params: Any) -> types.ListResourceTemplatesResult:
    templates = [
        types.ResourceTemplate(uri_template=uri, name=uri, description=uri)
        for uri in ("test://template/{id}/data", "secret://{id}")
    ]
    return types.ListResourceTemplatesResult(resource_templates=templates)


async def read_resource(_ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    contents: types.TextResourceContents | types.BlobResourceContents
    if uri == "test://static-binary":
        contents = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    elif uri.startswith("test://template/"):
        number = uri.split("/")[3]
        said = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=said)
    else:
        contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text=f"This is the content of {uri}.")
    return types.ReadResourceResult(contents=[contents])


async def subscribe(_ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
    SUBSCRIBED.add(str(params.uri))
    return types.EmptyResult()


async def unsubscribe(_ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
    SUBSCRIBED.discard(str(params.uri))
    return types.EmptyResult()


def user(*content: types.ContentBlock) -> types.GetPromptResult:
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=one) for one in content])


async def list_prompts(_ctx: Context, _params: Any) -> types.ListPromptsResult:
    wanted = {
        "test_simple_prompt": [],
        "test_prompt_with_arguments": ["arg1", "arg2"],
        "test_prompt_with_embedded_resource": ["resourceUri"],
        "test_prompt_with_image": [],
        "test_unmapped_prompt": [],
    }
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=name,
                description=name,
                arguments=[types.PromptArgument(name=one, required=True) for one in arguments],
            )
            for name, arguments in wanted.items()
        ]
    )


async def get_prompt(_ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    said = params.arguments or {}
    match params.name:
        case "test_prompt_with_arguments":
            return user(text(f"Prompt with arguments: arg1='{said['arg1']}', arg2='{said['arg2']}'"))
        case "test_prompt_with_embedded_resource":
            return user(
                embedded(said["resourceUri"], "Embedded resource content for testing."),
                text("Please process the embedded resource above."),
            )
        case "test_prompt_with_image":
            return user(image(), text("Please analyze the image above."))
    return user(text("This is a simple prompt for testing."))


async def complete(_ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    values = [f"{params.argument.value}{suffix}" for suffix in ("", "-one", "-two")]
    return types.CompleteResult(completion=types.Completion(values=values, total=3, has_more=False))


async def set_level(_ctx: Context, _params: types.SetLevelRequestParams) -> types.EmptyResult:
    return types.EmptyResult()


SERVER: Server[Any] = Server(
    "interlock-known-server",
    version="1",
    instructions="For tests.",
    on_list_tools=list_tools,
    on_call_tool=call_tool,
    on_list_resources=list_resources,
    on_list_resource_templates=list_templates,
    on_read_resource=read_resource,
    on_subscribe_resource=subscribe,
    on_unsubscribe_resource=unsubscribe,
    on_subscriptions_listen=ListenHandler(BUS),
    on_list_prompts=list_prompts,
    on_get_prompt=get_prompt,
    on_completion=complete,
    on_set_logging_level=set_level,
)


class Events(EventStore):
    """Every event of every stream, in memory."""

    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    @override
    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    @override
    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id)
        stream = self._events[last - 1][0]
        for number, (stream_id, message) in enumerate(self._events[last:], start=last + 1):
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


async def serve_stdio(*, only_session_based: bool) -> None:
    changed = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
    options = SERVER.create_initialization_options(changed)
    async with stdio_server() as (reader, writer):
        if only_session_based:
            async with SERVER.lifespan(SERVER) as state:
                await serve_loop(SERVER, reader, writer, lifespan_state=state, init_options=options)
        else:
            await SERVER.run(reader, writer, options)


def main() -> None:
    if sys.argv[1] == "http":
        import uvicorn  # noqa: PLC0415 - brought by the SDK, wanted only here

        app = SERVER.streamable_http_app(host="127.0.0.1", event_store=Events(), retry_interval=100)
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", timeout_graceful_shutdown=1)
    else:
        only_session_based = "--session-based" in sys.argv
        anyio.run(lambda: serve_stdio(only_session_based=only_session_based))


main()
