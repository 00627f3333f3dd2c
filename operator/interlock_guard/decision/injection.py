"""Injection: the stage's only value, written into arguments that name none, where the binding's map says so. No I/O.

The decision, the record and the server see the arguments with the value. A value that is there is never replaced, and
an explicit null or an empty list is there.
"""

from collections.abc import Mapping
from typing import Any

from interlock_contract.bundle import Bundle, ScopeLimit
from interlock_contract.json_pointer import parse_index, split_pointer
from interlock_contract.mapping import find_named
from interlock_guard.decision.constraints import allows_text
from interlock_guard.decision.decide import PROMPTS_GET, TOOLS_CALL, DecisionInput, find_source


def inject_scope(
    bundle: Bundle | None, request: DecisionInput, arguments: Mapping[str, Any], input_schema: Any = None
) -> Mapping[str, Any]:
    """Return the arguments with the values that the stage's scope has for them; the same object without any.

    Args:
        bundle: The bundle in force.
        request: The request.
        arguments: Its arguments as the client sent them; they are not changed.
        input_schema: The tool's schema, None where it is not known. What it does not allow is not written.
    """
    source = None if bundle is None or not bundle.scope else find_source(bundle, request.source)
    if bundle is None or source is None:
        return arguments
    if request.method == TOOLS_CALL:
        entry = find_named(source.tools, request.tool)
    elif request.method == PROMPTS_GET:
        entry = find_named(source.prompts, request.prompt)
    else:
        return arguments
    for declared in () if entry is None else entry.scope:
        if not declared.inject or declared.pointer is None:
            continue
        value = _only_value(bundle.scope, declared.dimension)
        tokens = split_pointer(declared.pointer)
        if value is None or (request.method == PROMPTS_GET and len(tokens) > 1):  # a prompt's arguments are texts
            continue
        if allows_text(declared.pointer, value, input_schema):
            arguments = write_absent(arguments, tokens, value)
    return arguments


def _only_value(scope: tuple[ScopeLimit, ...], dimension: str) -> str | None:
    values = next((limit.values for limit in scope if limit.dimension == dimension), ())
    return values[0] if len(values) == 1 else None


def write_absent(parent: Mapping[str, Any], tokens: list[str], value: str) -> Mapping[str, Any]:
    """Return a copy of an object with the value at a place that is not there yet; the same object if it is there.

    Objects on the way are created. Nothing is written through a list, a text or null, and no object is created where
    the pointer could mean an item of a list.
    """
    token, *rest = tokens
    if token not in parent:
        if any(one == "-" or parse_index(one) is not None for one in rest):
            return parent
        created: Any = value
        for one in reversed(rest):
            created = {one: created}
        return {**parent, token: created}
    below = parent[token]
    if not rest or not isinstance(below, dict):
        return parent
    written = write_absent(below, rest, value)
    return parent if written is below else {**parent, token: written}
