"""Good and bad values of `spec.rollout`, of Agents and of AgentPolicies: what the API server must admit, and refuse."""

from typing import Any


def _staging(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "a", "environment": "staging", **more}]


BAD_ROLLOUTS: list[tuple[dict[str, Any], str]] = [
    (
        {"stages": _staging(), "drainTimeout": "1 m"},
        '"1 m" is not a time to drain: write a duration between 1s and 24h',
    ),
    ({"stages": _staging(), "drainTimeout": "0s"}, '"0s" is not a time to drain'),
    ({"stages": _staging(replicas=-1)}, "should be greater than or equal to 0"),
    ({"stages": _staging(replicas=101)}, "should be less than or equal to 100"),
]
GOOD_ROLLOUTS: list[dict[str, Any]] = [
    {"stages": _staging(replicas=0), "drainTimeout": "1s"},
    {"stages": _staging(replicas=100), "drainTimeout": "5m"},
]
BAD_POLICY_ROLLOUTS: list[tuple[dict[str, Any], str]] = [
    ({"minStaging": "7d"}, '"7d" is not a duration: write 168h, 90m or 1h30m'),
    ({"minLimitedScope": "2 days"}, '"2 days" is not a duration'),
    ({"requireLimitedScope": "no"}, 'must be of type boolean: "string"'),
    ({"requireApproval": ["uat"]}, 'supported values: "development", "staging"'),
    ({"maxConcurrent": "5 %"}, "neither a number of agents from 1 nor a percentage"),
    ({"maxDrainTimeout": "0s"}, '"0s" is not a time to drain: write a duration between 1s and 24h'),
    ({"maxDrainTimeout": "25h"}, '"25h" is not a time to drain'),
    ({"history": {"maxAge": "30m"}}, '"30m" is not an age of revisions: write a duration between 1h and 87600h'),
    ({"history": {"count": 0}}, "should be greater than or equal to 1"),
    ({"history": {"count": 65}}, "should be less than or equal to 64"),
]
GOOD_POLICY_ROLLOUTS: list[dict[str, Any]] = [
    {"maxDrainTimeout": "24h", "history": {"maxAge": "87600h", "count": 64}},
    {"maxDrainTimeout": "1s", "history": {"maxAge": "1h", "count": 1}},
]

DRAIN_TIMES: dict[str, tuple[dict[str, Any], str]] = {
    "a time to drain above the policy's": ({"maxDrainTimeout": "90s"}, "2m"),
    "a time to drain above the default of the policy": ({}, "301s"),
    "a time to drain within the policy's": ({"maxDrainTimeout": "90s"}, "1m30s"),
}
"""The policy's rules for rollouts, and the drainTimeout of an Agent under it."""
