"""The commands about a rollout that stand in the annotations of an Agent.

An admission policy requires a right of its own for each, and the name of its user. So a command counts only while that
policy is in force, except for a pause: it only holds a rollout back, and one that is not obeyed would let a stage be
entered that a user wanted to stop.
"""

import re
from collections.abc import Mapping
from typing import Final

from interlock.api.messages import REVISION_NAME, REVISION_STAGE
from interlock.orchestration.rollout_state import Command, RolloutCommands
from interlock_contract.names import ABORT, OVERRIDE_GATES, PAUSE, PROMOTE, RETRY, ROLLBACK

COMMANDS_POLICY: Final = "agents-commands.interlock.dev"
"""The admission policy by which only users with the right give a command, under their own name."""


def read_commands(annotations: Mapping[str, str], *, is_checked: bool) -> RolloutCommands:
    """Return the commands that stand on an Agent; one of another form is none.

    Args:
        annotations: Of the Agent.
        is_checked: Whether `COMMANDS_POLICY` is in force; without it, anyone who may edit Agents could give commands.
    """
    pause = _read(annotations, PAUSE, REVISION_STAGE, is_checked=is_checked)
    if not is_checked:
        return RolloutCommands(pause=pause)
    return RolloutCommands(
        pause=pause,
        promote=_read(annotations, PROMOTE, REVISION_STAGE, is_checked=True),
        abort=_read(annotations, ABORT, REVISION_NAME, is_checked=True),
        retry=_read(annotations, RETRY, REVISION_NAME, is_checked=True),
        rollback=_read(annotations, ROLLBACK, REVISION_NAME, is_checked=True),
    )


def _read(annotations: Mapping[str, str], name: str, form: str, *, is_checked: bool) -> Command | None:
    text = annotations.get(name, "")
    if not re.fullmatch(form[1:-1], text, re.ASCII):
        return None
    revision, _, stage = text.partition("/")
    by = annotations.get(f"{name}-by", "")
    return Command(
        revision=revision,
        stage=stage,
        by=by,
        is_vouched=is_checked and bool(by),
        may_override_gates=name == PROMOTE and annotations.get(OVERRIDE_GATES) == text,
    )
