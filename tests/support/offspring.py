"""Processes of tests end with the process that started them, also when that one is killed with -9."""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
"""Loaded here: between fork and exec nothing may be imported."""


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends; for `preexec_fn`, so that it survives the exec.

    The parent is a thread (prctl(2)): tests start their processes in pytest's main one. Its death before this call
    goes unseen. Elsewhere than on Linux nothing happens.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
