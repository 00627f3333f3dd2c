"""Processes of tests end with the process that started them, also when that one is killed with -9."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
"""Loaded here: between fork and exec nothing may be imported."""


def end_with_parent(parent: int | None = None) -> None:
    """Have the kernel end this process when its parent ends; for `preexec_fn`, so that it survives the exec.

    The parent is a thread (prctl(2)): tests start their processes in pytest's main one. Elsewhere than on Linux nothing
    happens.

    Args:
        parent: The parent's process id, read before the fork. A parent that ended before this call is noticed by it.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
