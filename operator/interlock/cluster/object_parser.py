"""The parser of Agents, AgentPolicies and MCPBindings as the API server has them.

A spec that cannot be read as a whole is read in part, as far as revisions that run need it.
"""

from typing import Final

from pydantic import ValidationError

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy, AgentPolicyStatus
from interlock.api.stored_status import read_agent_status
from interlock.api.verification import MCPBindingStatus
from interlock.cluster.api_json import describe
from interlock.deployment.readable_part import read_part
from interlock.reconcile.snapshot import Unreadable, readable
from interlock_kube.client import Json
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING

TOO_LARGE: Final = "tooLarge"
"""A member of an Agent that is kept without its spec. The API server takes no such member."""


def parse_agent(raw: Json) -> Agent | Unreadable:
    """Return the Agent, or why it cannot be read."""
    if TOO_LARGE in raw:
        return Unreadable(AGENT.kind, raw["metadata"]["name"], raw[TOO_LARGE])
    spec, status = _without_status(raw), read_agent_status(raw.get("status"))
    try:
        agent = Agent.model_validate(spec)
    except ValidationError as error:
        part = read_part(AGENT.kind, spec, error)
        found = Unreadable(AGENT.kind, raw["metadata"]["name"], describe(error))
        return found if part is None else found.with_part(part, status=status)
    return agent.model_copy(update={"status": status})


def read_agent(raw: Json) -> Agent | None:
    """Return an Agent, or as much of it as its revisions need; None if less can be read."""
    return readable(parse_agent(raw), Agent)


def parse_policy(raw: Json) -> AgentPolicy | Unreadable:
    """Return the AgentPolicy without its status, or why it cannot be read."""
    spec = _without_status(raw)
    try:
        return AgentPolicy.model_validate(spec)
    except ValidationError as error:
        status, part = parse_policy_status(raw), read_part(AGENT_POLICY.kind, spec, error)
        found = Unreadable.of(AGENT_POLICY.kind, raw, describe(error), status.conditions if status else ())
        return found if part is None else found.with_part(part)


def parse_policy_status(raw: Json) -> AgentPolicyStatus | None:
    """Return the status; one that cannot be read counts as none, since nothing depends on it."""
    try:
        return AgentPolicyStatus.model_validate(raw["status"]) if raw.get("status") else None
    except ValidationError:
        return None


def parse_binding(raw: Json) -> MCPBinding | Unreadable:
    """Return the MCPBinding, or why it cannot be read."""
    spec, status = _without_status(raw), _parse_binding_status(raw)
    try:
        binding = MCPBinding.model_validate(spec)
    except ValidationError as error:
        part = read_part(MCP_BINDING.kind, spec, error)
        found = Unreadable.of(MCP_BINDING.kind, raw, describe(error), status.conditions if status else ())
        return found if part is None else found.with_part(part, status=status)
    return binding.model_copy(update={"status": status})


def _parse_binding_status(raw: Json) -> MCPBindingStatus | None:
    """Return the status; one that cannot be read counts as none, so the MCP server is verified again."""
    try:
        return MCPBindingStatus.model_validate(raw["status"]) if raw.get("status") else None
    except ValidationError:
        return None


def _without_status(raw: Json) -> Json:
    return {name: value for name, value in raw.items() if name != "status"}
