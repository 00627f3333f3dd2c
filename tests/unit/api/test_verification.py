import json
from typing import Any

import pytest
from pydantic import ValidationError

from interlock.api.binding import MCPBinding
from interlock.api.messages import PROBE_ARGUMENTS
from interlock.deployment.children.verification_job import VerificationTarget, build_plan
from interlock_contract.verification import PLAN_KEY, parse_plan
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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "1",
        '{"id": 1',
        '{"id": 1, "id": 2}',
        '{"id": NaN}',
        json.dumps({f"a{index}": index for index in range(33)}),
        '{"a":' * 17 + "1" + "}" * 17,
        '{"a":' + "[" * 2000 + "]" * 2000 + "}",
    ],
    ids=lambda text: text[:20],
)
def test_a_probes_arguments_are_a_small_json_object(text: str) -> None:
    assert PROBE_ARGUMENTS in refused(probing(arguments=text))


def test_a_probes_arguments_are_short() -> None:
    assert "at most 8192 characters" in refused(probing(arguments='{"a": "' + "x" * 8192 + '"}'))


def test_a_probes_arguments_reach_the_plan_as_they_were_written() -> None:
    binding = a_binding().verified_by(**probing(arguments='{"id": "eu-1", "n": 1.5}')).build()
    plan = build_plan(VerificationTarget(binding, 1, "guard"))
    assert parse_plan(plan["data"][PLAN_KEY]).probes[0].arguments == {"id": "eu-1", "n": 1.5}
