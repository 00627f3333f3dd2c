"""Loops: how many identical calls within a window an AgentPolicy takes for one, and what follows."""

from typing import Annotated

from pydantic import Field

from interlock.api.durations import bounded_duration
from interlock.api.markers import kube
from interlock.api.messages import LOOP_WINDOW_INVALID
from interlock.api.shared_types import ApiModel
from interlock_contract.loops import LEAST_CALLS, MAX_CALLS, LoopAction

_WINDOW_RULE, _check_window = bounded_duration("10s", "1h", LOOP_WINDOW_INVALID)

LoopWindow = Annotated[str, Field(max_length=32, json_schema_extra=kube(_WINDOW_RULE)), _check_window]
"""How long calls count."""


class LoopPolicy(ApiModel):
    """When identical calls of an agent are a loop, and what follows."""

    identical_calls: int = Field(
        default=20, ge=LEAST_CALLS, le=MAX_CALLS, json_schema_extra=kube(format="int32", default=20)
    )
    """Number of identical calls within the window that are a loop. The call that completes it is refused. Calls of a
    tool are identical if their arguments are, and calls of a model if their prompts are. Each guard counts its own."""

    window: LoopWindow = "60s"
    """How long calls count, and how long a refused call must stay away until it passes again."""

    action: LoopAction = "Block"
    """Block: the call is refused until it stayed away for one window. Kill: the agent is also killed."""
