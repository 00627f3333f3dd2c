"""Tell what was found: the Agent's status, and Events for its transitions."""

import logging
import secrets
from datetime import datetime
from typing import Any

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy, AgentPolicyStatus
from interlock.api.shared_types import ObjectMeta
from interlock.api.status import AgentStatus
from interlock.api.verification import MCPBindingStatus
from interlock.reconcile.agent_events import EventNote
from interlock_contract.names import API_VERSION, FIELD_MANAGER
from interlock_kube.client import NOT_FOUND, ApiError, Json, KubeClient
from interlock_kube.resource_types import AGENT, AGENT_POLICY, EVENT, MCP_BINDING, ResourceType

_log = logging.getLogger(__name__)

_NOTE_LENGTH = 1024  # of an Event's note, by the API server's own rule


class StatusWriter:
    """Writes the status of what users apply, and posts Events."""

    def __init__(self, client: KubeClient, instance: str) -> None:
        self._client = client
        self._instance = instance

    async def report(self, agent: Agent, status: AgentStatus) -> Json | None:
        """Write the status where it differs from what the Agent says; return the new object.

        None: nothing had to be written, or the Agent is gone.

        Raises:
            ApiError: The API server refused it.
        """
        before = agent.status.model_copy(update={"kill": None}) if agent.status else None
        if before == status:
            return None
        return await self._write(AGENT, agent.metadata, _patch(status))

    async def report_policy(
        self, policy: AgentPolicy, before: AgentPolicyStatus | None, status: AgentPolicyStatus
    ) -> Json | None:
        """Write an AgentPolicy's status where it differs from the one before; return the new object.

        None: nothing had to be written, or the policy is gone.

        Raises:
            ApiError: The API server refused it.
        """
        if before == status:
            return None
        return await self._write(AGENT_POLICY, policy.metadata, status.to_kubernetes())

    async def report_binding(self, binding: MCPBinding, status: MCPBindingStatus) -> Json | None:
        """Write an MCPBinding's status where it differs from what it says; return the new object.

        None: nothing had to be written, or the binding is gone.

        Raises:
            ApiError: The API server refused it.
        """
        if binding.status == status:
            return None
        return await self._write(MCP_BINDING, binding.metadata, _binding_patch(status))

    async def _write(self, kind: ResourceType, metadata: ObjectMeta, status: dict[str, Any]) -> Json | None:
        try:
            return await self._client.patch(
                kind.path(metadata.namespace, metadata.name, "status"), {"status": status}, FIELD_MANAGER
            )
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def post(self, about: Agent | MCPBinding, note: EventNote, now: datetime) -> None:
        """Post an Event; one that is lost is lost, conditions are the truth."""
        metadata = about.metadata
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata.name}.{secrets.token_hex(8)}", "namespace": metadata.namespace},
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "interlock.dev/operator",
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": note.type,
            "reason": note.reason,
            "note": note.message[:_NOTE_LENGTH],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": about.kind,
                "namespace": metadata.namespace,
                "name": metadata.name,
                "uid": metadata.uid,
            },
        }
        try:
            await self._client.create(EVENT.within(metadata.namespace), event)
        except (ApiError, OSError, TimeoutError) as error:
            _log.warning(
                "event not posted", extra={"object": metadata.name, "reason": note.reason, "error": str(error)}
            )


def _binding_patch(status: MCPBindingStatus) -> dict[str, Any]:
    """Return the merge patch: what is absent is taken away, lists are written whole."""
    body = status.to_kubernetes()
    known = body.get("verification")
    if known is not None:
        known |= {name: known.get(name) for name in ("verifiedAt", "nextAt")}
        run = known.get("run")
        known["run"] = {"endedAt": None} | run if run else None
    return body


def _patch(status: AgentStatus) -> dict[str, Any]:
    """Return the merge patch: what is absent is taken away, `kill` is not ours to touch."""
    body = status.to_kubernetes()
    body.pop("kill", None)
    stage = body.get("stage")
    body.setdefault("enforcement", None)
    body["stage"] = {"readySince": None, "nextAt": None, "scope": []} | stage if stage else None
    return body
