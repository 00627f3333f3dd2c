"""Long work in steps that can be taken up again: each is skipped when its result is there."""

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from tools.machine.errors import ClusterError, StepFailedError, UnavailableError
from tools.machine.process import end_running, say


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


def run_steps(label: str, steps: Sequence[Step], logs: Path, *, lanes: int = 1) -> None:
    """Do what is not done yet, with a line for each step.

    Args:
        label: What the steps make together, as the user reads it.
        steps: The steps. With one lane they run in this order; with more they must not depend on each other.
        logs: The folder of the steps' logs.
        lanes: How many steps run at the same time.

    Raises:
        StepFailedError: A step failed. Steps that run already end first, no other one begins, and what is done is
            kept for the next try.
        KeyboardInterrupt: No other step begins, and the programs that steps run are killed.
    """
    todo = [step for step in steps if not step.is_done()]
    if not todo:
        say(f"{label}: all {len(steps)} from the cache")
        return
    failures: list[BaseException] = []

    def work(step: Step, place: str) -> None:
        if failures:
            return
        try:
            _work(step, place, logs)
        except BaseException as error:  # noqa: BLE001 - the first failure is raised below, once all lanes have ended
            failures.append(error)

    with ThreadPoolExecutor(lanes) as pool:
        try:
            futures = []
            for number, step in enumerate(steps, start=1):
                place = f"{label} [{number}/{len(steps)}] {step.title}"
                if step in todo:
                    futures.append(pool.submit(work, step, place))
                else:
                    say(f"{place}: from the cache")
            wait(futures)
        except KeyboardInterrupt as stop:
            failures.append(stop)
            while wait(futures, timeout=0.2).not_done:
                end_running()  # again, since a step may have just started its next one
            raise
    if failures:
        raise failures[0]


def _work(step: Step, place: str, logs: Path) -> None:
    say(f"{place}: {step.note or 'working'} ...")
    begin = time.monotonic()
    _do(step, logs)
    say(f"{place}: done in {time.monotonic() - begin:.0f} s")


def _do(step: Step, logs: Path) -> None:
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
