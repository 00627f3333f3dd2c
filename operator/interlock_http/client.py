"""Bounded HTTP client connections: how many responses one request may have, and how large the head of one may be.

aiohttp bounds one header field and their number. It bounds neither the whole head nor the responses to a request, and
keeps both until they are read, so that a server could fill the memory with them.
"""
# The guard's image has no `typing_extensions`, whose `override` `_Responses` would need.
# mypy: disable-error-code="explicit-override"

import asyncio
from functools import partial
from typing import Any, Final, cast

import aiohttp
from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

MAX_HEAD: Final = 128 * 1024
"""Most bytes of the heads of the responses to one request; up to one portion more is noticed too late."""
_MOST_RESPONSES: Final = 16
"""Most responses to one request: the provisional ones (HTTP 1xx) and the final one."""
_PROVISIONAL: Final = frozenset(range(100, 200)) - {101}
_PORTION: Final = 8 * 1024
"""Bytes that are parsed at a time."""


class _HeadTooLarge(HttpProcessingError):  # noqa: N818 - says what happened, like those of aiohttp
    """The heads of the responses to a request have more than `MAX_HEAD` bytes."""


class BoundedConnector(aiohttp.TCPConnector):
    """Makes connections whose responses are bounded."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        build = cast("type[ResponseHandler]", _Responses)
        self._factory = partial(build, loop=asyncio.get_running_loop())  # aiohttp has no option for it


class _Responses(ResponseHandler):
    """The responses of one connection: to each request a few provisional ones (HTTP 1xx) and a final one."""

    _left = 0
    """Responses that may still come to the request."""
    _head = 0
    """Bytes that have come of their heads."""

    def set_response_params(self, **options: Any) -> None:
        self._left, self._head = _MOST_RESPONSES, 0
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        for start in range(0, max(len(data), 1), _PORTION):
            if start and not self.is_connected():
                break
            portion = data[start : start + _PORTION]
            if self._left > 0:
                self._head += len(portion)
                if self._head > MAX_HEAD + _PORTION:
                    self._fail(_HeadTooLarge())
                    break
            super().data_received(portion)

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - the interface's
        """Go on reading, if reading was paused: aiohttp asks for it after each piece of a body."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if self._left == 0:
            self._fail(HttpProcessingError(message="more responses than a request can have"))
            return
        self._left = self._left - 1 if data[0].code in _PROVISIONAL else 0
        super().feed_data(data, size)

    def _fail(self, error: HttpProcessingError) -> None:
        self.set_exception(error)
        if self.transport is not None:
            self.transport.abort()


def explain_head(error: BaseException) -> str:
    """Return what of a response's head is too large, such as `a header field of more than 16384 bytes`; else nothing.

    aiohttp names the cause in the cause of the cause of its error. Its own text must not be shown: it repeats the
    beginning of the field, which may be a secret.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LineTooLong):
            return f"a header field of more than {cause.args[1]} bytes"
        if isinstance(cause, _HeadTooLarge):
            return f"header fields of more than {MAX_HEAD} bytes in all"
        cause = cause.__cause__
    return ""
