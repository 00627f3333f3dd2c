"""The agent's ServiceAccount: an identity without a token in any pod but the guard's own projected one."""

from interlock.api.agent import Agent
from interlock.deployment.child import Manifest, build_child
from interlock.deployment.labels import agent_labels


def service_account_name(agent: Agent) -> str:
    """Return the ServiceAccount's name: one for all placements of the agent."""
    return f"{agent.metadata.name}-guard"


def build_service_account(agent: Agent) -> Manifest:
    """Return the ServiceAccount under which the agent's pods run."""
    return build_child(
        agent,
        "v1",
        "ServiceAccount",
        service_account_name(agent),
        agent_labels(agent, "guard"),
        automountServiceAccountToken=False,
    )
