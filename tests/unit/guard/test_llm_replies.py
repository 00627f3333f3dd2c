"""What the guard answers to clients of models: statuses, shapes, and whether an SDK may try again."""

import pytest

from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.llm.replies import TOO_MANY, denial_body, retry_headers, status_of
from tests.requirements import requirement

TRANSIENT = {
    *("AuditUnavailable", "BudgetUnavailable", "BundleNotConfirmed", "NoBundle", "PolicyNotTested"),
    *("ServerUnavailable", "StaleState"),
}


@requirement("models.retries")
@pytest.mark.parametrize("reason", DenyReason)
def test_an_sdk_may_try_again_where_the_reason_can_pass_by_itself(reason: DenyReason) -> None:
    denial = Deny(reason, "", "Why.")
    status = status_of(denial)
    assert retry_headers(denial, status) == ({} if reason.value in TRANSIENT else {"x-should-retry": "false"})
    for shape in ("OpenAI", "Anthropic"):
        assert f"(Interlock: {reason.value})" in denial_body(shape, denial, status)["error"]["message"]


@requirement("models.retries")
@pytest.mark.parametrize(
    ("status", "headers"),
    [(400, {"x-should-retry": "false"}), (408, {}), (413, {"x-should-retry": "false"}), (429, {"Retry-After": "2"})],
)
def test_a_body_that_came_too_slowly_or_found_no_room_may_come_again(status: int, headers: dict[str, str]) -> None:
    denial = Deny(DenyReason.BAD_REQUEST, "", "The body is not read.")
    assert retry_headers(denial, status) == headers
    assert denial_body("OpenAI", denial, status)["error"]["code"] == "BadRequest"
    assert TOO_MANY == 429


def test_a_rate_limit_says_when_to_try_again_in_the_shape_of_each_provider() -> None:
    denial = Deny(DenyReason.RATE_LIMITED, "", "No.", retry_seconds=23)
    assert status_of(denial) == 429
    assert retry_headers(denial, 429) == {"Retry-After": "23"}
    told = denial_body("OpenAI", denial, 429)["error"]
    assert (told["type"], told["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    told = denial_body("Anthropic", denial, 429)["error"]
    assert (told["type"], told["reason"]) == ("rate_limit_error", "RateLimited")
    assert "details" not in told


def test_a_call_that_no_minute_has_room_for_is_not_tried_again() -> None:
    assert retry_headers(Deny(DenyReason.RATE_LIMITED, "", "No."), 429) == {"x-should-retry": "false"}
