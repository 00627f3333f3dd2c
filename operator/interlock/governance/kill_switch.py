"""Is the switch on? Every value but `off` kills, and a kill is latched."""

from collections.abc import Mapping

from interlock.api.status import KillStatus
from interlock_contract.names import KILL_SWITCH, KILL_SWITCH_OFF


def kill_reason(annotations: Mapping[str, str], latched: KillStatus | None) -> str | None:
    """Return why the agent is killed, or None while it may live.

    Args:
        annotations: The Agent's annotations.
        latched: `status.kill`. A kill that was recorded and never released goes on when the
            annotation is merely gone: only the value `off` releases.
    """
    value = annotations.get(KILL_SWITCH)
    if value == KILL_SWITCH_OFF:
        return None
    if value is not None:
        return value
    if latched is not None and latched.released_at is None:
        return latched.reason
    return None
