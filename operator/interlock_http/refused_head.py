"""The answer to a request whose head cannot be read: which bound it exceeds, and nothing of the head itself."""
# The images of guard and collector have no `typing_extensions`, whose `override` `HeadChecks` would need.
# mypy: disable-error-code="explicit-override"

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from interlock_contract.listeners import Bounds

RefuseHead = Callable[[int, str], web.Response]
"""Builds the answer from a status and a sentence."""


def refuse_in_text(status: int, message: str) -> web.Response:
    """Return the answer as plain text."""
    return web.Response(status=status, text=f"{message}\n")


class HeadChecks(web.RequestHandler):
    """The HTTP stack's protocol of one connection, with answers of our own to heads that it cannot read.

    Args:
        server: The HTTP stack's server.
        bounds: The listener's.
        refuse_head: Builds the answer.
        on_refused: Called when a head is refused, before the answer is sent.
        options: Those of the HTTP stack.
    """

    def __init__(
        self,
        server: web.Server,
        *,
        bounds: Bounds,
        refuse_head: RefuseHead,
        on_refused: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._bounds, self._refuse_head, self._on_refused = bounds, refuse_head, on_refused

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a head that is too large or malformed; anything else is an error of ours."""
        transport = self.transport
        if not isinstance(exc, HttpProcessingError) or request.writer.output_size > 0 or transport is None:
            return super().handle_error(request, status, exc, message)
        if isinstance(exc, LineTooLong):
            status = 431
            words = f"The request line or a header field has more than {self._bounds.field_bytes} bytes."
        else:
            status = 400
            words = f"The request is not well-formed HTTP/1.1, or has more than {self._bounds.fields} header fields."
        response = self._refuse_head(status, words)
        response.force_close()
        self._on_refused()
        self.transport = cast("asyncio.Transport", _LingeringTransport(transport))
        return response


class _LingeringTransport:
    """A transport whose `close` only ends the sending, so that the client has time to read why.

    A connection that is closed with bytes of the client unread is reset, and the client loses the answer.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        if not self._transport.is_closing():
            self._transport.write_eof()
            self._transport.resume_reading()
