"""The resources of containers: those of agents and MCP servers, and those of Interlock's own.

A container without limits may take the memory of its whole node, that of guards and other tenants included. In a
namespace with a LimitRange it would get the limits of that one, which are often too low for a guard.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from interlock.api.pod_policy import PodMaximums
from interlock.api.policy import ContainerDefaults, DefaultLimits, DefaultRequests
from interlock.api.quantities import exceeds, limit_exceeds
from interlock.api.shared_types import ResourceAmounts, ResourceLimits, Resources
from interlock.deployment.placement import Placement

OWN_CPU_LIMIT: Final = "1"
"""CPU limit of each of Interlock's own containers unless installation or policy state another."""


@dataclass(frozen=True)
class ContainerNeeds:
    """What one of Interlock's own containers needs.

    Attributes:
        cpu: CPU that it requests unless another amount is stated.
        memory: Memory that it requests unless another amount is stated, in MiB.
        least_memory_limit: The lowest memory limit with which it works, in MiB.
    """

    cpu: str
    memory: int
    least_memory_limit: int


LAUNCHER_NEEDS: Final = ContainerNeeds("10m", 16, 32)
EGRESS_CHECK_NEEDS: Final = ContainerNeeds("10m", 24, 64)
VERIFIER_NEEDS: Final = ContainerNeeds("20m", 48, 128)
NOTIFIER_NEEDS: Final = ContainerNeeds("10m", 48, 128)


def build_own_resources(needs: ContainerNeeds, *stated: Resources | None) -> dict[str, Any]:
    """Return the `resources` of one of Interlock's own containers: requests and limits of CPU and memory, all four.

    A memory limit below what the container needs is raised to that. With less it would be killed while it works.

    Args:
        needs: What the container needs.
        stated: What policy and installation state, the one that goes first before the others, amount by amount.
    """
    own = Resources(
        requests=ResourceAmounts(**_first_stated(one.requests for one in stated if one is not None)),
        limits=ResourceLimits(**_first_stated(one.limits for one in stated if one is not None)),
    )
    least = f"{needs.least_memory_limit}Mi"
    defaults = ContainerDefaults(
        default=DefaultLimits(cpu=OWN_CPU_LIMIT, memory=least),
        default_request=DefaultRequests(cpu=needs.cpu, memory=f"{needs.memory}Mi"),
    )
    found = build_resources(own, defaults)
    if exceeds(least, found["limits"]["memory"]):
        found["limits"]["memory"] = least
    return found


def own_resources(placement: Placement, needs: ContainerNeeds) -> dict[str, Any]:
    """Return the `resources` of one of Interlock's own containers in the pods of a placement."""
    return build_own_resources(needs, placement.policy.spec.pod_template.guard_resources, placement.guard_resources)


def _first_stated(amounts: Iterable[ResourceAmounts | ResourceLimits | None]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for one in amounts:
        merged = _amounts(one or ResourceAmounts()) | merged
    return merged


def defaults_of(placement: Placement) -> ContainerDefaults:
    """Return what containers of a placement get where their templates say nothing."""
    spec = placement.policy.spec
    return bounded_defaults(spec.resources, spec.pod_template.maximum)


def bounded_defaults(defaults: ContainerDefaults, most: PodMaximums) -> ContainerDefaults:
    """Return defaults within the largest amounts of a policy. A limit that has no default is the largest amount.

    Args:
        defaults: The defaults.
        most: The largest amounts, which templates are refused by.
    """
    cpu, memory = _least(defaults.default.cpu, most.cpu), _least(defaults.default.memory, most.memory)
    limits = defaults.default.model_copy(update={"cpu": cpu, "memory": memory})
    size = _least(defaults.tmp_size_limit, most.empty_dir)
    return defaults.model_copy(update={"default": limits, "tmp_size_limit": size})


def _least(default: str | None, most: str | None) -> str | None:
    if default is None or most is None:
        return default or most
    return most if limit_exceeds(default, most) else default


def build_resources(stated: Resources | None, defaults: ContainerDefaults) -> dict[str, Any]:
    """Return a container's `resources`, as a LimitRange would complete them.

    What the spec states stands. A default yields to it where the two contradict each other:

        stated: requests.memory 2Gi     default limit: 1Gi      -> limits.memory 2Gi
        stated: limits.memory 16Mi      default request: 32Mi   -> requests.memory 16Mi

    A text that is no quantity is left to the API server.
    """
    own = Resources() if stated is None else stated
    own_requests = own.requests or ResourceAmounts()
    requests = _amounts(defaults.default_request) | _amounts(own_requests)
    limits = _amounts(defaults.default) | _amounts(own.limits or ResourceLimits())
    for kind in requests.keys() & limits.keys():
        if exceeds(requests[kind], limits[kind]):
            if kind in _amounts(own_requests):
                limits[kind] = requests[kind]
            else:
                requests[kind] = limits[kind]
    return {name: amounts for name, amounts in (("requests", requests), ("limits", limits)) if amounts}


def _amounts(amounts: ResourceAmounts | ResourceLimits) -> dict[str, str]:
    return amounts.model_dump(exclude_none=True)
