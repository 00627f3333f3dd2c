"""What the guard itself answers to a client of models: denials and lists in the shape that the client's SDK reads."""

from typing import Any, Final

from interlock_contract.model_access import Provider, Shape
from interlock_guard.decision.decide import Deny, DenyReason

_STATUS: Final[dict[DenyReason, int]] = {
    DenyReason.MODEL_KEY_REFUSED: 403,
    DenyReason.MODEL_NOT_ALLOWED: 403,
    DenyReason.HOSTED_TOOL_NOT_ALLOWED: 403,
    DenyReason.MEMBER_NOT_ALLOWED: 403,
    DenyReason.REMOTE_CONTENT_NOT_ALLOWED: 403,
    DenyReason.PRICE_UNKNOWN: 403,
    DenyReason.BUDGET_EXHAUSTED: 429,
    DenyReason.TASK_BUDGET_EXHAUSTED: 429,
    DenyReason.RATE_LIMITED: 429,
    DenyReason.LOOP_DETECTED: 429,
    DenyReason.METHOD_NOT_ALLOWED: 404,
    DenyReason.BAD_REQUEST: 400,
    DenyReason.SERVER_UNAVAILABLE: 502,
}
"""Everything else closes the guard: 503."""
_TYPES: Final[dict[int, tuple[str, str]]] = {
    400: ("invalid_request_error", "invalid_request_error"),
    403: ("invalid_request_error", "permission_error"),
    404: ("invalid_request_error", "not_found_error"),
    408: ("invalid_request_error", "timeout_error"),
    413: ("invalid_request_error", "request_too_large"),
    415: ("invalid_request_error", "invalid_request_error"),
    429: ("rate_limit_error", "rate_limit_error"),
    502: ("server_error", "api_error"),
    503: ("server_error", "overloaded_error"),
}
"""By status, what OpenAI and what Anthropic call an error of this kind."""

_TRANSIENT: Final = frozenset(
    {
        *(DenyReason.AUDIT_UNAVAILABLE, DenyReason.BUNDLE_NOT_CONFIRMED, DenyReason.NO_BUNDLE),
        *(DenyReason.POLICY_NOT_TESTED, DenyReason.SERVER_UNAVAILABLE, DenyReason.STALE_STATE),
        DenyReason.BUDGET_UNAVAILABLE,
    }
)
"""Reasons that another try a moment later may not meet."""
_SLOW: Final = 408
"""The status of a body that did not come in time; another try may."""
TOO_MANY: Final = 429
"""The status of a body for which there is no room next to the others under way."""
_RETRY_SECONDS: Final = 2
"""Seconds that a client is told to wait after that status."""
NO_RETRY: Final = {"x-should-retry": "false"}
"""The SDKs of both providers obey this header. Without it they try again after 408, 409, 429 and 500 to 599."""
_SPENT: Final = frozenset({DenyReason.BUDGET_EXHAUSTED, DenyReason.TASK_BUDGET_EXHAUSTED})
"""Reasons that speak of money: they are told as each provider tells that an account has none."""
_FINAL: Final = _SPENT | {DenyReason.LOOP_DETECTED}
"""Reasons with the status 429 that another try soon does not help; for a loop it would even prolong the denial."""
_QUOTA: Final = "insufficient_quota"
"""The type and the code of OpenAI's error for an account without money."""
_RATE_LIMIT: Final = "rate_limit_exceeded"
"""OpenAI's code of the error for an account that has sent too much in a minute. Its SDK tries again."""
_SPEND_LIMIT: Final = "enforced_spend_limit_reached"
"""Anthropic's code of the error for an organization that has reached its spend limit."""


def retry_headers(denial: Deny, status: int) -> dict[str, str]:
    """Return the headers that say when to try again, or that a denial is final."""
    if denial.reason is DenyReason.RATE_LIMITED:
        return dict(NO_RETRY) if denial.retry_seconds is None else {"Retry-After": str(denial.retry_seconds)}
    if status == TOO_MANY and denial.reason not in _FINAL:
        return {"Retry-After": str(_RETRY_SECONDS)}
    if denial.reason in _TRANSIENT or status == _SLOW:
        return {}
    return dict(NO_RETRY)


def status_of(denial: Deny) -> int:
    """Return the HTTP status of a denial."""
    return _STATUS.get(denial.reason, 503)


def denial_body(shape: Shape, denial: Deny, status: int) -> dict[str, Any]:
    """Return a denial as an error of the provider's API; `code` and `reason` are the stable word."""
    openai, anthropic = _TYPES[status]
    message = f"{denial.message} (Interlock: {denial.reason.value})"
    if denial.reason in _SPENT:
        return _spend_limit_body(shape, message, denial.reason)
    if shape == "Anthropic":
        return {"type": "error", "error": {"type": anthropic, "message": message, "reason": denial.reason.value}}
    code = _RATE_LIMIT if denial.reason is DenyReason.RATE_LIMITED else denial.reason.value
    return {"error": {"message": message, "type": openai, "param": None, "code": code}}


def _spend_limit_body(shape: Shape, message: str, reason: DenyReason) -> dict[str, Any]:
    """Return the error by which the SDKs of a provider know that there is no money: they do not try again."""
    if shape == "Anthropic":
        details = {"error_code": _SPEND_LIMIT}
        return {
            "type": "error",
            "error": {"type": "rate_limit_error", "message": message, "details": details, "reason": reason.value},
        }
    return {"error": {"message": message, "type": _QUOTA, "param": None, "code": _QUOTA}}


def list_body(provider: Provider) -> dict[str, Any]:
    """Return the list of the models that the agent may call; the provider is not asked."""
    data = [_entry(provider, model.name) for model in provider.models]
    if provider.shape == "Anthropic":
        ids = [model.name for model in provider.models]
        return {
            "data": data,
            "has_more": False,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
    return {"object": "list", "data": data}


def model_body(provider: Provider, name: str) -> dict[str, Any] | None:
    """Return one model of the list, None where the agent has none of this name."""
    return None if provider.find(name) is None else _entry(provider, name)


def _entry(provider: Provider, name: str) -> dict[str, Any]:
    if provider.shape == "Anthropic":
        return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
    return {"id": name, "object": "model", "created": 0, "owned_by": provider.name}
