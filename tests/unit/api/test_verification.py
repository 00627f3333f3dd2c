from typing import Any

import pytest
from pydantic import ValidationError

from interlock.api.binding import MCPBinding
from tests.support.builders import a_binding

INTERVAL = "is not an interval of verification: write a duration from 1m to 168h, such as 1h"
LATENCY = "is not a latency of a probe: write a duration from 1ms to 60s, such as 2s"
TOOL = "is not the name of one tool: write it as the server lists it, printable, without spaces, * and ?"


def refused(verify: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as refusal:
        MCPBinding.model_validate(a_binding().verified_by(**verify).to_kubernetes())
    return str(refusal.value)


def probing(**parts: Any) -> dict[str, Any]:
    return {"probes": [{"name": "look", "tool": "get_contact", **parts}]}


@pytest.mark.parametrize("interval", ["59s", "0s", "168h1ms", "7d", "-1h", "", "1h\n"])
def test_an_interval_lies_between_a_minute_and_a_week(interval: str) -> None:
    assert INTERVAL in refused({"interval": interval})
    assert a_binding().verified_by(interval="168h").build().spec.verify.interval == "168h"


@pytest.mark.parametrize("latency", ["0s", "61s", "1d", ""])
def test_a_probe_may_take_from_a_millisecond_to_a_minute(latency: str) -> None:
    assert LATENCY in refused(probing(maxLatency=latency))
    assert a_binding().verified_by(**probing(maxLatency="60s")).build().spec.verify.probes[0].max_latency == "60s"


@pytest.mark.parametrize("tool", ["get_*", "ge?", "a b", "ä", "", "a\nb"])
def test_a_probe_is_of_one_tool(tool: str) -> None:
    assert TOOL in refused(probing(tool=tool))


def test_a_probes_arguments_are_short() -> None:
    assert "the arguments of the probe have more than 8192 characters" in refused(probing(arguments={"a": "x" * 8192}))
