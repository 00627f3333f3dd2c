"""What the guard says of itself."""

from contextlib import suppress
from typing import Final

from interlock_contract.clock import utc_now
from interlock_contract.strict_json import dump_json
from interlock_guard.output import write_ready

_STDERR: Final = 2
_LONGEST: Final = 512
"""Longest message in characters: the line is then shorter than what a pipe takes whole, also where each is escaped."""


def log(message: str) -> None:
    """Write one line about the guard itself to stderr; stdout is for decision records alone.

    A line that stderr does not take immediately is lost: its reader has stopped, and the guard does not wait for it.
    """
    shown = message if len(message) <= _LONGEST else message[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    line = dump_json({"time": utc_now().isoformat(timespec="milliseconds"), "message": shown}) + b"\n"
    with suppress(OSError):
        write_ready(_STDERR, line)
