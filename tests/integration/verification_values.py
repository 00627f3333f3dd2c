"""Good and bad values of `spec.verify` and of what is pinned, and the words with which the API server refuses."""

from typing import Any

from tests.integration.api_values import NO_NAME, binding


def probe(**edits: Any) -> dict[str, Any]:
    return binding(spec__verify={"probes": [{"name": "p", "tool": "t", **edits}]})


NO_INTERVAL = "is not an interval of verification: write a duration from 1m to 168h, such as 1h"
NO_LATENCY = "is not a latency of a probe: write a duration from 1ms to 60s, such as 2s"
NO_TOOL = "is not the name of one tool: write it as the server lists it, printable, without spaces, * and ?"
NO_ARGUMENTS = "arguments is no JSON object"
BAD_VERIFICATIONS: list[tuple[dict[str, Any], str]] = [
    *(
        (binding(spec__verify={"interval": interval}), f'"{interval}" {NO_INTERVAL}')
        for interval in ("7d", "1.5h", "-1h", "0s", "59s", "168h1ms", "", "99999h", "1h ")
    ),
    *((probe(maxLatency=latency), f'"{latency}" {NO_LATENCY}') for latency in ("0s", "61s", "1d", "", "2")),
    *((probe(tool=tool), f'"{tool}" {NO_TOOL}') for tool in ("get_*", "ge?", "a b", "ä", "")),
    (probe(name="A b"), f'"A b" {NO_NAME}'),
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    *BAD_VERIFICATIONS,
    (binding(spec__instructions="Passed"), 'supported values: "Withheld", "Pinned"'),
    (binding(spec__resourceDescriptions="Reviewed"), 'supported values: "Withheld", "Unreviewed"'),
    (binding(spec__verify={"interval": "1h\n"}), f"(of several lines) {NO_INTERVAL}"),
    (probe(tool="a\nb"), f"(of several lines) {NO_TOOL}"),
    (probe(tool="x" * 129), "Too long: may not be more than 128 bytes"),
    (probe(expect="Perhaps"), 'supported values: "Success", "Error", "Denied"'),
    (probe(arguments="x" * 8193), "Too long: may not be more than 8192 bytes"),
    *((probe(arguments=text), f"{NO_ARGUMENTS} of at most") for text in ("x", "", "[]", '{"id": 1', "1}")),
    (probe(arguments={"id": 1}), "must be of type string"),
    (binding(spec__verify={"probes": [{"name": "p"}]}), "tool: Required value"),
    (
        binding(spec__verify={"probes": [{"name": f"p{i}", "tool": "t"} for i in range(17)]}),
        "must have at most 16 items",
    ),
    (binding(spec__verify={"probes": [{"name": "p", "tool": "t"}] * 2}), 'Duplicate value: {"name":"p"}'),
]
GOOD = [
    binding(spec__instructions="Pinned", spec__resourceDescriptions="Unreviewed"),
    binding(spec__verify={}),
    *(binding(spec__verify={"interval": interval}) for interval in ("1m", "168h", "90m", "1h30m")),
    probe(tool="get-contact.v2/x", arguments='{"id": 1, "deep": {"list": [1, null, {"a": true}]}}', maxLatency="60s"),
    probe(arguments=' {"id": "eu-1",\n "text": "}{"}\n'),
    probe(expect="Denied", maxLatency="1ms"),
]
