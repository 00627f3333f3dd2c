"""The handlers of Agents, AgentPolicies and MCPBindings: every event goes to the router.

These are plain event handlers. kopf then writes nothing to the objects, neither a finalizer nor annotations, and a
reconcile depends on the present state alone, not on the change that woke it.
"""

from typing import Any

import kopf

from interlock.runtime.app import App
from interlock_contract.names import AGENT_POLICIES, AGENTS, GROUP, MCP_BINDINGS, VERSION
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING


def register(registry: kopf.OperatorRegistry) -> None:
    """Register the handlers of the three kinds."""
    kopf.on.event(GROUP, VERSION, AGENTS, registry=registry)(on_agent)
    kopf.on.event(GROUP, VERSION, AGENT_POLICIES, registry=registry)(on_policy)
    kopf.on.event(GROUP, VERSION, MCP_BINDINGS, registry=registry)(on_binding)


async def on_agent(event: kopf.RawEvent, memo: App, **_: Any) -> None:
    """Handle an event of an Agent."""
    memo.handle(AGENT, dict(event["object"]), is_deleted=event["type"] == "DELETED")


async def on_policy(event: kopf.RawEvent, memo: App, **_: Any) -> None:
    """Handle an event of an AgentPolicy."""
    memo.handle(AGENT_POLICY, dict(event["object"]), is_deleted=event["type"] == "DELETED")


async def on_binding(event: kopf.RawEvent, memo: App, **_: Any) -> None:
    """Handle an event of an MCPBinding."""
    memo.handle(MCP_BINDING, dict(event["object"]), is_deleted=event["type"] == "DELETED")
