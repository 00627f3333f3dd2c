"""Good and bad values of `spec.tasks`: what the API server must admit, and refuse with which words."""

from typing import Any

_OWN = "ports 7410 to 7419 are reserved for Interlock: let the agent listen on another port, such as 8080"

BAD_TASKS: list[tuple[dict[str, Any], str]] = [
    ({}, "spec.tasks.port: Required value"),
    ({"port": 0}, "should be greater than or equal to 1"),
    ({"port": 65536}, "should be less than or equal to 65535"),
    ({"port": 7410}, f"Invalid value: 7410: {_OWN}"),
    ({"port": 7419}, f"Invalid value: 7419: {_OWN}"),
    ({"port": 80, "maxConcurrentTasks": 0}, "should be greater than or equal to 1"),
    ({"port": 80, "maxConcurrentTasks": 257}, "should be less than or equal to 256"),
]
GOOD_TASKS: list[dict[str, Any]] = [
    {"port": 7409, "maxConcurrentTasks": 256},
    {"port": 7420, "maxConcurrentTasks": 1},
    {"port": 80},
]
