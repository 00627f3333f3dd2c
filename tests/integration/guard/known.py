"""The known server of the conformance suite behind a guard: what its binding maps, and what it does not."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from interlock_contract.bundle import (
    AgentIdentity,
    Bundle,
    BundlePrompt,
    BundleResource,
    BundleSource,
    BundleTool,
    Grant,
    ServerRequest,
    digest_instructions,
    dump_bundle,
)
from tests.integration.guard.fake_api_server import AGENT, NAMESPACE, UID, FakeApiServer
from tests.integration.guard.harness import SOURCE, Client, Guard, StdioServer
from tests.integration.guard.learning import learn_on_pipes
from tests.support.bounds import until
from tests.support.keys import AGENT_KEY_DIGEST

KNOWN = Path(__file__).parent / "programs" / "known_server.py"
EVERYTHING: tuple[ServerRequest, ...] = ("Sampling", "Elicitation", "Roots")
TOOLS = (
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_error_handling",
    "json_schema_2020_12_tool",
    "test_tool_with_logging",
    "test_tool_with_progress",
    "test_sampling",
    "test_elicitation",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_roots",
    "test_change",
    "test_reconnection",
    "test_wait",
    "test_meta",
)
INSTRUCTIONS = "For tests."
RESOURCES = ("test://static-text", "test://static-binary", "test://watched-resource", "test://template/*/data")
PROMPTS = (
    "test_simple_prompt",
    "test_prompt_with_arguments",
    "test_prompt_with_embedded_resource",
    "test_prompt_with_image",
)


def known_bundle(
    requests: Sequence[ServerRequest] = EVERYTHING,
    *,
    revision: str = "0",
    tools: Sequence[str] = TOOLS,
    withholds: bool = False,
) -> str:
    """Return a bundle that maps all of the known server but what is named unmapped or secret.

    Args:
        requests: What the server may ask.
        revision: Told apart by it.
        tools: The mapped tools.
        withholds: Whether texts that are not asked for are withheld.
    """
    source = BundleSource(
        SOURCE,
        "known",
        "stdio",
        tuple(BundleTool(name, "read", "things") for name in tools),
        (
            Grant("Binding", "mcpbinding/known", ("*",), (), ()),
            Grant("Matrix", "agentpolicy/support/dataAccess[0]", ("things",), (), ()),
        ),
        tuple(BundleResource(uri, "read", "things") for uri in RESOURCES),
        tuple(BundlePrompt(name, "read", "things") for name in PROMPTS),
        tuple(requests),
        resource_descriptions="Withheld" if withholds else "Unreviewed",
        instructions_pin=None if withholds else digest_instructions(INSTRUCTIONS),
    )
    identity = AgentIdentity(AGENT, NAMESPACE, UID)
    return dump_bundle(
        Bundle(4, identity, revision, "staging", "staging", (), (source,), agent_key_digest=AGENT_KEY_DIGEST)
    )


@dataclass
class Known:
    """A guard in front of the known server, of one protocol version."""

    api: FakeApiServer
    guard: Guard
    protocol: str
    revisions: int = 0

    async def allow(self, *requests: ServerRequest) -> None:
        """Let the server ask just this, and wait until the guard obeys."""
        await self._obey(requests, TOOLS)

    async def withhold(self, *prompts: str) -> None:
        """Ask for no texts of the server, pin these prompts alone, and wait until the guard obeys."""
        learnt = self.api.pins
        assert learnt is not None
        self.api.pins = learnt._replace(prompts=tuple(pin for pin in learnt.prompts if pin.name in prompts))
        try:
            await self._obey((), TOOLS, withholds=True)
        finally:
            self.api.pins = learnt

    async def allow_no_tools(self) -> None:
        """Map no tool any more, and wait until the guard obeys."""
        await self._obey(EVERYTHING, ())

    async def _obey(self, requests: Sequence[ServerRequest], tools: Sequence[str], *, withholds: bool = False) -> None:
        self.revisions += 1
        self.api.set_bundle(known_bundle(requests, revision=str(self.revisions), tools=tools, withholds=withholds))

        async def is_obeyed() -> bool:
            await Client(session, self.guard.url).request("tools/list")
            return self.guard.records()[-1]["revision"] == str(self.revisions)

        async with aiohttp.ClientSession() as session:
            await until(is_obeyed, "the new bundle is in force")


@asynccontextmanager
async def a_known_server(api: FakeApiServer, guard: Guard, *arguments: str) -> AsyncIterator[StdioServer]:
    """Run the known server on stdio behind the guard; `--session-based` excludes the sessionless protocol."""
    command = [sys.executable, "-W", "ignore", str(KNOWN), "stdio", *arguments]
    api.pins = await learn_on_pipes(command, guard.folder)
    api.set_bundle(known_bundle())
    server = StdioServer(guard.pipes / SOURCE, command)
    await guard.started()
    await server.start()
    try:
        await guard.source_ready()
        yield server
    finally:
        await server.kill()
