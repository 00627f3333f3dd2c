"""The decision on a request that a server sends to the agent. Pure, and closed wherever something is missing."""

from collections.abc import Mapping
from typing import Final

from interlock_contract.bundle import Bundle, ServerRequest
from interlock_guard.decision.decide import Allow, Decision, Deny, DenyReason, check_open, find_source
from interlock_guard.state import State

SERVER_METHODS: Final[Mapping[str, ServerRequest]] = {
    "sampling/createMessage": "Sampling",
    "elicitation/create": "Elicitation",
    "roots/list": "Roots",
}
"""Requests of servers to clients, and their names in a binding; the guard itself answers `ping`."""


def decide_server_request(
    bundle: Bundle | None, state: State, source: str, method: str, now: float, *, obstacle: str = ""
) -> Decision:
    """Decide on a request of a source's server to the agent; only those that the binding names pass.

    Args:
        bundle: The bundle in force, or None.
        state: What is known of the Agent.
        source: Name of the source whose server asks.
        method: Such as `sampling/createMessage`; in sessionless versions the method of an input request.
        now: Seconds on the clock of `state.contact_at`.
        obstacle: Why no client can be given the request; empty if one can.
    """
    closed = check_open(bundle, state, now)
    if closed is not None:
        return closed
    served = find_source(bundle, source)
    if served is None:
        return Deny(DenyReason.UNKNOWN_SOURCE, "", "This agent has no such source.")
    rule = f"mcpbinding/{served.binding}/serverRequests"
    asked = SERVER_METHODS.get(method)
    if asked is None or asked not in served.server_requests:
        return Deny(
            DenyReason.SERVER_REQUEST_NOT_ALLOWED, rule, "The binding does not let this server ask its agent for that."
        )
    return Deny(DenyReason.SERVER_REQUEST_NOT_PASSED, rule, obstacle) if obstacle else Allow(rule)
