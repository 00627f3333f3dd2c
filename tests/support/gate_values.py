"""Gates that a policy requires, and weaker ones."""

from typing import Any

GATES: dict[str, Any] = {
    "minTasks": 100,
    "minCalls": 10,
    "maxErrorPercent": 5,
    "maxP95Latency": "10s",
    "maxDeniedPercent": 2,
    "maxCostPerTask": "0.5",
    "onBreach": "Rollback",
}
WEAKER_GATES: dict[str, Any] = {
    "minTasks": 99,
    "minCalls": 9,
    "maxErrorPercent": 6,
    "maxP95Latency": "30s",
    "maxDeniedPercent": 3,
    "maxCostPerTask": "0.51",
    "onBreach": "Hold",
}
"""The same gates, each weaker than in GATES."""
