"""The writer of statuses: it writes the status of an Agent, AgentPolicy or MCPBinding where it has changed."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy, AgentPolicyStatus
from interlock.api.rollout_status import RolloutStatus
from interlock.api.status import AgentStatus, Condition
from interlock.api.verification import MCPBindingStatus, VerificationStatus
from interlock.reconcile.conditions import build_unreadable_conditions
from interlock.reconcile.snapshot import Unreadable
from interlock_contract.names import FIELD_MANAGER
from interlock_kube.client import NOT_FOUND, ApiError, Json, KubeClient
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING, ResourceType


class StatusWriter:
    """Writes statuses.

    Every method returns the object after the write, and None where nothing had to be written or the object is gone.
    Every method raises `ApiError` where the API server refuses the status.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def write_agent(self, agent: Agent, status: AgentStatus) -> Json | None:
        """Write an Agent's status where it differs from the one that it has; `status.kill` stays as it is."""
        before = agent.status.model_copy(update={"kill": None}) if agent.status else None
        if before == status:
            return None
        return await self._write(AGENT, agent.metadata.namespace, agent.metadata.name, _agent_patch(status))

    async def write_policy(
        self, policy: AgentPolicy, before: AgentPolicyStatus | None, status: AgentPolicyStatus
    ) -> Json | None:
        """Write an AgentPolicy's status where it differs from the one before."""
        if before == status:
            return None
        return await self._write(AGENT_POLICY, policy.metadata.namespace, policy.metadata.name, status.to_kubernetes())

    async def write_binding(self, binding: MCPBinding, status: MCPBindingStatus) -> Json | None:
        """Write an MCPBinding's status where it differs from the one that it has."""
        if binding.status == status:
            return None
        return await self._write(MCP_BINDING, binding.metadata.namespace, binding.metadata.name, _binding_patch(status))

    async def write_conditions(
        self,
        kind: ResourceType,
        key: tuple[str, str],
        before: Iterable[Condition],
        conditions: Iterable[Condition],
    ) -> Json | None:
        """Write the conditions alone of an object's status, where they differ from the ones before."""
        if tuple(before) == tuple(conditions):
            return None
        return await self._write(kind, *key, {"conditions": [condition.to_kubernetes() for condition in conditions]})

    async def write_unreadable(
        self, kind: ResourceType, key: tuple[str, str], problem: Unreadable, reason: str, now: datetime
    ) -> Json | None:
        """Write on an AgentPolicy or MCPBinding that it cannot be read, where it does not say so yet.

        Nothing is written on an object of which nothing is kept.

        Args:
            kind: The object's kind.
            key: The object.
            problem: What is known of it.
            reason: The reason of its conditions.
            now: The time.
        """
        conditions = build_unreadable_conditions(problem, reason, now)
        if not problem.generation or problem.conditions == conditions:
            return None
        found = [condition.to_kubernetes() for condition in conditions]
        return await self._write(kind, *key, {"conditions": found, "observedGeneration": problem.generation})

    async def _write(self, kind: ResourceType, namespace: str, name: str, status: dict[str, Any]) -> Json | None:
        try:
            return await self._client.patch(kind.path(namespace, name, "status"), {"status": status}, FIELD_MANAGER)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise


def _agent_patch(status: AgentStatus) -> dict[str, Any]:
    """Return the merge patch: absent fields are removed, and `kill` belongs to the kill controller."""
    body = status.to_kubernetes()
    body.pop("kill", None)
    stage = body.get("stage")
    body.setdefault("enforcement", None)
    budget = body.get("budget")
    body["budget"] = {"resetsAt": None, "exhausted": None} | budget if budget else None
    absent: dict[str, Any] = {"readySince": None, "nextAt": None, "soakRestartedAt": None, "scope": []}
    body["stage"] = absent | stage if stage else None
    rollout = body.get("rollout")
    body["rollout"] = dict.fromkeys(_ROLLOUT_PARTS) | rollout if rollout else None
    if rollout and (good := rollout.get("good")):
        body["rollout"]["good"] = {"servingSince": None} | good
    return body


_ROLLOUT_PARTS = tuple(
    field.alias or name for name, field in RolloutStatus.model_fields.items() if field.default is None
)
"""The fields of a rollout that can be absent."""


_OPTIONAL = tuple(
    field.alias or name for name, field in VerificationStatus.model_fields.items() if field.default is None
)
"""The fields of an MCPBinding's verification that can be absent."""


def _binding_patch(status: MCPBindingStatus) -> dict[str, Any]:
    """Return the merge patch: absent fields are removed, lists are written whole."""
    body = status.to_kubernetes()
    known = body.get("verification")
    if known is not None:
        known |= {name: known.get(name) for name in _OPTIONAL}
        run = known.get("run")
        known["run"] = {"endedAt": None} | run if run else None
    return body
