"""Where each kind stands in the API server's URLs."""

from dataclasses import dataclass

from interlock.api.meta import AGENT_POLICIES, AGENTS, GROUP, MCP_BINDINGS, VERSION


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    Attributes:
        kind: Such as `Deployment`.
        prefix: Such as `/apis/apps/v1`.
        plural: Such as `deployments`.
    """

    kind: str
    prefix: str
    plural: str

    def everywhere(self) -> str:
        """Return the path of all objects of the kind, in every namespace."""
        return f"{self.prefix}/{self.plural}"

    def within(self, namespace: str) -> str:
        """Return the path of the namespace's objects of the kind."""
        return f"{self.prefix}/namespaces/{namespace}/{self.plural}"

    def path(self, namespace: str, name: str, subresource: str = "") -> str:
        """Return the path of one object, or of one of its subresources."""
        return f"{self.within(namespace)}/{name}{'/' + subresource if subresource else ''}"


_OURS = f"/apis/{GROUP}/{VERSION}"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"

AGENT = Kind("Agent", _OURS, AGENTS)
AGENT_POLICY = Kind("AgentPolicy", _OURS, AGENT_POLICIES)
MCP_BINDING = Kind("MCPBinding", _OURS, MCP_BINDINGS)
POD = Kind("Pod", "/api/v1", "pods")
REPLICA_SET = Kind("ReplicaSet", "/apis/apps/v1", "replicasets")
DEPLOYMENT = Kind("Deployment", "/apis/apps/v1", "deployments")
SERVICE = Kind("Service", "/api/v1", "services")
ENDPOINT_SLICE = Kind("EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices")
JOB = Kind("Job", "/apis/batch/v1", "jobs")
EVENT = Kind("Event", "/apis/events.k8s.io/v1", "events")

CHILDREN = (
    DEPLOYMENT,
    JOB,
    Kind("ConfigMap", "/api/v1", "configmaps"),
    Kind("Lease", "/apis/coordination.k8s.io/v1", "leases"),
    SERVICE,
    Kind("ServiceAccount", "/api/v1", "serviceaccounts"),
    Kind("Role", _RBAC, "roles"),
    Kind("RoleBinding", _RBAC, "rolebindings"),
    Kind("NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies"),
)
BY_KIND = {kind.kind: kind for kind in CHILDREN}
