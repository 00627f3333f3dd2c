import json
from dataclasses import replace

from interlock_notify.alerts import ReportedTokens
from interlock_notify.messages import build_body, describe
from tests.requirements import requirement
from tests.unit.notify.ledgers import an_alert

FULL = replace(an_alert(), spent=25_100_000_000, limit=50_000_000_000)


def test_a_message_names_agent_budget_amounts_and_owner() -> None:
    assert describe(FULL) == (
        "Agent agents/triage (staging) has spent 50 % of its daily budget of $50.00: $25.10 so far. "
        "Owner: Ada Example ada@example.com."
    )


def test_a_message_about_an_exhausted_budget_says_what_follows_and_the_way_out() -> None:
    assert describe(replace(FULL, percent=100)) == (
        "Agent agents/triage (staging) has spent its daily budget of $50.00: calls that cost money are refused "
        "until 2026-03-03T00:00:00Z. Raise the budget in AgentPolicy support, or grant an override. "
        "Owner: Ada Example ada@example.com."
    )


def test_a_message_about_the_total_names_the_policy() -> None:
    total = replace(FULL, agent="", environment="", owner="", spent=None, period="month")

    assert describe(total) == "AgentPolicy agents/support has spent 50 % of its total monthly budget of $50.00."


def test_slack_gets_the_text_and_no_member_that_it_may_refuse() -> None:
    assert json.loads(build_body(FULL, "Slack")) == {"text": describe(FULL)}


def test_no_owner_can_notify_a_whole_channel_of_slack() -> None:
    text = json.loads(build_body(replace(FULL, owner="<!channel> & <@U1>"), "Slack"))["text"]

    assert "&lt;!channel&gt; &amp; &lt;@U1&gt;" in text
    assert "<" not in text


def test_the_standard_body_has_the_members_of_the_specification_and_the_text() -> None:
    body = json.loads(build_body(FULL, "Standard"))

    assert body["type"] == "budget.alert"
    assert body["timestamp"] == "2026-03-02T14:05:00Z"
    assert body["text"] == describe(FULL)
    assert body["data"] == {
        "id": FULL.id,
        "namespace": "agents",
        "policy": "support",
        "agent": "triage",
        "environment": "staging",
        "owner": "Ada Example ada@example.com",
        "ledger": "triage.staging",
        "percent": 50,
        "period": "day",
        "windowStart": "2026-03-02T00:00:00Z",
        "windowEnd": "2026-03-03T00:00:00Z",
        "spent": "25.10",
        "limit": "50.00",
        "currency": "USD",
    }


def test_the_standard_body_leaves_out_what_is_not_known_and_keeps_a_zero() -> None:
    data = json.loads(build_body(replace(FULL, limit=None, owner="", spent=0), "Standard"))["data"]

    assert data.keys().isdisjoint({"limit", "owner"})
    assert data["spent"] == "0.00"


def test_an_exhausted_budget_has_a_type_of_its_own() -> None:
    assert json.loads(build_body(replace(FULL, percent=100), "Standard"))["type"] == "budget.exhausted"


def test_a_message_about_velocity_has_both_amounts_and_a_type_of_its_own() -> None:
    fast = replace(FULL, percent=0, period=None, limit=None, spent=6_000_000_000, median=0)

    assert describe(fast) == (
        "Agent agents/triage (staging) has spent $6.00 in the ten minutes from 2026-03-02T00:00:00Z. The median of its "
        "last day is $0.00. Owner: Ada Example ada@example.com."
    )
    body = json.loads(build_body(fast, "Standard"))
    assert body["type"] == "budget.velocity"
    assert (body["data"]["spent"], body["data"]["median"]) == ("6.00", "0.00")
    assert not {"percent", "period", "limit"} & body["data"].keys()


@requirement("budget.tokens-per-byte")
def test_a_message_about_tokens_has_both_counts_and_a_type_of_its_own() -> None:
    reported = ReportedTokens("openai/gpt-4.1", "input", FULL.window_start, 50_000, 100_000, 250_000, 1_000_000)
    counted = replace(FULL, percent=0, period=None, limit=None, spent=None, window_end=None, reported=reported)

    assert describe(counted) == (
        "Agent agents/triage (staging): openai/gpt-4.1 reported 500 tokens of input for 1000 bytes in the hour from "
        "2026-03-02T00:00:00Z, and 250 on the day before. Compare the usage with the provider's bill. "
        "Owner: Ada Example ada@example.com."
    )
    body = json.loads(build_body(counted, "Standard"))
    assert body["type"] == "budget.tokens"
    assert (body["data"]["model"], body["data"]["tokens"], body["data"]["dayBytes"]) == (
        "openai/gpt-4.1",
        50_000,
        1_000_000,
    )
    assert not {"percent", "period", "limit", "spent", "currency"} & body["data"].keys()
