"""Dialects: what is known of a provider by its host, and what an administrator says of it."""

import pytest

from interlock_guard.budget.dialects import CHAT, COMPLETIONS, COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES, dialect_of
from interlock_guard.decision.model_rules import ENDPOINTS
from tests.requirements import requirement


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    ("url", "member", "reasoning", "takes_option", "tier"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens", "inside", True, "default"),
        ("https://my.openai.azure.com/openai/v1", "max_completion_tokens", "inside", True, "default"),
        ("https://api.mistral.ai/v1", "max_tokens", "inside", False, None),
        ("https://api.deepseek.com", "max_tokens", "inside", True, None),
        ("https://api.groq.com/openai/v1", "max_completion_tokens", "inside", True, "on_demand"),
        ("https://api.x.ai/v1", "max_completion_tokens", "outside", True, None),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "max_tokens", "outside", True, None),
        ("https://openrouter.ai/api/v1", "max_tokens", "inside", True, None),
        ("http://llm.models.svc:8000/v1", "max_tokens", "unknown", True, None),
        ("https://api.x.ai.example.com/v1", "max_tokens", "unknown", True, None),
        ("https://notopenai.com/v1", "max_tokens", "unknown", True, None),
        ("https://API.OpenAI.com./v1", "max_completion_tokens", "inside", True, "default"),
    ],
)
def test_a_provider_is_known_by_its_host(
    url: str,
    member: str,
    reasoning: str,
    takes_option: bool,  # noqa: FBT001 - pytest passes it
    tier: str | None,
) -> None:
    found = dialect_of("OpenAI", "some", url)
    assert (found.limit_member, found.reasoning) == (member, reasoning)
    assert (found.takes_usage_option, found.standard_tier) == (takes_option, tier)


@requirement("budget.worst-case")
def test_the_name_openai_means_its_api_behind_every_url() -> None:
    assert dialect_of("OpenAI", "openai", "http://gateway.svc/v1") == dialect_of(
        "OpenAI", "openai", "https://api.openai.com/v1"
    )


@requirement("budget.worst-case")
def test_what_the_administrator_says_counts() -> None:
    url = "https://api.mistral.ai/v1"
    found = dialect_of("OpenAI", "mistral", url, limit_member="max_completion_tokens", takes_usage_option=True)
    assert (found.limit_member, found.takes_usage_option) == ("max_completion_tokens", True)
    assert dialect_of("OpenAI", "openai", "https://api.openai.com/v1", takes_usage_option=False).takes_usage_option is (
        False
    )


@requirement("budget.worst-case")
def test_only_anthropic_itself_is_told_a_tier() -> None:
    assert dialect_of("Anthropic", "anthropic", "https://api.anthropic.com").standard_tier == "standard_only"
    assert dialect_of("Anthropic", "anthropic", "https://gateway.example.com").standard_tier is None
    assert dialect_of("Anthropic", "anthropic", "https://anthropic.com.example.com").standard_tier is None


@requirement("budget.worst-case")
def test_each_endpoint_that_passes_has_its_limit_or_no_output() -> None:
    dialect = dialect_of("OpenAI", "openai", "https://api.openai.com/v1")
    limits = {endpoint: dialect.limit_of(endpoint) for paths in ENDPOINTS.values() for endpoint in paths}
    assert limits == {
        CHAT: "max_completion_tokens",
        COMPLETIONS: "max_tokens",
        RESPONSES: "max_output_tokens",
        MESSAGES: "max_tokens",
        EMBEDDINGS: None,
        COUNT_TOKENS: None,
    }
