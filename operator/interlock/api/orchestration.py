"""How an agent works together with others: for now, how tasks reach it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from interlock.api.markers import Rule, kube
from interlock.api.model import ApiModel
from interlock.api.sentences import PORT_RESERVED
from interlock_guard.bundle.document import MAX_CONCURRENT_TASKS

_OURS_FIRST, _OURS_LAST = 7410, 7419


def _is_free(port: int) -> int:
    if _OURS_FIRST <= port <= _OURS_LAST:
        raise ValueError(PORT_RESERVED)
    return port


class Orchestration(ApiModel):
    """How tasks reach the agent."""

    port: Annotated[int, AfterValidator(_is_free)] = Field(
        ge=1,
        le=65535,
        json_schema_extra=kube(
            Rule(rule=f"self < {_OURS_FIRST} || self > {_OURS_LAST}", message=PORT_RESERVED),
            format="int32",
        ),
    )
    """Where the agent listens for HTTP, on all addresses of its pod; the guard brings its tasks there."""

    max_concurrent_tasks: int = Field(
        default=8, ge=1, le=MAX_CONCURRENT_TASKS, json_schema_extra=kube(format="int32", default=8)
    )
    """How many tasks each pod works on at once; four times as many wait, for 10 s at most; others are refused."""
