"""Every change of an Agent, AgentPolicy or MCPBinding asks for looks at the agents that it concerns.

Plain event handlers: kopf then writes nothing to the objects, neither finalizer nor annotations, and a look never
depends on what has changed, only on what is.
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
    """Take what happened to an Agent."""
    memo.take(AGENT, dict(event["object"]), is_deleted=event["type"] == "DELETED")


async def on_policy(event: kopf.RawEvent, memo: App, **_: Any) -> None:
    """Take what happened to an AgentPolicy."""
    memo.take(AGENT_POLICY, dict(event["object"]), is_deleted=event["type"] == "DELETED")


async def on_binding(event: kopf.RawEvent, memo: App, **_: Any) -> None:
    """Take what happened to an MCPBinding."""
    memo.take(MCP_BINDING, dict(event["object"]), is_deleted=event["type"] == "DELETED")
