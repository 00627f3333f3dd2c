"""The name of every child: short enough for a label, and the placement's where the child is the placement's."""

import hashlib

from interlock.api.isolation import Isolation
from interlock.deployment.placement import Placement

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
