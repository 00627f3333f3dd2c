"""The resources of agents' and MCP servers' containers: those of their specs, completed by the policy's defaults.

A container without limits may take the memory of its whole node, that of guards and other tenants included.
"""

from typing import Any

from interlock.api.policy import ContainerDefaults
from interlock.api.shared_types import ResourceAmounts, Resources
from interlock.deployment.quantities import parse_quantity


def build_resources(stated: Resources | None, defaults: ContainerDefaults) -> dict[str, Any]:
    """Return a container's `resources`, as a LimitRange would complete them.

    What the spec states stands. A default yields to it where the two contradict each other:

        stated: requests.memory 2Gi     default limit: 1Gi      -> limits.memory 2Gi
        stated: limits.memory 16Mi      default request: 32Mi   -> requests.memory 16Mi
    """
    own = Resources() if stated is None else stated
    own_requests = own.requests or ResourceAmounts()
    requests = _amounts(defaults.default_request) | _amounts(own_requests)
    limits = _amounts(defaults.default) | _amounts(own.limits or ResourceAmounts())
    for kind in requests.keys() & limits.keys():
        if _exceeds(requests[kind], limits[kind]):
            if kind in _amounts(own_requests):
                limits[kind] = requests[kind]
            else:
                requests[kind] = limits[kind]
    return {name: amounts for name, amounts in (("requests", requests), ("limits", limits)) if amounts}


def _amounts(amounts: ResourceAmounts) -> dict[str, str]:
    return amounts.model_dump(exclude_none=True)


def _exceeds(request: str, limit: str) -> bool:
    """Return True if a request is above its limit. A text that is no quantity is left to the API server."""
    try:
        return parse_quantity(request) > parse_quantity(limit)
    except ValueError:
        return False
