"""The scope of a stage: which calls are inside it, and which of them other placements of the agent serve.

Every value of a limited dimension must be inside the scope. The values of a call are in its arguments, at JSON
pointers, and the binding declares those of a resource. A call that names a value of every dimension of an excluded
scope is served elsewhere. A call that names values of two placements is therefore denied by both, and a call that names
none is served by the placement without a scope of its own.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from interlock_contract.bundle import Bundle, BundleResource, BundleTool, ScopeLimit
from interlock_contract.json_pointer import resolve_pointer
from interlock_guard.decision.constraints import MAX_VALUES

ScopeReason = Literal["ScopeUndeclared", "ScopeMissing", "OutOfScope", "ServedElsewhere"]
Scope = Sequence[ScopeLimit]


@dataclass(frozen=True, slots=True)
class ScopeBreach:
    """Why a request is outside of what a placement serves.

    Attributes:
        reason: The word of `DenyReason`.
        rule: What would have to change; empty for the entry of the binding's map.
        message: One sentence for the client.
    """

    reason: ScopeReason
    rule: str
    message: str


def find_breach(
    bundle: Bundle, entry: BundleTool | BundleResource, arguments: Any, kind: str, excluded: Sequence[Scope]
) -> ScopeBreach | None:
    """Return why a request is outside of the scope of a placement, or None.

    Args:
        bundle: The placement's bundle.
        entry: The entry of the map that the request falls under.
        arguments: The arguments of the request.
        kind: What the entry is: tool, prompt or resource.
        excluded: The scopes that other placements serve.
    """
    asked = "call" if kind == "tool" else "request"
    broken = check_scope(bundle.scope, entry, arguments)
    if broken is not None:
        reason, limit = broken
        said = _SAID[reason].format(kind=kind)
        values = ", ".join(limit.values)
        message = f"In stage {bundle.stage!r} {limit.dimension!r} is limited to {values}; this {asked} {said}."
        return ScopeBreach(reason, "", message)
    elsewhere = find_exclusion(excluded, entry, arguments) if excluded else None
    if elsewhere is None:
        return None
    message = _explain_exclusion(bundle, elsewhere, asked)
    return ScopeBreach("ServedElsewhere", describe_exclusion(bundle, elsewhere), message)


_SAID: Final[dict[ScopeReason, str]] = {
    "ScopeUndeclared": "is of a {kind} for which the binding does not say where to find it",
    "ScopeMissing": "does not say it in its arguments",
    "OutOfScope": "names something else",
}


def check_scope(
    limits: Scope, entry: BundleTool | BundleResource, arguments: Any
) -> tuple[ScopeReason, ScopeLimit] | None:
    """Return the first limit that the request breaks and why, or None.

    An entry that does not declare a limited dimension is outside the scope.
    """
    for limit in limits:
        reason = (
            _check_resource(limit, entry) if isinstance(entry, BundleResource) else _check_call(limit, entry, arguments)
        )
        if reason is not None:
            return reason, limit
    return None


def declares_scope(limits: Scope, tool: BundleTool) -> bool:
    """Return True if the tool can be called at all in a stage with these limits."""
    return {limit.dimension for limit in limits} <= {entry.dimension for entry in tool.scope}


def find_exclusion(excluded: Iterable[Scope], entry: BundleTool | BundleResource, arguments: Any) -> Scope | None:
    """Return the first excluded scope of which the request names a value in every dimension, or None.

    A scope without limits is all work. A dimension that the map does not declare, or of which the request names no
    value, is not touched.
    """
    return next((scope for scope in excluded if all(_touches(limit, entry, arguments) for limit in scope)), None)


def contains(scope: Scope, excluded: Iterable[Scope], values: Mapping[str, Sequence[str]]) -> bool:
    """Return True if a placement with this scope serves work that names these values.

    Args:
        scope: The placement's scope.
        excluded: The scopes that it leaves to others.
        values: The values that the work names, by dimension; a dimension without any is missing.
    """
    is_inside = all(
        limit.dimension in values and all(value in limit.values for value in values[limit.dimension]) for limit in scope
    )
    return is_inside and not any(touches_all(one, values) for one in excluded)


def touches_all(scope: Scope, values: Mapping[str, Sequence[str]]) -> bool:
    """Return True if work that names these values names one of every dimension of a scope."""
    return all(any(value in limit.values for value in values.get(limit.dimension, ())) for limit in scope)


def describe_scope(scope: Scope) -> str:
    """Return a scope as people write it, such as `region=eu-west,eu-north line=a`; `all` without limits."""
    return " ".join(f"{limit.dimension}={','.join(limit.values)}" for limit in scope) or "all"


def describe_values(values: Mapping[str, Sequence[str]]) -> str:
    """Return the values that work names, such as `region=eu-west,us`."""
    return " ".join(f"{dimension}={','.join(named)}" for dimension, named in values.items())


def describe_exclusion(bundle: Bundle, scope: Scope) -> str:
    """Return the rule that a denial names: the agent, and the scope that another placement serves."""
    return f"agent/{bundle.agent.name}/excluded[{describe_scope(scope)}]"


def _explain_exclusion(bundle: Bundle, scope: Scope, asked: str) -> str:
    if not scope:
        return (
            f"Stage {bundle.stage!r} serves no calls yet: revision {bundle.revision!r} is being started. "
            "Send the task to the agent's Service again later."
        )
    elsewhere = next((peer for peer in bundle.peers if tuple(peer.scope) == tuple(scope)), None)
    where = "another stage" if elsewhere is None else f"stage {elsewhere.stage!r} (revision {elsewhere.revision!r})"
    return (
        f"{where[0].upper()}{where[1:]} serves {describe_scope(scope)}, and this {asked} names a value of it, so stage "
        f"{bundle.stage!r} does not. Leave such values out, or send a task that names them to the agent's Service."
    )


def _check_call(limit: ScopeLimit, tool: BundleTool, arguments: Any) -> ScopeReason | None:
    declared = next((entry for entry in tool.scope if entry.dimension == limit.dimension), None)
    if declared is None:
        return "ScopeUndeclared"
    if declared.unscoped:
        return None
    if declared.pointer is None:
        return "ScopeUndeclared"
    value = resolve_pointer(arguments, declared.pointer)
    if value is None or value == []:  # "none given" means "all of them" to many servers
        return "ScopeMissing"
    values = value if isinstance(value, list) else [value]
    # Values are a tuple of strings, so nothing but an equal string is in it, and nothing unhashable raises.
    is_inside = len(values) <= MAX_VALUES and all(item in limit.values for item in values)
    return None if is_inside else "OutOfScope"


def _check_resource(limit: ScopeLimit, resource: BundleResource) -> ScopeReason | None:
    declared = next((entry for entry in resource.scope if entry.dimension == limit.dimension), None)
    if declared is None:
        return "ScopeUndeclared"
    if declared.unscoped:
        return None
    if not declared.values:
        return "ScopeMissing"
    return None if all(value in limit.values for value in declared.values) else "OutOfScope"


def _touches(limit: ScopeLimit, entry: BundleTool | BundleResource, arguments: Any) -> bool:
    """Return True if a request names a value of a limit, or if that cannot be told: too many values, or nested ones."""
    if isinstance(entry, BundleResource):
        of_resource = next((one for one in entry.scope if one.dimension == limit.dimension), None)
        return of_resource is not None and any(value in limit.values for value in of_resource.values or ())
    declared = next((one for one in entry.scope if one.dimension == limit.dimension), None)
    if declared is None or declared.pointer is None:
        return False
    value = resolve_pointer(arguments, declared.pointer)
    if value is None:
        return False
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_VALUES:
        return True
    return any(isinstance(item, dict | list) or _text_of(item) in limit.values for item in values)


def _text_of(item: Any) -> str:
    """Return a scalar as a text. Servers commonly take `7`, `7.0` and `"7"`, or `true` and `"true"`, for the same."""
    if isinstance(item, str):
        return item
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    return json.dumps(item)
