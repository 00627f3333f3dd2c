"""Good and bad values of `spec.tasks`: what the API server must admit, and refuse with which words."""

from typing import Any

_OWN = "ports 7410 to 7419 are reserved for Interlock: let the agent listen on another port, such as 8080"

_ONE = "dimension region needs exactly one of header and pointer: write X-Region, or /params/metadata/region"

BAD_TASKS: list[tuple[dict[str, Any], str]] = [
    ({}, "spec.tasks.port: Required value"),
    ({"port": 0}, "should be greater than or equal to 1"),
    ({"port": 65536}, "should be less than or equal to 65535"),
    ({"port": 7410}, f"Invalid value: 7410: {_OWN}"),
    ({"port": 7419}, f"Invalid value: 7419: {_OWN}"),
    ({"port": 80, "maxConcurrentTasks": 0}, "should be greater than or equal to 1"),
    ({"port": 80, "maxConcurrentTasks": 257}, "should be less than or equal to 256"),
    ({"port": 80, "scope": [{"dimension": "region"}]}, _ONE),
    ({"port": 80, "scope": [{"dimension": "region", "header": "X-Region", "pointer": "/region"}]}, _ONE),
    ({"port": 80, "scope": [{"header": "X-Region"}]}, "dimension: Required value"),
    ({"port": 80, "scope": [{"dimension": "region", "header": "X_Region"}]}, '"X_Region" is not the name of a header'),
    *(
        ({"port": 80, "scope": [{"dimension": "region", "header": name}]}, f'"{name}" has a meaning of its own')
        for name in ("Host", "Interlock-Forwarded", "X-Forwarded-For", "traceparent")
    ),
    ({"port": 80, "scope": [{"dimension": "region", "header": "x" * 129}]}, "Too long: may not be more than 128 bytes"),
    ({"port": 80, "scope": [{"dimension": "region", "pointer": "region"}]}, '"region" is not a JSON pointer'),
    ({"port": 80, "scope": [{"dimension": "r", "header": "A"}] * 2}, 'Duplicate value: {"dimension":"r"}'),
    ({"port": 80, "scope": [{"dimension": f"d{i}", "header": "A"} for i in range(9)]}, "must have at most 8 items"),
]
GOOD_TASKS: list[dict[str, Any]] = [
    {"port": 7409, "maxConcurrentTasks": 256},
    {"port": 7420, "maxConcurrentTasks": 1},
    {"port": 80},
    {"port": 80, "scope": [{"dimension": f"d{i}", "header": "X-Region"} for i in range(8)]},
    {"port": 80, "scope": [{"dimension": "region", "pointer": "/params/message/metadata/region"}]},
]
TASKS_OF_A_REGION: list[dict[str, Any]] = [
    {"port": 80},
    {"port": 80, "scope": []},
    {"port": 80, "scope": [{"dimension": "region", "header": "X-Region"}]},
    {"port": 80, "scope": [{"dimension": "product", "pointer": "/product"}]},
]
"""Tasks of an agent with a stage that is limited to a region. The last ones cannot name it."""
