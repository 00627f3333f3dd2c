"""The HTTP server that takes tasks: bounded in what strangers can make it hold."""

import asyncio
import logging
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

MAX_CONNECTIONS: Final = 2560
"""Connections at once: room for the largest `maxConcurrentTasks`, those that wait for it, and words about tasks."""

_BUFFER: Final = 16 * 1024
"""About what of a body, in bytes, lies here before its task has a place."""
_KEEP_ALIVE_SECONDS: Final = 75.0


def _is_ours(record: logging.LogRecord) -> bool:
    """Say whether a record is of more than a stranger's malformed request, of which there may be any number."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_LOGGER: Final = logging.getLogger("aiohttp.server.tasks")
_LOGGER.addFilter(_is_ours)


class TaskServer(web.Server):
    """An HTTP server that takes no more than so many connections at once; others are closed as they come."""

    def __init__(self, handler: Any, most: int = MAX_CONNECTIONS) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,  # a caller that hangs up ends its task
            logger=_LOGGER,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            read_bufsize=_BUFFER,
        )
        self._most = most

    def connection_made(  # type: ignore[explicit-override]  # Python 3.11 has no `override`
        self, handler: RequestHandler, transport: asyncio.Transport
    ) -> None:
        """Take a connection in, or close it where there are too many."""
        if len(self.connections) >= self._most:
            transport.abort()
        super().connection_made(handler, transport)
