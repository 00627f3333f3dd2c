"""PodDisruptionBudgets of a placement: how many of its pods a drain of nodes may evict at the same time.

They bind evictions alone. A kill, a scale-down and an update delete pods, which no PodDisruptionBudget holds up.
"""

from interlock.deployment.names import (
    AGENT_POD,
    GUARD_POD,
    Manifest,
    agent_workload,
    build_placement_child,
    guard_workload,
    selector,
)
from interlock.deployment.placement import Placement


def build_disruption_budgets(placement: Placement) -> tuple[Manifest, ...]:
    """Return one for each Deployment of the placement that has more than one pod.

    Of one pod alone there is none, since a node that it runs on could then never be drained. A pod that is not ready
    serves nothing, so it may always be evicted (`AlwaysAllow`). Otherwise one that never starts would block the drain.
    """
    if placement.replicas <= 1:
        return ()
    workloads = {agent_workload(placement): AGENT_POD}
    if placement.is_separate:
        workloads[guard_workload(placement)] = GUARD_POD
    return tuple(
        build_placement_child(
            placement,
            "policy/v1",
            "PodDisruptionBudget",
            name,
            component,
            spec={
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": selector(placement, component)},
            },
        )
        for name, component in workloads.items()
    )
