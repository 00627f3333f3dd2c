"""What can go wrong, in the words the user sees."""

from pathlib import Path


class ClusterError(Exception):
    """Something failed that the user can act on; the message says how."""


class UnavailableError(ClusterError):
    """This machine cannot do it at all; the message is the one sentence that says what is missing."""


class StepFailedError(ClusterError):
    """One step of a build or a start failed.

    Args:
        title: what was being done.
        cause: the last thing that the failing program said.
        log: where all of it stands, if there is a log.
        hint: what to do next.
    """

    def __init__(self, title: str, cause: str, log: Path | None = None, hint: str = "") -> None:
        parts = [f"{title} failed: {cause.strip() or 'no output'}"]
        if hint:
            parts.append(hint)
        if log is not None:
            parts.append(f"All of its output: {log}")
        super().__init__("\n".join(parts))
