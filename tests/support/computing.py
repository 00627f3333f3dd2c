"""The computations of the worker process in the process of a test."""

from interlock.runtime.computations import TASKS


async def compute(_namespace: str, task: str, request: bytes) -> bytes:
    """Run a computation here, as `WorkerProcess.run` does elsewhere."""
    return TASKS[task](request)
