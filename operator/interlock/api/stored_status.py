"""The reader of a stored Agent's status, which an older or a newer version of Interlock may have written.

The status is no input of a user, so a part of it that cannot be read must not refuse the Agent. Such a part counts as
absent: a condition is computed again, and a stage starts its rollout from the beginning. Only a recorded kill is never
absent, however it is written: the Agent stays killed.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from interlock.api.status import AgentStatus, Condition, EnforcementStatus, KillStatus, StageStatus
from interlock_contract.clock import read_time
from interlock_contract.kill import shorten

Model = TypeVar("Model", bound=BaseModel)

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
    found = raw.get("conditions")
    conditions = [_read(Condition, one) for one in (found if isinstance(found, list) else ())]
    generation = raw.get("observedGeneration")
    return AgentStatus(
        observed_generation=generation if type(generation) is int and generation >= 0 else -1,
        conditions=tuple(one for one in conditions if one is not None)[:32],
        stage=_read(StageStatus, raw.get("stage")),
        enforcement=_read(EnforcementStatus, raw.get("enforcement")),
        kill=_read_kill(raw.get("kill")),
    )


def _read(model: type[Model], raw: Any) -> Model | None:
    try:
        return model.model_validate(raw)
    except ValidationError:
        return None


def _read_kill(raw: Any) -> KillStatus | None:
    """Return a recorded kill. As for the latch, it is released only where `releasedAt` says something."""
    if not raw or not isinstance(raw, Mapping):
        return None
    known = _read(KillStatus, raw)
    if known is not None:
        return known
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
