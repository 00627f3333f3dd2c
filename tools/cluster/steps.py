"""Long work in steps that can be taken up again: each is skipped when its result is there."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.cluster.errors import ClusterError, StepFailedError, UnavailableError
from tools.cluster.process import say


@dataclass(frozen=True)
class Step:
    """One piece of work with a result that can be seen.

    Attributes:
        title: what is made, as the user reads it.
        is_done: whether the result is there already.
        work: makes it; gets the path of its log.
        hint: what to do when it fails.
        note: how it is made and about how long that takes, or nothing.
    """

    title: str
    is_done: Callable[[], bool]
    work: Callable[[Path], None]
    hint: str = ""
    note: str = ""


def run_steps(label: str, steps: Sequence[Step], logs: Path) -> None:
    """Does what is not done yet, in order, with a line for each step.

    Raises:
        StepFailedError: a step failed; what was done before it is kept for the next try.
    """
    todo = [step for step in steps if not step.is_done()]
    if not todo:
        say(f"{label}: all {len(steps)} from the cache")
        return
    for number, step in enumerate(steps, start=1):
        place = f"{label} [{number}/{len(steps)}] {step.title}"
        if step not in todo:
            say(f"{place}: from the cache")
            continue
        say(f"{place}: {step.note or 'working'} ...")
        begin = time.monotonic()
        _work(step, logs)
        say(f"{place}: done in {time.monotonic() - begin:.0f} s")


def _work(step: Step, logs: Path) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / (re.sub(r"[^a-zA-Z0-9.]+", "-", step.title).strip("-") + ".log")
    log.unlink(missing_ok=True)
    try:
        step.work(log)
    except (UnavailableError, StepFailedError):
        raise
    except ClusterError as error:
        hint = step.hint or "Run the same command again: what is done stays done."
        raise StepFailedError(step.title, str(error), log if log.exists() else None, hint) from error
