"""The NetworkPolicy of a placement's pods."""

from typing import Any

from interlock.deployment.child import Manifest, build_child
from interlock.deployment.guard_sidecar import OBSERVE_PORT
from interlock.deployment.labels import placement_labels, selector
from interlock.deployment.names import name_of
from interlock.deployment.placement import Placement

# Where clouds hand out credentials: link-local, and the exceptions to that of Alibaba and Oracle, AWS and GCP.
METADATA = ["169.254.0.0/16", "100.100.100.200/32", "192.0.0.192/32"]
METADATA_V6 = ["fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"]


def build_network_policy(placement: Placement) -> Manifest:
    """Return the policy: nobody reaches the pod but at the guard's metrics and probes; no metadata services.

    Agent and guard share the pod's network here (`isolation: Shared`), so this is no egress boundary between
    the agent and what the MCP servers, beside it or over HTTP, must reach. What the guard itself dials is decided by
    the guard, address by address (`interlock_guard.dialer`).
    """
    return build_child(
        placement.agent,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        name_of(placement),
        placement_labels(placement, "network"),
        spec={
            "podSelector": {"matchLabels": selector(placement)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": OBSERVE_PORT, "protocol": "TCP"}]}],
            "egress": [{"to": _everywhere_but_metadata()}],
        },
    )


def _everywhere_but_metadata() -> list[dict[str, Any]]:
    return [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": METADATA}},
        {"ipBlock": {"cidr": "::/0", "except": METADATA_V6}},
        {"namespaceSelector": {}},  # where an ipBlock does not match pods
    ]
