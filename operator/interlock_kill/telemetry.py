"""The kill controller's own metrics. No label takes a value that users write."""

from prometheus_client import Counter, Gauge, Histogram

KILLS = Counter("interlock_kills_total", "Kill switches that were engaged.")
AGENTS_KILLED = Gauge("interlock_agents_killed", "Agents whose kill switch is engaged.")
KILL_SECONDS = Histogram(
    "interlock_kill_zero_pods_seconds",
    "Seconds from observing an engaged kill switch until no pod of the agent was left.",
    buckets=(0.5, 1, 2, 3, 5, 10, 30, 60),
)
RELABELLED_PODS = Counter(
    "interlock_relabelled_pods_total", "Pods that were deleted because their label interlock.dev/agent was changed."
)
