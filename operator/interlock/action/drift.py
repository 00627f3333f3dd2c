"""A drift as lines that somebody can read before accepting it."""

import difflib
from collections.abc import Mapping

from interlock.action.pins import drifted_tools, has_other_image, readable
from interlock.api.mcpbinding import MCPBinding
from interlock.api.verification import MAX_DIFF, ToolState, VerifiedTool

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
        return f"tool {tool.name}: listed no more"
    before, after = definitions.get(tool.pinned_digest), definitions.get(tool.digest)
    if tool.state == ToolState.ADDED:
        return "\n".join([f"tool {tool.name}: new under a glob", *(readable(after) if after else ())])
    if before is None or after is None:
        return f"tool {tool.name}: changed; what it was, or is, was too long to be kept"
    lines = difflib.unified_diff(
        readable(before), readable(after), f"{tool.name} as verified", f"{tool.name} as listed now", lineterm="", n=1
    )
    return "\n".join(lines)
