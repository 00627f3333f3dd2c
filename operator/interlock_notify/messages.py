"""The text and the body of a notification. No I/O.

The owner of an Agent is a text that its author wrote, and Slack gives meaning to `&`, `<` and `>`: `<!channel>` would
notify everyone. So these three are escaped where Slack reads the body.
"""

from typing import Any, Final

from interlock_contract.budget.money import format_money
from interlock_contract.budget.tokens_per_byte import per_kilobyte
from interlock_contract.strict_json import dump_json
from interlock_contract.webhooks import WebhookFormat
from interlock_notify.alerts import EXHAUSTED, Alert, ReportedTokens, write_moment

_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ADJECTIVES: Final = {"day": "daily", "month": "monthly"}


def build_body(alert: Alert, form: WebhookFormat) -> bytes:
    """Return the JSON of a notification; the same bytes at each attempt."""
    if form == "Slack":
        return dump_json({"text": "".join(_ESCAPES.get(one, one) for one in describe(alert))})
    return dump_json(
        {
            "type": _type(alert),
            "timestamp": write_moment(alert.at),
            "data": {name: value for name, value in _data(alert).items() if value not in (None, "")},
            "text": describe(alert),
        }
    )


def describe(alert: Alert) -> str:
    """Return the sentences for people: what happened, to whose budget, what follows, and the way out."""
    adjective = "" if alert.period is None else _ADJECTIVES[alert.period]
    budget = f"{'total ' if not alert.agent else ''}{adjective} budget"
    of_limit = f" of ${format_money(alert.limit)}" if alert.limit is not None else ""
    subject = (
        f"Agent {alert.namespace}/{alert.agent} ({alert.environment})"
        if alert.agent
        else f"AgentPolicy {alert.namespace}/{alert.policy}"
    )
    until = f" until {write_moment(alert.window_end)}" if alert.window_end is not None else " until its next window"
    reported = alert.reported
    if reported is not None:
        text = (
            f"{subject}: {reported.model} reported {per_kilobyte(reported.tokens, reported.size)} tokens of "
            f"{reported.direction} for 1000 bytes in the hour from {write_moment(reported.hour_start)}, and "
            f"{per_kilobyte(reported.day_tokens, reported.day_size)} on the day before. Compare the usage with the "
            f"provider's bill."
        )
    elif alert.median is not None:
        text = (
            f"{subject} has spent ${format_money(alert.spent or 0)} in the ten minutes from "
            f"{write_moment(alert.window_start)}. The median of its last day is ${format_money(alert.median)}."
        )
    elif alert.percent == EXHAUSTED:
        text = (
            f"{subject} has spent its {budget}{of_limit}: calls that cost money are refused{until}. "
            f"Raise the budget in AgentPolicy {alert.policy}, or grant an override."
        )
    else:
        spent = f": ${format_money(alert.spent)} so far" if alert.spent is not None else ""
        text = f"{subject} has spent {alert.percent} % of its {budget}{of_limit}{spent}."
    return f"{text} Owner: {alert.owner}." if alert.owner else text


def _type(alert: Alert) -> str:
    if alert.reported is not None:
        return "budget.tokens"
    if alert.median is not None:
        return "budget.velocity"
    return "budget.exhausted" if alert.percent == EXHAUSTED else "budget.alert"


def _data(alert: Alert) -> dict[str, Any]:
    reported = alert.reported
    return {
        "id": alert.id,
        "namespace": alert.namespace,
        "policy": alert.policy,
        "agent": alert.agent,
        "environment": alert.environment,
        "owner": alert.owner,
        "ledger": alert.ledger,
        "percent": alert.percent or None,
        "period": alert.period,
        "windowStart": write_moment(alert.window_start),
        "windowEnd": alert.window_end and write_moment(alert.window_end),
        "spent": None if alert.spent is None else format_money(alert.spent),
        "limit": None if alert.limit is None else format_money(alert.limit),
        "median": None if alert.median is None else format_money(alert.median),
        "currency": "USD" if reported is None else None,
        **({} if reported is None else _describe_tokens(reported)),
    }


def _describe_tokens(reported: ReportedTokens) -> dict[str, Any]:
    return {
        "model": reported.model,
        "direction": reported.direction,
        "hourStart": write_moment(reported.hour_start),
        "tokens": reported.tokens,
        "bytes": reported.size,
        "dayTokens": reported.day_tokens,
        "dayBytes": reported.day_size,
    }
