"""Tool pins: the tools of a server compared with the verified ones, their drift, and its acceptance."""

import difflib
import functools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from interlock.api.binding import MCPBinding
from interlock.api.verification import MAX_DIFF, ToolState, VerificationStatus, VerifiedTool
from interlock_contract.bundle import BundleTool
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.mapping import find_named, is_name_glob
from interlock_contract.strict_json import JsonInvalid, parse_json
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


_CUT: Final = "\n(the rest is cut off)"
_NUMBER: Final = re.compile(r"([-+])(\d+)")
_MAX_LINES: Final = 2000
"""Most lines of a difference that is computed, of both texts together and without what they begin and end with alike.
The time that it takes grows with their square and more."""


def build_diff_request(binding: MCPBinding, definitions: Mapping[str, str], where: str) -> bytes:
    """Return the input of `diff_changes` for the tools that have drifted; empty without any.

    Args:
        binding: The binding, with the compared tools in its status.
        definitions: Canonical texts of tools, by their digests, as far as they are known.
        where: The place of both texts, for differences that are too large.
    """
    changes = [
        {
            "name": tool.name,
            "state": tool.state.value,
            "before": definitions.get(tool.pinned_digest, ""),
            "after": definitions.get(tool.digest, ""),
        }
        for tool in drifted_tools(binding)
    ]
    return json.dumps({"where": where, "changes": changes}).encode() if changes else b""


def diff_changes(request: bytes) -> bytes:
    """Return the readable differences of tools, at most `MAX_DIFF` characters.

    MCP servers wrote the texts, and the time that a difference takes can be anything: this runs in a worker process.

    Args:
        request: What `build_diff_request` returns.
    """
    wanted = json.loads(request)
    text = ""
    for change in wanted["changes"]:
        text += ("\n" if text else "") + _describe(**change, where=wanted["where"])
        if len(text) > MAX_DIFF:
            break
    return _cut(text).encode()


def describe_drift(binding: MCPBinding, changes: str) -> str:
    """Return what has drifted, at most `MAX_DIFF` characters.

    Args:
        binding: The binding, with the compared tools in its status.
        changes: The differences of its tools.
    """
    known = binding.verification
    image = f"image {known.image}: was {known.image_digest}, is {known.observed_image_digest}"
    return _cut("\n".join([*([image] if has_other_image(known) else []), *([changes] if changes else [])]))


def describe_too_large(what: str, where: str) -> str:
    """Return the text in place of a difference that is too large."""
    return f"{what}: changed; the difference is too large to be shown; compare {where}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_DIFF else text[: MAX_DIFF - len(_CUT)] + _CUT


def _describe(*, name: str, state: str, before: str, after: str, where: str) -> str:
    if state == ToolState.MISSING:
        return f"tool {name}: no longer listed"
    if state == ToolState.ADDED:
        return "\n".join([f"tool {name}: new under a glob", *(_readable(after) if after else ())])
    if not before or not after:
        return f"tool {name}: changed; what it was, or is, was too long to be kept"
    old, new = _readable(before), _readable(after)
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    if len(old) + len(new) - 2 * (start + end) > _MAX_LINES:
        return describe_too_large(f"tool {name}", where)
    start, end = max(0, start - 1), max(0, end - 1)  # one line of context on both sides
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    lines = difflib.unified_diff(old, new, f"{name} as verified", f"{name} as listed now", lineterm="", n=1)
    # The numbers of lines are those of the whole texts: `@@ -1,3 +1,3 @@` of what begins at line 40 is `-41,3 +41,3`.
    shift = functools.partial(_NUMBER.sub, lambda found: f"{found[1]}{int(found[2]) + start}")
    return "\n".join(shift(line) if line.startswith("@@") else line for line in lines)


def _readable(definition: str) -> list[str]:
    """Return a canonical tool as lines to be read, in ASCII: what is invisible in a text can be seen here."""
    try:
        return json.dumps(parse_json(definition), indent=2, sort_keys=True).splitlines()
    except JsonInvalid:
        return json.dumps(definition).split(r"\n")


def _common(old: list[str], new: list[str]) -> int:
    """Return how many lines two texts begin with alike."""
    return next(
        (index for index, (one, other) in enumerate(zip(old, new, strict=False)) if one != other),
        min(len(old), len(new)),
    )
