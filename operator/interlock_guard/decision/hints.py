"""What a server says of its tools. It is not trusted: it can make the guard ask for more, never for less."""

from collections.abc import Mapping
from typing import Any, Final

from interlock_guard.bundle.document import Operation

_RANKS: Final[tuple[Operation, ...]] = ("read", "write", "delete")


def tightened_operation(mapped: Operation, annotations: Mapping[str, Any] | None) -> Operation:
    """Return the operation that must be granted besides the mapped one, or the mapped one itself.

    MCP's defaults (no hint: not read-only, destructive) would make a delete of every tool without annotations, so only
    what the server says explicitly counts: `readOnlyHint: false` is a write at least, and `destructiveHint: true` a
    delete, unless the tool is called read-only, in which case MCP gives the hint no meaning. A hint that is neither
    true, false nor null says nothing that can be relied on and counts as the worse.

    Args:
        mapped: The operation that the binding maps the tool to.
        annotations: The tool's `annotations` as the server lists them, None where it lists none.
    """
    if annotations is None:
        return mapped
    read_only, destructive = annotations.get("readOnlyHint"), annotations.get("destructiveHint")
    hinted: Operation = "read"
    if read_only is not None and read_only is not True:
        hinted = "write"
    if destructive is not None and destructive is not False and read_only is not True:
        hinted = "delete"
    return max(mapped, hinted, key=_RANKS.index)
