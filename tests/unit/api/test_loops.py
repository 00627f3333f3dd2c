"""Loops in an AgentPolicy: what may be said, and what holds where nothing is."""

from typing import Any

import pytest
from pydantic import ValidationError

from interlock.api.loops import LoopPolicy
from interlock.api.policy import AgentPolicySpec
from tests.requirements import requirement

WINDOW = "is not a window of loops: write a duration from 10s to 1h, such as 60s"


def test_without_loops_any_call_may_be_repeated_and_empty_ones_have_the_defaults() -> None:
    assert AgentPolicySpec().loops is None
    assert AgentPolicySpec.model_validate({"loops": {}}).loops == LoopPolicy(
        identical_calls=20, window="60s", action="Block"
    )


@requirement("loops.refused")
@pytest.mark.parametrize(
    ("loops", "words"),
    [
        ({"identicalCalls": 1}, "greater than or equal to 2"),
        ({"identicalCalls": 10_001}, "less than or equal to 10000"),
        ({"window": "9s"}, f'"9s" {WINDOW}'),
        ({"window": "9999ms"}, WINDOW),
        ({"window": "1h1s"}, WINDOW),
        ({"window": "7d"}, WINDOW),
        ({"window": ""}, WINDOW),
        ({"action": "Ignore"}, "'Block' or 'Kill'"),
        ({"calls": 3}, "Extra inputs"),
    ],
)
def test_what_the_api_server_refuses_in_loops_python_refuses(loops: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AgentPolicySpec.model_validate({"loops": loops})
