"""The log of a program: JSON lines on stderr."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

_FIELDS = {"asctime": "time", "levelname": "level", "name": "logger"}


def configure_logs(level: str) -> None:
    """Send all logging of the process to stderr as JSON lines.

    Args:
        level: Name of the lowest level that is logged, such as INFO.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=_FIELDS))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # kopf logs one line per watch event
