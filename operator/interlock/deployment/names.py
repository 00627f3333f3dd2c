"""The name of every child: short enough for a label, and the placement's where the child is the placement's."""

import hashlib
from dataclasses import dataclass
from typing import Any

from interlock.api.agent import Agent
from interlock.api.policy import Isolation
from interlock.deployment.placement import Placement
from interlock_contract.names import (
    AGENT_LABEL,
    API_VERSION,
    APP_COMPONENT_LABEL,
    APP_INSTANCE_LABEL,
    APP_MANAGED_BY_LABEL,
    APP_NAME,
    APP_NAME_LABEL,
    APP_PART_OF_LABEL,
    GUARD_LABEL,
    ISOLATION_LABEL,
    MANAGED_BY,
    PART_OF,
    REVISION_LABEL,
    STAGE_LABEL,
)

LABEL_LENGTH = 63
VERIFICATION_LENGTH = 48


def placement_name(agent: str, stage: str, revision: str) -> str:
    """Return `<agent>-<10 hexadecimal digits of stage and revision>`, at most 63 characters for agents of 52."""
    return f"{agent}-{hashlib.sha256(f'{stage}/{revision}'.encode()).hexdigest()[:10]}"


def name_of(placement: Placement) -> str:
    """Return the name that a placement's own objects share: bundle, Lease, the guard's Role, a shared Deployment."""
    return placement_name(placement.agent.metadata.name, placement.stage.name, placement.revision)


def workload_names(base: str, isolation: Isolation) -> tuple[str, ...]:
    """Return the names of a placement's Deployments: one for both, or the agent's and the guard's.

    Args:
        base: The placement's name.
        isolation: How far apart agent and guard stand.
    """
    return (base,) if isolation == "Shared" else (_label(f"{base}-agent"), _label(f"{base}-guard"))


def agent_workload(placement: Placement) -> str:
    """Return the name of the Deployment that the agent runs in, and of its NetworkPolicy."""
    return workload_names(name_of(placement), placement.isolation)[0]


def guard_workload(placement: Placement) -> str:
    """Return the name of the Deployment that the guard runs in, and of its NetworkPolicy."""
    return workload_names(name_of(placement), placement.isolation)[-1]


def guard_service(placement: Placement) -> str:
    """Return the name of the Service through which an agent's pod of its own reaches its guard."""
    return _service(f"{name_of(placement)}-guard")


def agent_service(placement: Placement) -> str:
    """Return the name of the headless Service through which a guard's pod of its own reaches its agent."""
    return _service(f"{name_of(placement)}-agent")


def agent_config(placement: Placement) -> str:
    """Return the name of the ConfigMap that the agent's container mounts."""
    return f"{name_of(placement)}-files"


def mcp_container(source: str) -> str:
    """Return the name of the sidecar that runs a source's MCP server, at most 63 characters."""
    return _label(f"mcp-{source}")


def mcp_volume(source: str) -> str:
    """Return the name of the volume that is the /tmp of a source's MCP server, at most 63 characters."""
    return _label(f"tmp-mcp-{source}")


def _service(name: str) -> str:
    """Return the name as a Service's: it must begin with a letter (RFC 1035), which an agent's name need not."""
    return _label(name if name[0].isalpha() else f"a-{name}")


def verification_name(binding: str) -> str:
    """Return the name that what verifies a binding shares, at most 48 characters: names of pods are made from it."""
    name = f"{binding}-verify"
    return name if len(name) <= VERIFICATION_LENGTH else f"{binding[:32]}-{_short(binding)}-verify"


def binding_label(binding: str) -> str:
    """Return a binding's name as the value of a label, at most 63 characters."""
    return _label(binding)


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _label(name: str) -> str:
    """Return the name as a DNS label: what is too long ends in a digest of it, so that two never come out alike."""
    if len(name) <= LABEL_LENGTH:
        return name
    return f"{name[:54]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def agent_labels(agent: Agent, component: str) -> dict[str, str]:
    """Return the labels of a child that belongs to the agent as a whole.

    `app.kubernetes.io/*` as in the Kubernetes documentation, "Recommended Labels".
    """
    return {
        APP_NAME_LABEL: APP_NAME,
        APP_INSTANCE_LABEL: agent.metadata.name,
        APP_COMPONENT_LABEL: component,
        APP_PART_OF_LABEL: PART_OF,
        APP_MANAGED_BY_LABEL: MANAGED_BY,
        AGENT_LABEL: agent.metadata.name,
    }


def placement_labels(placement: Placement, component: str) -> dict[str, str]:
    """Return the labels of a child that belongs to one placement."""
    return agent_labels(placement.agent, component) | {
        STAGE_LABEL: placement.stage.name,
        REVISION_LABEL: placement.revision,
    }


AGENT_POD, GUARD_POD = "agent", "guard"
"""Components of pods: the one with the agent in it (and the guard, where they share one), and the guard's own."""


def pod_labels(placement: Placement, component: str) -> dict[str, str]:
    """Return the labels of a pod; the one that a guard runs in says whose it is."""
    has_guard = component == GUARD_POD or not placement.is_separate
    return {
        **placement_labels(placement, component),
        ISOLATION_LABEL: placement.isolation,
        **({GUARD_LABEL: placement.agent.metadata.name} if has_guard else {}),
    }


def selector(placement: Placement, component: str = AGENT_POD) -> dict[str, str]:
    """Return the labels that select the pods of one component of this placement and no others.

    The isolation is among them: a policy that changes it must not end the pods of the new kind with those of the old.
    """
    return {
        AGENT_LABEL: placement.agent.metadata.name,
        STAGE_LABEL: placement.stage.name,
        REVISION_LABEL: placement.revision,
        APP_COMPONENT_LABEL: component,
        ISOLATION_LABEL: placement.isolation,
    }


def owner_reference(agent: Agent) -> dict[str, Any]:
    """Return the reference through which Kubernetes deletes a child with its Agent."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Agent",
        "name": agent.metadata.name,
        "uid": agent.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


Manifest = dict[str, Any]


@dataclass(frozen=True, order=True)
class ChildKey:
    """What tells one child of an agent from another.

    Attributes:
        kind: Such as `Deployment`.
        name: Its `metadata.name`; the namespace is the Agent's.
    """

    kind: str
    name: str


def key_of(manifest: Manifest) -> ChildKey:
    """Return the key of a manifest."""
    return ChildKey(manifest["kind"], manifest["metadata"]["name"])


def build_child(agent: Agent, api_version: str, kind: str, name: str, labels: dict[str, str], **body: Any) -> Manifest:
    """Return a manifest in the agent's namespace, owned by the agent."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": agent.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(agent)],
        },
        **body,
    }
