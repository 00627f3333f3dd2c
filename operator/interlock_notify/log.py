"""The log of the notifier: JSON lines on stderr. The guard's image has no library for it."""
# Nor has it `typing_extensions`, whose `override` `_JsonLines` would need.
# mypy: disable-error-code="explicit-override"

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from interlock_contract.strict_json import dump_json

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LONGEST: Final = 4096
"""Longest text of a member, in characters."""


def configure_log() -> None:
    """Send the log of the process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _JsonLines(logging.Formatter):
    """Formats a record as one JSON object, with the members of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: str(value) for name, value in vars(record).items() if name not in _OWN}
        members: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **extra,
        }
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return dump_json({name: value[:_LONGEST] for name, value in members.items()}).decode()
