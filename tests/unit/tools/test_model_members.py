"""The members of bodies for models: the generated module is what the pinned SDKs say, and nothing is lost."""

from typing import Any

import pytest
from anthropic.types import message_create_params
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params
from typing_extensions import get_type_hints

from interlock_guard.decision import sdk_members
from interlock_guard.decision.model_rules import ENDPOINTS, REFUSED_MEMBERS
from tests.requirements import requirement
from tools.model_members.__main__ import MODULE, main
from tools.model_members.members import generate


@requirement("models.members")
def test_the_generated_module_is_what_the_pinned_sdks_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate() == MODULE.read_text(encoding="utf-8")
    assert main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_every_endpoint_has_its_members() -> None:
    assert set(sdk_members.ENDPOINTS) == {path for paths in ENDPOINTS.values() for path in paths}


@pytest.mark.parametrize(
    ("endpoint", "request_type", "left_out"),
    [
        (
            "chat/completions",
            completion_create_params.CompletionCreateParamsStreaming,
            {"web_search_options", "moderation"},
        ),
        (
            "responses",
            response_create_params.ResponseCreateParamsStreaming,
            {"background", "background_options", "moderation"},
        ),
        (
            "messages",
            message_create_params.MessageCreateParamsStreaming,
            {"container", "user_profile_id", "workspace_id"},
        ),
    ],
)
def test_a_request_has_all_members_but_those_that_were_left_out_on_purpose(
    endpoint: str, request_type: Any, left_out: set[str]
) -> None:
    words = sdk_members.PLACES[sdk_members.ENDPOINTS[endpoint]].split()
    passing = {word.partition(":")[0].removesuffix("*") for word in words}
    assert set(get_type_hints(request_type)) - passing == left_out


def test_nothing_that_is_refused_and_no_other_model_is_in_the_generated_places() -> None:
    roots = set(sdk_members.ENDPOINTS.values())
    refused = {name for members in REFUSED_MEMBERS.values() for name in members} - {"container"}
    for number, line in enumerate(sdk_members.PLACES):
        words = {word.partition(":")[0].removesuffix("*") for word in line.split()}
        assert not words & refused
        assert "model" not in words or number in roots
        assert not {word[1:] for word in words if word.startswith("=")} & {"mcp", "mcp_toolset", "additional_model"}
