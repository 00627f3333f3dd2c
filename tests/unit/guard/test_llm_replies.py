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
