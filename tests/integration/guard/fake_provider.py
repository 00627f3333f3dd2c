"""A provider of models that is faithful where it matters and bad where a test wants it: it records all that reaches it.

Its answers have the members that the official SDKs of OpenAI and Anthropic read; nothing in it thinks.
"""

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from interlock_contract.agent_key import agent_key_digest
from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.prices import ModelPrice, PriceRow
from interlock_contract.bundle import AgentIdentity, Bundle, dump_bundle
from interlock_contract.http_target import HttpTarget
from interlock_contract.model_access import Model as BundleModel
from interlock_contract.model_access import ModelAccess, Provider
from tests.integration.guard.fake_api_server import AGENT, NAMESPACE, UID
from tests.support.keys import AGENT_KEY
from tests.support.scripted_model import Reply

REAL_KEYS = {"openai": "sk-canary-openai-0123456789", "anthropic": "sk-ant-canary-0123456789"}
MODEL = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}
KEY_FILES = {"openai": "0123456789abcde0", "anthropic": "0123456789abcde1"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def message(self) -> Any:
        return json.loads(self.body)


class FakeProvider:
    """Both providers on one port, below `/openai/v1` and `/anthropic/v1`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: list[Seen] = []
        self.answer: Handler | None = None
        """Answers in place of the faithful answers."""
        self.hung_up = asyncio.Event()
        """Set once a client has gone away before its answer was whole."""
        self._runner: web.AppRunner | None = None

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        app = web.Application(client_max_size=40 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05, handler_cancellation=True)
        await self._runner.setup()
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", self.port))
        await web.SockSite(self._runner, taken, ssl_context=context).start()

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _serve(self, http: web.Request) -> web.StreamResponse:
        self.seen.append(Seen(http.path_qs, dict(http.headers), http.raw_headers, await http.read()))
        try:
            return await (self.answer or self._faithful)(http)
        except (asyncio.CancelledError, ConnectionError):
            self.hung_up.set()
            raise

    async def _faithful(self, http: web.Request) -> web.StreamResponse:
        asked = self.seen[-1].message
        if asked.get("stream"):
            return await stream(http, events_of(http.path, asked))
        return web.json_response(answer_of(http.path, asked), headers={"x-request-id": "req-1", "Set-Cookie": "a=b"})


async def stream(
    http: web.Request, events: list[bytes], media_type: str = "text/event-stream; charset=utf-8"
) -> web.StreamResponse:
    """Send events, each in a write of its own."""
    response = web.StreamResponse(headers={"Content-Type": media_type})
    await response.prepare(http)
    for event in events:
        await response.write(event)
    await response.write_eof()
    return response


async def send(http: web.Request, reply: Reply) -> web.StreamResponse:
    """Send an answer of a scripted model: whole, or its events, each in a write of its own."""
    if reply.media_type == "text/event-stream":
        return await stream(http, list(reply.parts), reply.media_type)
    return web.Response(body=b"".join(reply.parts), content_type=reply.media_type)


async def stream_after(http: web.Request, events: list[bytes], goes_on: asyncio.Event) -> web.StreamResponse:
    """Send the first event immediately and the others once `goes_on` is set, each in a write of its own."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    await response.write(events[0])
    await goes_on.wait()
    for event in events[1:]:
        await response.write(event)
    await response.write_eof()
    return response


async def endless_stream(http: web.Request) -> web.StreamResponse:
    """Send one event, `data: 1`, and neither another one nor an end."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    await response.write(b"data: 1\n\n")
    await asyncio.Event().wait()
    return response


def answer_of(path: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what the provider answers as one JSON object."""
    model = asked["model"]
    if path.endswith("/chat/completions"):
        message = {"role": "assistant", "content": "hello"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": usage,
        }
    if path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return {"object": "list", "data": data, "model": model, "usage": usage}
    if path.endswith("/responses"):
        text = {"type": "output_text", "text": "hello", "annotations": []}
        item = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
        rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        return {"id": "r", "object": "response", "created_at": 1, "model": model, "output": [item], **rest}
    if path.endswith("/count_tokens"):
        return {"input_tokens": 3}
    content = [{"type": "text", "text": "hello"}]
    rest = {"stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 1}}
    return {"id": "m", "type": "message", "role": "assistant", "model": model, "content": content, **rest}


def events_of(path: str, asked: dict[str, Any]) -> list[bytes]:
    """Return what the provider streams."""
    if path.endswith("/chat/completions"):
        base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
        parts: list[dict[str, Any]] = [
            {"index": 0, "delta": {"content": word}, "finish_reason": None} for word in ("hel", "lo \u00fc")
        ]
        parts.append({"index": 0, "delta": {}, "finish_reason": "stop"})
        return [
            f"data: {json.dumps({**base, 'choices': [part]}, ensure_ascii=False)}\n\n".encode() for part in parts
        ] + [b": a comment\r\n\r\ndata: [DONE]\n\n"]
    message = {**answer_of(path, asked), "content": []}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


LEDGER = f"{AGENT}.staging"
FREE = ModelPrice((PriceRow(input=0, output=0),), 128_000)


def a_bundle_with_models(port: int, *, key: str = AGENT_KEY) -> str:
    """Return a bundle without sources whose models are at the fake provider. They cost nothing."""
    providers = tuple(
        Provider(
            name,
            "Anthropic" if name == "anthropic" else "OpenAI",
            HttpTarget(f"http://127.0.0.1:{port}/{name}/v1", "Private", (), None),
            (BundleModel(MODEL[name], KEY_FILES[name], FREE),),
        )
        for name in MODEL
    )
    identity = AgentIdentity(AGENT, NAMESPACE, UID)
    models, digest = ModelAccess(providers), agent_key_digest(key)
    budget = BundleBudget(LEDGER, hang_up_seconds=0)
    return dump_bundle(
        Bundle(
            *(4, identity, "0123456789", "staging", "staging", (), ()),
            models=models,
            agent_key_digest=digest,
            budget=budget,
        )
    )
