"""Background tasks of guards and the kill controller: none ends with an exception that is not logged.

Policy: an unexpected exception is logged with its trace, and the work starts again after a pause that grows. Meanwhile
a guard stays closed or closes: without a watch its lease expires, without the shipper its spool fills up, without a
server its calls are refused. The kill controller stops renewing its Lease, so that no new pods start.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

from interlock_contract.clock import monotonic

Log = Callable[[str], None]

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0


async def keep_running(name: str, work: Callable[[], Awaitable[None]], log: Log) -> None:
    """Run work until it returns or is cancelled; run it again after an unexpected exception.

    The pauses, in seconds: 0.2, 0.4, 0.8 ... 10. Work that ran for 10 s before it failed starts at 0.2 again.

    Args:
        name: What the log calls it.
        work: Called for each run.
        log: Told of each exception.
    """
    pause = _FIRST_PAUSE
    while True:
        started = monotonic()
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - the policy of every background task
            if monotonic() - started > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            log(f"{name}: unexpected error, starting again in {pause:g} s: {explain(error)}")
        else:
            return
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def explain(error: BaseException) -> str:
    """Return an exception's trace, which holds no values of variables."""
    return "".join(traceback.format_exception(error)).rstrip()


def log_failure(task: "asyncio.Task[Any]", log: Log) -> bool:
    """Log the exception that ended a task, with its trace; return whether there was one. For `add_done_callback`."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log(f"{task.get_name()}: unexpected error: {explain(error)}")
    return error is not None
