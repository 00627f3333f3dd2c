"""The reader of a stored Agent's status, which an older or a newer version of Interlock may have written.

The status is no input of a user, so a part of it that cannot be read must not refuse the Agent. Such a part counts as
absent: a condition is computed again, and a stage starts its rollout from the beginning. Only a recorded kill is never
absent, however it is written: the Agent stays killed.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from interlock.api.status import AgentStatus, KillStatus
from interlock_contract.clock import read_time
from interlock_contract.kill import shorten

_UNKNOWN_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


def read_agent_status(raw: Any) -> AgentStatus | None:
    """Return as much of an Agent's stored status as can be read; None where there is none.

    Args:
        raw: `status` as the API server gave it.
    """
    if not raw or not isinstance(raw, Mapping):
        return None
    try:
        return AgentStatus.model_validate(raw)
    except ValidationError:
        return _read_parts(raw)


def _read_parts(raw: Mapping[str, Any]) -> AgentStatus:
    status = AgentStatus.model_validate(
        {name: kept for name in raw if (kept := _readable(name, raw[name])) is not None}
    )
    return status.model_copy(update={"kill": _read_kill(raw.get("kill"))})


def _readable(name: str, value: Any) -> Any:
    """Return as much of a member as can be read: of a list the items that can be, of anything else all or None."""
    if _fits(name, value):
        return value
    items = [one for one in value if _fits(name, [one])] if isinstance(value, list) else []
    return items if items and _fits(name, items) else None


def _fits(name: str, value: Any) -> bool:
    try:
        AgentStatus.model_validate({name: value})
    except ValidationError:
        return False
    return True


def _read_kill(raw: Any) -> KillStatus | None:
    """Return a recorded kill. As for the latch, it is released only where `releasedAt` says something."""
    if not raw or not isinstance(raw, Mapping):
        return None
    try:
        return KillStatus.model_validate(raw)
    except ValidationError:
        return KillStatus(
            reason=shorten(raw.get("reason", "killed")),
            requested_at=_moment(raw.get("requestedAt")),
            released_at=_moment(raw["releasedAt"]) if raw.get("releasedAt") else None,
        )


def _moment(raw: Any) -> datetime:
    try:
        return read_time(raw, _UNKNOWN_TIME).astimezone(UTC)
    except OverflowError:
        return _UNKNOWN_TIME
