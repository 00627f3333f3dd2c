"""The scope check: every value of a limited dimension in a request must be inside the stage's scope.

The values of a call are in its arguments, at JSON pointers. The binding declares those of a resource.
"""

from collections.abc import Sequence
from typing import Any, Literal

from interlock_contract.bundle import BundleResource, BundleTool, ScopeLimit
from interlock_contract.json_pointer import resolve_pointer

ScopeReason = Literal["ScopeUndeclared", "ScopeMissing", "OutOfScope"]


def check_scope(
    limits: Sequence[ScopeLimit], entry: BundleTool | BundleResource, arguments: Any
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


def declares_scope(limits: Sequence[ScopeLimit], tool: BundleTool) -> bool:
    """Return True if the tool can be called at all in a stage with these limits."""
    return {limit.dimension for limit in limits} <= {entry.dimension for entry in tool.scope}


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
    return None if all(item in limit.values for item in values) else "OutOfScope"


def _check_resource(limit: ScopeLimit, resource: BundleResource) -> ScopeReason | None:
    declared = next((entry for entry in resource.scope if entry.dimension == limit.dimension), None)
    if declared is None:
        return "ScopeUndeclared"
    if declared.unscoped:
        return None
    if not declared.values:
        return "ScopeMissing"
    return None if all(value in limit.values for value in declared.values) else "OutOfScope"
