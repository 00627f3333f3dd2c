"""What the guard says of itself."""

import os
from typing import Final

from interlock_contract.clock import utc_now
from interlock_contract.strict_json import dump_json

_STDERR: Final = 2


def log(message: str) -> None:
    """Write one line about the guard itself to stderr; stdout is for decision records alone."""
    os.write(_STDERR, dump_json({"time": utc_now().isoformat(timespec="milliseconds"), "message": message}) + b"\n")
