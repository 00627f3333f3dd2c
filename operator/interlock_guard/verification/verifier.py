"""The verification of one server as the guard would use it: initialize, list tools, compare with the map, probe."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from interlock_contract.bundle import Bundle, BundleSource, BundleTool, Pin
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.mapping import find_named, is_name_glob
from interlock_contract.verification import (
    INSTRUCTIONS,
    MAX_COUNT,
    MAX_DEFINITIONS,
    MAX_NAME,
    MAX_TOOLS,
    MAX_UNMAPPED,
    PlannedProbe,
    SeenDefinition,
    VerificationFailure,
    VerificationPlan,
    VerificationResult,
)
from interlock_guard.decision.decide import PROMPTS_LIST, TOOLS_CALL, TOOLS_LIST, DecisionInput, Deny, decide
from interlock_guard.downstream import capabilities
from interlock_guard.downstream.replies import needs_input
from interlock_guard.state import State
from interlock_guard.upstream.forward import Forward, build_params
from interlock_guard.upstream.list_cache import ListFailed, read_list
from interlock_guard.upstream.upstream import Upstream
from interlock_guard.wire.jsonrpc import METHOD_NOT_FOUND, RpcNotification, RpcRequest, RpcResponse

_MOST_NAMED: Final = 8
"""Tools or prompts that a message names."""
INITIALIZE_SECONDS: Final = 90.0
"""How long a server may take until it is initialized; its image may have to be pulled before that."""

Build = Callable[[BundleSource, "NullListener"], Upstream]


class NullListener:
    """The `UpstreamEvents` of a server that is being verified: no agent is there to answer its requests."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.has_begun = asyncio.Event()

    def client_capabilities(self, upstream: Upstream) -> dict[str, Any]:
        """Return what the guard will say: a server may list other tools to a client that can do less."""
        return capabilities.client_capabilities(self._bundle, upstream.source)

    def handle_connected(self, upstream: Upstream) -> None:  # noqa: ARG002 - one listener hears one server
        """Take note that the server is initialized."""
        self.has_begun.set()

    def handle_disconnected(self, upstream: Upstream) -> None:  # noqa: ARG002 - the same
        """Note that it is gone."""
        self.has_begun.clear()

    def handle_dropped(self, upstream: Upstream) -> None:
        """Ignore it: the result has the number."""

    def handle_notification(self, upstream: Upstream, notification: RpcNotification) -> None:
        """Hear nothing."""

    def handle_request(self, upstream: Upstream, request: RpcRequest) -> None:
        """Refuse: no client is there."""
        error = {"code": METHOD_NOT_FOUND, "message": "This server is being verified: no agent is there to ask."}
        upstream.respond(RpcResponse(request.id, None, error))


class _Failed(Exception):  # noqa: N818 - ends a run
    def __init__(self, failure: VerificationFailure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class _Listing:
    """The tools or prompts that a server lists, told apart by the map."""

    seen: tuple[SeenDefinition, ...]
    unmapped: tuple[str, ...]
    omitted: int
    trouble: _Failed | None


async def verify(plan: VerificationPlan, bundle: Bundle, build: Build) -> VerificationResult:
    """Verify a server; whatever is the matter with it is in the result.

    Args:
        plan: What to do.
        bundle: With the one source that the plan names; of its grants, the binding's count.
        build: Makes the upstream that the guard would use.
    """
    source = next(one for one in bundle.sources if one.name == plan.source)
    listener = NullListener(bundle)
    upstream = build(source, listener)
    upstream.limits = source.limits
    serving = asyncio.create_task(upstream.run())
    try:
        upstream.open()
        result = await _run(plan, bundle, source, upstream, listener)
        return replace(result, dropped=min(upstream.dropped.count, MAX_COUNT))
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _run(
    plan: VerificationPlan, bundle: Bundle, source: BundleSource, upstream: Upstream, listener: NullListener
) -> VerificationResult:
    result = VerificationResult(plan.run)
    try:
        await _initialize(upstream, listener)
        result = replace(result, protocol="" if upstream.server_info is None else upstream.server_info.version)
        room = _Room()
        listing = await _list(upstream, TOOLS_LIST, source.tools, room)
        result = replace(result, tools=listing.seen, unmapped=listing.unmapped, omitted=listing.omitted)
        if listing.trouble is not None:
            raise listing.trouble
        if source.prompts:
            prompts = await _list(upstream, PROMPTS_LIST, source.prompts, room)
            result = replace(result, prompts=prompts.seen)
            if prompts.trouble is not None:
                raise prompts.trouble
        if plan.instructions:
            instructions = "" if upstream.server_info is None else upstream.server_info.instructions or ""
            result = replace(result, instructions=room.see(INSTRUCTIONS, instructions))
        pins = tuple(Pin(tool.name, tool.digest) for tool in listing.seen)
        pinned = replace(bundle, sources=(replace(source, pins=pins),))
        for probe in plan.probes:
            await _probe(probe, pinned, upstream)
            result = replace(result, probes=result.probes + 1)
    except _Failed as failed:
        return replace(result, failure=failed.failure, message=str(failed))
    return result


async def _initialize(upstream: Upstream, listener: NullListener) -> None:
    try:
        async with asyncio.timeout(INITIALIZE_SECONDS):
            await listener.has_begun.wait()
    except TimeoutError:
        refusal = upstream.refusal()
        why = f"the server was not initialized within {INITIALIZE_SECONDS:.0f} s"
        raise _Failed(
            VerificationFailure.SERVER_UNAVAILABLE, why if refusal is None else f"{why}: {refusal.message}"
        ) from None


@dataclass(slots=True)
class _Room:
    """The characters of definitions that a result still has room for."""

    left: int = MAX_DEFINITIONS

    def see(self, name: str, value: Any) -> SeenDefinition:
        """Return what was seen, with its canonical text where that fits."""
        definition = canonicalize(value)
        fits = len(definition) <= self.left
        self.left -= len(definition) if fits else 0
        return SeenDefinition(name, digest_of(definition), definition if fits else "")


async def _list(upstream: Upstream, method: str, entries: Sequence[BundleTool], room: _Room) -> _Listing:
    what = _WORDS[method]
    try:
        items, _ = await read_list(upstream, method)
    except ListFailed as failed:
        raise _Failed(
            VerificationFailure.LIST_FAILED, f"the server's {what.noun}s cannot be listed: {failed}"
        ) from None
    mapped = [item for item in items if find_named(entries, item["name"]) is not None]
    unmapped = sorted({item["name"] for item in items} - {item["name"] for item in mapped})
    seen = {item["name"]: item for item in mapped[:MAX_TOOLS]}
    return _Listing(
        seen=tuple(room.see(name, seen[name]) for name in sorted(seen)),
        unmapped=tuple(_shown(name) for name in unmapped[:MAX_UNMAPPED]),
        omitted=max(0, len(unmapped) - MAX_UNMAPPED),
        trouble=_find_trouble(entries, mapped, what, unmapped),
    )


class _Words(NamedTuple):
    """The word for what a list holds, and the failures that it can have."""

    noun: str
    missing: VerificationFailure
    ambiguous: VerificationFailure
    too_many: VerificationFailure


_WORDS: Final = {
    TOOLS_LIST: _Words(
        "tool",
        VerificationFailure.TOOLS_MISSING,
        VerificationFailure.TOOLS_AMBIGUOUS,
        VerificationFailure.TOO_MANY_TOOLS,
    ),
    PROMPTS_LIST: _Words(
        "prompt",
        VerificationFailure.PROMPTS_MISSING,
        VerificationFailure.PROMPTS_AMBIGUOUS,
        VerificationFailure.TOO_MANY_PROMPTS,
    ),
}


def _find_trouble(
    entries: Sequence[BundleTool], mapped: list[dict[str, Any]], what: _Words, unmapped: Sequence[str]
) -> _Failed | None:
    names = {item["name"] for item in mapped}
    missing = [entry.name for entry in entries if not is_name_glob(entry.name) and entry.name not in names]
    if missing:
        others = f". It has {_first_of(list(map(_shown, unmapped)))}, which nothing maps" if unmapped else ""
        return _Failed(
            what.missing,
            f"the server has no {what.noun} {_first_of(missing)}: correct the name in spec.{what.noun}s, or remove "
            f"the entry{others}",
        )
    if len(names) < len(mapped):
        twice = sorted({item["name"] for item in mapped if sum(one["name"] == item["name"] for one in mapped) > 1})
        return _Failed(what.ambiguous, f"the server lists two {what.noun}s of the name {_shown(twice[0])}")
    if len(mapped) > MAX_TOOLS:
        return _Failed(
            what.too_many,
            f"spec.{what.noun}s maps {len(mapped)} {what.noun}s of the server, but {MAX_TOOLS} can be pinned: "
            "write narrower globs",
        )
    return None


def _first_of(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


async def _probe(probe: PlannedProbe, bundle: Bundle, upstream: Upstream) -> None:
    """Make one probe; what the guard would deny is never sent."""
    source = bundle.sources[0]
    pinned = {pin.name: pin.digest for pin in source.pins}
    request = DecisionInput(source.name, TOOLS_CALL, probe.tool, probe.arguments, definition=pinned.get(probe.tool, ""))
    decision = decide(bundle, State(agent_uid=bundle.agent.uid, contact_at=0.0), request, 0.0)
    is_denied = isinstance(decision, Deny)
    if probe.expect == "Denied":
        if not is_denied:
            raise _miss(probe, "the binding lets it pass, but Denied is expected")
        return
    if isinstance(decision, Deny):
        raise _miss(probe, f"the binding denies it, but {probe.expect} is expected: {decision.message}")
    ended = await _call(probe, upstream)
    if ended != probe.expect:
        raise _miss(probe, f"it ended as {ended}, but {probe.expect} is expected")


async def _call(probe: PlannedProbe, upstream: Upstream) -> str:
    """Make the call; return how it ended, in the words of expectations."""
    server_info, refusal = upstream.server_info, upstream.refusal()
    if server_info is None or refusal is not None:
        raise _miss(probe, "the server is no longer there")
    forward = Forward(
        upstream.source, TOOLS_CALL, probe.tool, params={"name": probe.tool, "arguments": probe.arguments}
    )
    call = upstream.start(TOOLS_CALL, build_params(forward, server_info, {}))
    try:
        async with asyncio.timeout(probe.milliseconds / 1000):
            outcome = await call.future
    except TimeoutError:
        upstream.abandon(call, "it took too long")
        raise _miss(probe, f"it took more than {probe.milliseconds / 1000:g} s") from None
    if isinstance(outcome, Deny):
        raise _miss(probe, outcome.message)
    if not isinstance(outcome, RpcResponse) or needs_input(outcome.result):
        raise _miss(probe, "the server asks back, and no agent is there to answer")
    is_error = outcome.result is None or outcome.result.get("isError") is True
    return "Error" if is_error else "Success"


def _miss(probe: PlannedProbe, why: str) -> _Failed:
    return _Failed(VerificationFailure.PROBE_FAILED, f"probe {probe.name} of tool {probe.tool}: {why}")


def _shown(name: str) -> str:
    """Return a name of foreign origin fit to be shown: printable and short."""
    printable = "".join(one if one.isprintable() else "?" for one in name)
    return (printable[: MAX_NAME - 1] + "~" if len(printable) > MAX_NAME else printable) or "?"
