"""What a verifier makes of servers that are other than they should be; the well-behaved are in tests/integration."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from interlock_contract.bundle import (
    AgentIdentity,
    Bundle,
    BundleLimits,
    BundlePrompt,
    BundleSource,
    BundleTool,
    Grant,
    digest_instructions,
)
from interlock_contract.verification import PlannedProbe, VerificationFailure, VerificationPlan, VerificationResult
from interlock_guard.decision.decide import Deny
from interlock_guard.upstream import list_cache
from interlock_guard.upstream.dropped_messages import DroppedMessages
from interlock_guard.upstream.upstream import Call, OnEvent, ServerInfo
from interlock_guard.verification import verifier
from interlock_guard.verification.verifier import NullListener, verify
from interlock_guard.wire.jsonrpc import RpcRequest, RpcResponse
from tests.requirements import requirement

GRANTS = (Grant("Binding", "b", ("x",), (), ()), Grant("Matrix", "m", ("x",), (), ()))
PROBE = PlannedProbe("look", "echo", {}, "Success", 1000)


def a_bundle(*tools: str) -> Bundle:
    source = BundleSource("crm", "b", "stdio", tuple(BundleTool(name, "read", "x") for name in tools), GRANTS)
    return Bundle(4, AgentIdentity("a", "n", "u"), "r", "s", "s", (), (source,))


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


@dataclass
class Server:
    """An upstream whose server answers as a test says."""

    listener: NullListener
    answers: Callable[[str, dict[str, Any]], RpcResponse | None]
    is_there: bool = True
    info: ServerInfo = field(default_factory=lambda: ServerInfo("2025-11-25", {"tools": {}}))
    source: str = "crm"
    limits: BundleLimits = field(default_factory=BundleLimits)
    server_info: ServerInfo | None = None
    responses: list[RpcResponse] = field(default_factory=list)
    dropped: DroppedMessages = field(default_factory=lambda: DroppedMessages("crm", print, lambda: 0.0))

    def open(self) -> None:
        if self.is_there:
            self.server_info = self.info
            self.listener.handle_connected(self)  # type: ignore[arg-type]

    async def run(self) -> None:
        await asyncio.Event().wait()

    def refusal(self) -> Deny | None:
        return None

    def start(self, method: str, params: dict[str, Any], _on_event: OnEvent | None = None, **_: bool) -> Call:
        call = Call(1, asyncio.get_running_loop().create_future(), None, 0.0)
        answer = self.answers(method, params)
        if answer is not None:
            call.resolve(answer)
        return call

    def abandon(self, _call: Call, _why: str) -> None: ...

    def respond(self, response: RpcResponse) -> None:
        self.responses.append(response)


async def run(
    bundle: Bundle,
    answers: Callable[[str, dict[str, Any]], RpcResponse | None],
    *probes: PlannedProbe,
    is_there: bool = True,
) -> VerificationResult:
    return await verify(
        VerificationPlan("r", "crm", probes),
        bundle,
        lambda _source, listener: Server(listener, answers, is_there=is_there),  # type: ignore[arg-type,return-value]
    )


def listing(*tools: Any, called: dict[str, Any] | None = None) -> Callable[[str, dict[str, Any]], RpcResponse | None]:
    def answers(method: str, _params: dict[str, Any]) -> RpcResponse | None:
        return RpcResponse(1, {"tools": list(tools)} if method == "tools/list" else called, None)

    return answers


@requirement("verify.client")
async def test_two_tools_of_one_name_are_reported() -> None:
    result = await run(a_bundle("echo"), listing(tool("echo"), tool("echo", title="Other")))
    assert (result.failure, result.message) == (
        VerificationFailure.TOOLS_AMBIGUOUS,
        "the server lists two tools of the name echo",
    )


@requirement("verify.client")
async def test_more_tools_than_can_be_pinned_are_reported() -> None:
    result = await run(a_bundle("*"), listing(*(tool(f"t{number}") for number in range(513))))
    assert result.failure is VerificationFailure.TOO_MANY_TOOLS
    assert "513 tools of the server, but 512 can be pinned: write narrower globs" in result.message


SUMMARY = {"name": "summary", "description": "Sums up.", "arguments": [{"name": "id"}]}


async def run_with_prompts(prompts: Any, *names: str, instructions: str | None = None) -> VerificationResult:
    """Verify a server that lists these prompts, with a binding that maps these."""
    bundle = a_bundle("echo")
    [source] = bundle.sources
    source = replace(source, prompts=tuple(BundlePrompt(name, "read", "x") for name in names))

    def answers(method: str, _params: dict[str, Any]) -> RpcResponse:
        return RpcResponse(1, {"tools": [tool("echo")], "prompts": prompts}, None)

    def build(_source: BundleSource, listener: NullListener) -> Any:
        return Server(listener, answers, info=ServerInfo("2025-11-25", {"tools": {}, "prompts": {}}, instructions))

    plan = VerificationPlan("r", "crm", instructions=True)
    return await verify(plan, replace(bundle, sources=(source,)), build)


@requirement("verify.client", "drift.prompts", "drift.instructions")
async def test_mapped_prompts_and_instructions_are_reported_whole() -> None:
    result = await run_with_prompts([SUMMARY, {"name": "other"}], "sum*", instructions="Be kind.")
    assert (result.failure, result.message) == (None, "")
    assert result.prompts is not None
    assert result.instructions is not None
    [prompt] = result.prompts
    assert (prompt.name, json.loads(prompt.definition)) == ("summary", SUMMARY)
    assert (result.instructions.definition, result.instructions.digest) == (
        '"Be kind."',
        digest_instructions("Be kind."),
    )
    silent = await run_with_prompts([])
    assert (silent.prompts, silent.instructions and silent.instructions.digest) == (None, digest_instructions(None))


@pytest.mark.parametrize(
    ("prompts", "failure", "message"),
    [
        ([], "PromptsMissing", "the server has no prompt summary: correct the name in spec.prompts"),
        ([SUMMARY, SUMMARY], "PromptsAmbiguous", "the server lists two prompts of the name summary"),
        ([SUMMARY, *({"name": f"p{number}"} for number in range(512))], "TooManyPrompts", "spec.prompts maps 513"),
        (None, "PromptsMissing", "the server has no prompt summary"),
        ({}, "PromptsMissing", "the server has no prompt summary"),
        ({"summary": SUMMARY}, "ListFailed", "the server's prompts cannot be listed: its answer has no prompts"),
        ([{}], "ListFailed", "it lists what is no prompt"),
    ],
)
@requirement("verify.client")
async def test_prompts_that_are_not_as_the_map_says_are_reported(prompts: Any, failure: str, message: str) -> None:
    result = await run_with_prompts(prompts, "summary", "p*")
    assert result.failure == failure
    assert message in result.message


@requirement("verify.client")
@pytest.mark.parametrize("item", [None, {}, {"name": None}, {"title": "nameless"}, "echo"])
async def test_an_item_without_a_name_costs_no_other_tool(item: Any) -> None:
    listed = RpcResponse(1, {"tools": [item, tool("echo")]}, None)
    result = await run(a_bundle("echo"), lambda _method, _params: listed)
    assert result.failure is None
    assert result.tools is not None
    assert [one.name for one in result.tools] == ["echo"]


@pytest.mark.parametrize(
    "answer",
    [
        RpcResponse(1, {"tools": [{"title": "nameless"}]}, None),
        RpcResponse(1, {"tools": {"echo": tool("echo")}}, None),
        RpcResponse(1, {}, None),
        RpcResponse(1, None, {"code": -32601, "message": "no such method"}),
        RpcResponse(1, {"tools": [tool(f"t{number}") for number in range(2049)]}, None),
    ],
    ids=["nameless", "no list", "nothing", "refused", "too many"],
)
@requirement("verify.client")
async def test_an_invalid_list_is_reported(answer: RpcResponse) -> None:
    result = await run(a_bundle("echo"), lambda _method, _params: answer)
    assert (result.failure, result.tools) == (VerificationFailure.LIST_FAILED, None)


@requirement("verify.client", "verify.bounded")
async def test_a_server_that_is_not_there_or_does_not_answer_is_waited_for_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(verifier, "INITIALIZE_SECONDS", 0.05)
        away = await run(a_bundle("echo"), listing(), is_there=False)
    assert (away.failure, away.protocol) == (VerificationFailure.SERVER_UNAVAILABLE, "")
    monkeypatch.setattr(list_cache, "LIST_SECONDS", 0.05)
    silent = await run(a_bundle("echo"), lambda _method, _params: None)
    assert silent.failure is VerificationFailure.LIST_FAILED


@pytest.mark.parametrize(
    ("called", "words"),
    [
        ({"content": [], "isError": True}, "it ended as Error, but Success is expected"),
        (None, "it ended as Error, but Success is expected"),
        (
            {"resultType": "input_required", "inputRequests": {}},
            "the server asks back, and no agent is there to answer",
        ),
    ],
)
@requirement("verify.client")
async def test_a_probe_with_another_result_is_reported(called: dict[str, Any] | None, words: str) -> None:
    result = await run(a_bundle("echo"), listing(tool("echo"), called=called), PROBE)
    assert result.failure is VerificationFailure.PROBE_FAILED
    assert words in result.message


@requirement("verify.client", "verify.bounded")
async def test_a_probe_is_given_up_after_its_time() -> None:
    quick = PlannedProbe("look", "echo", {}, "Success", 50)
    answers = listing(tool("echo"))
    async with asyncio.timeout(5):
        result = await run(
            a_bundle("echo"), lambda method, params: answers(method, params) if method == "tools/list" else None, quick
        )
    assert result.message == "probe look of tool echo: it took more than 0.05 s"


async def test_a_server_request_during_verification_is_refused() -> None:
    listener = NullListener(a_bundle("echo"))
    server = Server(listener, listing())
    listener.handle_request(server, RpcRequest(7, "sampling/createMessage", {}))  # type: ignore[arg-type]
    assert server.responses[0].error is not None


async def test_unmapped_names_are_shown_without_unprintable_characters() -> None:
    result = await run(a_bundle("echo"), listing(tool("echo"), tool("a\u200bb\n"), tool("x" * 500), tool("")))
    assert result.unmapped == ("?", "a?b?", "x" * 127 + "~")
    many = await run(a_bundle("echo"), listing(tool("echo"), *(tool(f"t{number:03}") for number in range(70))))
    assert (len(many.unmapped), many.omitted) == (64, 6)
