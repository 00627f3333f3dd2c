"""A guard with models in front of a provider: everything that a test of calls of models needs, running."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.fake_provider import KEY_FILES, MODEL, REAL_KEYS, FakeProvider, a_bundle_with_models
from tests.integration.guard.harness import Guard
from tests.support.bounds import until
from tests.support.keys import AGENT_KEY
from tests.support.ports import free_port

CHAT = "/openai/v1/chat/completions"
MESSAGES = "/anthropic/v1/messages"
RESPONSES = "/openai/v1/responses"
_BOUNDS: dict[str, tuple[dict[str, str], str]] = {
    CHAT: ({"service_tier": "default"}, "max_completion_tokens"),
    RESPONSES: ({"service_tier": "default"}, "max_output_tokens"),
    MESSAGES: ({}, "max_tokens"),
}
"""What bounds the cost of a call: the tier, where the provider is known to take it, and the limit of output."""
BEARER = {"Authorization": f"Bearer {AGENT_KEY}"}
API_KEY = {"x-api-key": AGENT_KEY}


@dataclass
class Rig:
    """Guard, API server, provider and an agent's connection, all running."""

    api: FakeApiServer
    guard: Guard
    provider: FakeProvider
    http: aiohttp.ClientSession

    @property
    def keys(self) -> Path:
        return self.guard.folder / "secrets" / ".models"

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.guard.port}{path}"

    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(BEARER if headers is None else headers)}
        async with self.http.post(self.url(path), data=io.BytesIO(data), headers=sent) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    def outcomes(self) -> list[str]:
        """Return the recorded ends of calls. That of a call which passed is written after its last byte was sent."""
        return [line["outcome"] for line in self.guard.lines() if line["kind"] == "outcome"]

    async def restart(self) -> None:
        """Start the guard again, with the settings that it has now, and wait until it is open."""
        await self.guard.stop()
        await self.guard.start()
        await until(lambda: self.guard.probe("/readyz"), "the guard is open")

    async def refused(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Return status and reason of what must not have reached the provider."""
        status, answer = await self.post(path, body, headers)
        assert self.provider.seen == []
        return status, answer if isinstance(answer, str) else reason_of(answer)


def reason_of(answer: dict[str, Any]) -> str:
    """Return the reason of a denial."""
    error = answer["error"]
    found: str = error.get("reason") or error["code"]
    assert (answer.get("type") == "error") == ("reason" in error)
    return found


def chat(**members: Any) -> dict[str, Any]:
    return {"model": MODEL["openai"], "messages": [{"role": "user", "content": "h\u00fc"}], **members}


def messages(**members: Any) -> dict[str, Any]:
    return {"model": MODEL["anthropic"], "max_tokens": 9, "messages": [{"role": "user", "content": "h"}], **members}


def as_sent(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the body that the provider gets of one that names no tier."""
    tier, member = _BOUNDS[path]
    rest = {name: value for name, value in body.items() if name != member}
    return {**rest, **tier, member: body.get(member, 4096)}


@asynccontextmanager
async def a_model_rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """Start a guard that is open, and its provider."""
    api, provider = FakeApiServer(free_port()), FakeProvider(free_port())
    await provider.start()
    api.set_agent()
    api.set_bundle(a_bundle_with_models(provider.port))
    await api.start()
    guard = Guard(api, tmp_path)
    async with aiohttp.ClientSession() as http:
        found = Rig(api, guard, provider, http)
        found.keys.mkdir(parents=True)
        for name, file in KEY_FILES.items():
            (found.keys / file).write_text(f"{REAL_KEYS[name]}\n")
        await guard.start()
        await until(lambda: guard.probe("/readyz"), "the guard is open")
        yield found
    await guard.stop()
    await provider.stop()
    await api.stop()
