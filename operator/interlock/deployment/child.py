"""A child object of an Agent: how it is named, and its manifest as Kubernetes JSON."""

from dataclasses import dataclass
from typing import Any

from interlock.api.agent import Agent
from interlock.deployment.labels import owner_reference

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
