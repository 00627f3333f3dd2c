"""The program of the worker process: it computes what comes on its standard input, until that ends.

A request is the name of a task and its input, each with its length before it. A response is a status, the length of the
result and the result. The program imports no library of the network, which keeps it small.
"""

import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Final

from interlock.action.pins import diff_changes
from interlock.reconcile.effective_permissions import answer_policy

TASKS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "drift": diff_changes,
    "access": answer_policy,
}
"""Pure functions from bytes to bytes, by name."""

LENGTH_BYTES: Final = 8
READY: Final = b"!"
OK: Final = b"+"
DEFECT: Final = b"-"


def serve(memory: int) -> None:
    """Compute what comes on standard input, until it ends.

    Args:
        memory: Bytes that this process may have.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _write(READY)
    while (task := _read()) is not None and (request := _read()) is not None:
        try:
            status, result = OK, TASKS[task.decode()](request)
        except MemoryError:
            os._exit(1)  # the operator takes the end of the process for the answer
        except Exception as error:  # noqa: BLE001 - the operator reports it on the object
            traceback.print_exc()  # into the operator's log, the only place for what a user wrote
            status, result = DEFECT, type(error).__name__.encode()
        _write(status + len(result).to_bytes(LENGTH_BYTES) + result)


def _read() -> bytes | None:
    head = sys.stdin.buffer.read(LENGTH_BYTES)
    return sys.stdin.buffer.read(int.from_bytes(head)) if len(head) == LENGTH_BYTES else None


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
