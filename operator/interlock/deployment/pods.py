"""What is in a pod: agent, guard and MCP servers in one, or the agent in one and the rest in another."""

from typing import Any

from interlock.deployment.agent_config import build_config_volume
from interlock.deployment.agent_container import TMP_VOLUME, build_agent
from interlock.deployment.gate import build_gate
from interlock.deployment.guard_sidecar import GUARD_HOST, build_guard, build_guard_volumes
from interlock.deployment.http_servers import build_secrets_volume
from interlock.deployment.mcp_sidecar import build_server_volumes, build_servers
from interlock.deployment.placement import Placement
from interlock.deployment.security import pod_security
from interlock.deployment.service_account import service_account_name

GRACE_SECONDS = 1  # a kill cannot shorten a longer one that a plain delete has begun


def build_shared_pod(placement: Placement) -> dict[str, Any]:
    """Return the pod of guard, MCP servers and agent."""
    return {
        "serviceAccountName": service_account_name(placement.agent),
        **_common(),
        "initContainers": [build_guard(placement), *build_servers(placement)],
        "containers": [build_agent(placement)],
        "volumes": [*_guard_volumes(placement), *_agent_volumes(placement)],
    }


def build_agent_pod(placement: Placement) -> dict[str, Any]:
    """Return the agent's pod of its own: first the gate, then the agent; no identity, no DNS, its guard by one name."""
    return {
        **_common(),
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},  # nobody answers there: a look-up fails at once
        "hostAliases": [{"ip": address, "hostnames": [GUARD_HOST]} for address in placement.guard_addresses],
        "initContainers": [build_gate(placement)],
        "containers": [build_agent(placement)],
        "volumes": _agent_volumes(placement),
    }


def build_guard_pod(placement: Placement) -> dict[str, Any]:
    """Return the guard's pod of its own; its servers need it before them, so it is a sidecar wherever there are any."""
    guard, servers = build_guard(placement), build_servers(placement)
    ordered = {"initContainers": [guard], "containers": [_plain(one) for one in servers]}
    return {
        "serviceAccountName": service_account_name(placement.agent),
        **_common(),
        **(ordered if servers else {"containers": [_plain(guard)]}),
        "volumes": _guard_volumes(placement),
    }


def _common() -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(),
    }


def _agent_volumes(placement: Placement) -> list[dict[str, Any]]:
    return [build_config_volume(placement), {"name": TMP_VOLUME, "emptyDir": {}}]


def _guard_volumes(placement: Placement) -> list[dict[str, Any]]:
    return [
        *build_guard_volumes(placement),
        *build_secrets_volume(placement),
        *build_server_volumes(placement),
    ]


def _plain(container: dict[str, Any]) -> dict[str, Any]:
    """Return a sidecar as an ordinary container, which has no restart policy of its own."""
    return {name: value for name, value in container.items() if name != "restartPolicy"}
