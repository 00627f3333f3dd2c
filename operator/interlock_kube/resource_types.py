"""The kinds of objects, and their paths in the API server's URLs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interlock_contract.names import AGENT_POLICIES, AGENTS, API_PATH, BUDGET_LEDGERS, MCP_BINDINGS

Key = tuple[str, str]
"""Namespace and name of an object."""

_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_SEGMENT = re.compile(r"[^/?#%\\\s\x00-\x1f\x7f]+")


def is_object_name(text: str) -> bool:
    """Return True if an object in a namespace can have a name.

    No request may be sent for any other text that a user wrote: `../x` and `x?watch=true` are paths to something else.
    """
    return _OBJECT_NAME.fullmatch(text) is not None


def _segment(text: str) -> str:
    """Return a namespace or name as one segment of a path, which leads to no other object.

    Raises:
        ValueError: The text has `/`, `?`, `#`, `%`, a backslash or a space, or it is empty, `.` or `..`.
    """
    if text in (".", "..") or not _SEGMENT.fullmatch(text):
        raise ValueError(f"{text!r:.80} is no name of an object: it would lead to another path of the API server")
    return text


def key_of(found: Mapping[str, Any]) -> Key:
    """Return the key of an object."""
    return found["metadata"]["namespace"], found["metadata"]["name"]


def version_of(found: Mapping[str, Any]) -> int:
    """Return an object's resource version, which grows with every write (Kubernetes 1.35 promises the order)."""
    return int(found["metadata"]["resourceVersion"])


@dataclass(frozen=True)
class ResourceType:
    """One kind of object.

    Attributes:
        kind: Such as `Deployment`.
        prefix: Such as `/apis/apps/v1`.
        plural: Such as `deployments`.
    """

    kind: str
    prefix: str
    plural: str

    @property
    def api_version(self) -> str:
        """Such as `apps/v1`."""
        return self.prefix.removeprefix("/apis/").removeprefix("/api/")

    def everywhere(self) -> str:
        """Return the path of all objects of the kind, in every namespace."""
        return f"{self.prefix}/{self.plural}"

    def within(self, namespace: str) -> str:
        """Return the path of the namespace's objects of the kind.

        Raises:
            ValueError: The namespace is no name.
        """
        return f"{self.prefix}/namespaces/{_segment(namespace)}/{self.plural}"

    def path(self, namespace: str, name: str, subresource: str = "") -> str:
        """Return the path of one object, or of one of its subresources.

        Raises:
            ValueError: Namespace or name is no name. Names of Roles may have other characters than those of
                `is_object_name`, but none that ends a segment.
        """
        return f"{self.within(namespace)}/{_segment(name)}{'/' + _segment(subresource) if subresource else ''}"


_RBAC = "/apis/rbac.authorization.k8s.io/v1"

AGENT = ResourceType("Agent", API_PATH, AGENTS)
AGENT_POLICY = ResourceType("AgentPolicy", API_PATH, AGENT_POLICIES)
MCP_BINDING = ResourceType("MCPBinding", API_PATH, MCP_BINDINGS)
BUDGET_LEDGER = ResourceType("BudgetLedger", API_PATH, BUDGET_LEDGERS)
NODE = ResourceType("Node", "/api/v1", "nodes")
SERVICE_CIDR = ResourceType("ServiceCIDR", "/apis/networking.k8s.io/v1", "servicecidrs")
POD = ResourceType("Pod", "/api/v1", "pods")
REPLICA_SET = ResourceType("ReplicaSet", "/apis/apps/v1", "replicasets")
DEPLOYMENT = ResourceType("Deployment", "/apis/apps/v1", "deployments")
CONTROLLER_REVISION = ResourceType("ControllerRevision", "/apis/apps/v1", "controllerrevisions")
SERVICE = ResourceType("Service", "/api/v1", "services")
SERVICE_ACCOUNT = ResourceType("ServiceAccount", "/api/v1", "serviceaccounts")
ENDPOINT_SLICE = ResourceType("EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices")
LEASE = ResourceType("Lease", "/apis/coordination.k8s.io/v1", "leases")
JOB = ResourceType("Job", "/apis/batch/v1", "jobs")
CONFIG_MAP = ResourceType("ConfigMap", "/api/v1", "configmaps")
EVENT = ResourceType("Event", "/apis/events.k8s.io/v1", "events")

CHILDREN = (
    DEPLOYMENT,
    JOB,
    CONFIG_MAP,
    LEASE,
    SERVICE,
    SERVICE_ACCOUNT,
    ResourceType("Role", _RBAC, "roles"),
    ResourceType("RoleBinding", _RBAC, "rolebindings"),
    ResourceType("NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies"),
    ResourceType("PodDisruptionBudget", "/apis/policy/v1", "poddisruptionbudgets"),
)
"""The kinds of children that the operator reads."""
SECRET = ResourceType("Secret", "/api/v1", "secrets")
BY_KIND = {kind.kind: kind for kind in (*CHILDREN, SECRET)}
