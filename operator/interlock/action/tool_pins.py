"""Tool pins: the tools of a server compared with the verified ones, their drift, and its acceptance."""

import difflib
import json
from collections.abc import Iterable, Mapping

from interlock.api.binding import MCPBinding
from interlock.api.verification import MAX_DIFF, ToolState, VerificationStatus, VerifiedTool
from interlock_contract.bundle import BundleTool
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.mapping import find_named, is_name_glob
from interlock_contract.verification import SeenTool


def compare_tools(binding: MCPBinding, seen: Iterable[SeenTool], *, may_pin: bool) -> tuple[VerifiedTool, ...]:
    """Return every mapped tool with its state.

    Args:
        binding: The binding, with what is pinned already in its status.
        seen: The mapped tools as the server lists them.
        may_pin: Whether the verification has succeeded: then everything is pinned the first time, and later what the
            spec has come to map by name. What only falls under a glob then is new, and needs an accept.
    """
    pinned = {tool.name: tool.pinned_digest for tool in binding.verification.tools if tool.pinned_digest}
    written = _written(binding)
    compared: dict[str, VerifiedTool] = {}
    for tool in seen:
        pin = pinned.get(tool.name, "")
        if not pin and may_pin and (not pinned or tool.name in written):
            pin = tool.digest
        compared[tool.name] = VerifiedTool(
            name=tool.name, state=_state(pin, tool.digest), digest=tool.digest, pinned_digest=pin
        )
    for name, pin in pinned.items():
        if name not in compared and is_mapped(binding, name):
            compared[name] = VerifiedTool(name=name, state=ToolState.MISSING, pinned_digest=pin)
    return tuple(compared[name] for name in sorted(compared))


def accept_tools(tools: Iterable[VerifiedTool]) -> tuple[VerifiedTool, ...]:
    """Return the tools with what is listed now pinned; a tool that is no longer listed loses its pin."""
    return tuple(
        VerifiedTool(name=tool.name, state=ToolState.VERIFIED, digest=tool.digest, pinned_digest=tool.digest)
        for tool in tools
        if tool.digest
    )


def drifted_tools(binding: MCPBinding) -> tuple[VerifiedTool, ...]:
    """Return the tools that are not what was verified; one that the spec maps by name and is not pinned yet is none."""
    written = _written(binding)
    return tuple(
        tool
        for tool in binding.verification.tools
        if tool.state != ToolState.VERIFIED and not (tool.state == ToolState.ADDED and tool.name in written)
    )


def observed_digest(known: VerificationStatus) -> str:
    """Return the digest of image and tools as they are."""
    return _digest(known.observed_image_digest, {tool.name: tool.digest for tool in known.tools if tool.digest})


def pinned_digest(known: VerificationStatus) -> str:
    """Return the digest of image and tools as they were verified or accepted; empty where nothing was."""
    pins = {tool.name: tool.pinned_digest for tool in known.tools if tool.pinned_digest}
    return _digest(known.image_digest, pins) if known.verified_at else ""


def has_other_image(known: VerificationStatus) -> bool:
    """Tell whether another image stands behind the name than when it was pinned; an unknown one is no other."""
    return bool(known.image_digest and known.observed_image_digest not in ("", known.image_digest))


def is_mapped(binding: MCPBinding, name: str) -> bool:
    """Tell whether the binding maps a tool of this name, by name or by a glob, as the guard does."""
    entries = tuple(BundleTool(tool.name, tool.operation, tool.resource) for tool in binding.spec.tools)
    return find_named(entries, name) is not None


def _written(binding: MCPBinding) -> frozenset[str]:
    return frozenset(tool.name for tool in binding.spec.tools if not is_name_glob(tool.name))


def _state(pin: str, digest: str) -> ToolState:
    if not pin:
        return ToolState.ADDED
    return ToolState.VERIFIED if pin == digest else ToolState.CHANGED


def _digest(image: str, tools: dict[str, str]) -> str:
    return digest_of(canonicalize({"image": image, "tools": tools}))


def readable(definition: str) -> list[str]:
    """Return a canonical tool as lines to be read, in ASCII: what is invisible in a text can be seen here."""
    return json.dumps(json.loads(definition), indent=2, sort_keys=True).splitlines()


_CUT = "\n(the rest is cut off)"


def describe_drift(binding: MCPBinding, definitions: Mapping[str, str]) -> str:
    """Return what has changed, at most `MAX_DIFF` characters.

    Args:
        binding: The binding, with the compared tools in its status.
        definitions: Canonical texts of tools, by their digests, as far as they are known.
    """
    known = binding.verification
    parts = []
    if has_other_image(known):
        parts.append(f"image {known.image}: was {known.image_digest}, is {known.observed_image_digest}")
    parts += [_describe(tool, definitions) for tool in drifted_tools(binding)]
    text = "\n".join(parts)
    return text if len(text) <= MAX_DIFF else text[: MAX_DIFF - len(_CUT)] + _CUT


def _describe(tool: VerifiedTool, definitions: Mapping[str, str]) -> str:
    if tool.state == ToolState.MISSING:
        return f"tool {tool.name}: no longer listed"
    before, after = definitions.get(tool.pinned_digest), definitions.get(tool.digest)
    if tool.state == ToolState.ADDED:
        return "\n".join([f"tool {tool.name}: new under a glob", *(readable(after) if after else ())])
    if before is None or after is None:
        return f"tool {tool.name}: changed; what it was, or is, was too long to be kept"
    lines = difflib.unified_diff(
        readable(before), readable(after), f"{tool.name} as verified", f"{tool.name} as listed now", lineterm="", n=1
    )
    return "\n".join(lines)
