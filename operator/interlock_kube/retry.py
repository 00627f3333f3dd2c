"""Retries while the API server is away or not ready yet, as after its own restart."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from interlock_kube.client import UNREACHABLE, ApiError

_log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_SECONDS = 0.5
TOO_MANY = 429  # also the answer while the API server's own storage is being initialized
SERVER_ERROR = 500


async def retry_until_available(send: Callable[[], Awaitable[T]]) -> T:
    """Send a request until the API server is available; return its answer.

    Raises:
        ApiError: The API server refused, and would refuse again.
    """
    while True:
        try:
            return await send()
        except (ApiError, *UNREACHABLE) as error:
            if not is_unavailable(error):
                raise
            _log.warning("the API server does not answer yet", extra={"error": str(error) or type(error).__name__})
        await asyncio.sleep(PAUSE_SECONDS)


def is_unavailable(error: Exception) -> bool:
    """Return True if an error says that the API server does not answer at the moment, whatever it is asked."""
    if isinstance(error, ApiError):
        return error.status == TOO_MANY or error.status >= SERVER_ERROR
    return isinstance(error, UNREACHABLE)
