"""One call of a model under way: sent once, its answer passed on as it comes, its cost settled when it ends.

A call with a budget is not over when its client hangs up. The provider goes on and charges, so the guard reads on for a
while to see the usage. A kill ends every call immediately:

    the client hangs up          read on, at most hang_up_seconds   the usage is charged
    that time is over, a kill    close the connection               the whole reservation is charged
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import ClientResponse, web

from interlock_contract.mcp import EVENT_STREAM
from interlock_contract.model_access import Shape
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.downstream.authorizer import ABANDONED, ANSWERED, ERROR, OpenRecord
from interlock_guard.llm.answer_screen import AnswerScreen, check_headers, check_media_types
from interlock_guard.llm.metering import MeteredCall
from interlock_guard.llm.provider_client import ProviderClient, response_headers
from interlock_guard.llm.request_body import OutgoingBody
from interlock_guard.upstream.http_client import HttpAnswer, UpstreamError, make_room
from interlock_guard.wire.large_messages import Hold

_FIRST_ERROR: Final = 400
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
_MAX_ERROR: Final = 1024 * 1024


class AgentGone(Exception):  # noqa: N818 - says what happened
    """The agent's connection is gone, and the answer is not read on."""


@dataclass(slots=True, eq=False)
class ModelCall:
    """A call under way.

    Attributes:
        http: The agent's request.
        shape: Whose API it speaks.
        record: The record of its authorization.
        body: What is sent.
        wants_stream: Whether the request asks for a stream. An SDK then reads events, whatever the answer's media type.
        metered: Its cost.
        task: What forwards it.
        has_begun: Whether the agent may have got some of the answer.
        is_gone: Whether the agent has hung up.
        cut: Why it was cut, if it was.
        outcome: How it ended.
    """

    http: web.Request
    shape: Shape
    record: OpenRecord
    body: OutgoingBody
    wants_stream: bool
    metered: MeteredCall
    task: "asyncio.Task[web.StreamResponse] | None" = None
    has_begun: bool = False
    is_gone: bool = False
    cut: Deny | None = None
    outcome: str = ""
    _deadline: asyncio.TimerHandle | None = field(default=None)

    def end_as(self, outcome: str) -> None:
        """Note how the call ended; the first outcome stands."""
        self.outcome = self.outcome or outcome

    def cancel(self, denial: Deny) -> None:
        """End the call immediately."""
        self.cut = denial
        if self.task is not None:
            self.task.cancel()

    def hang_up(self) -> bool:
        """Note that the agent has hung up; return whether the answer is read on, for its usage."""
        self.end_as(ABANDONED)
        if self.is_gone:
            return True
        self.is_gone = True
        seconds = self.metered.hang_up_seconds if self.body.is_begun else 0
        task = self.task
        if task is None or task.done():
            return False
        if seconds == 0:
            task.cancel()
            return False
        self._deadline = asyncio.get_running_loop().call_later(seconds, task.cancel)
        return True

    def finish(self, settle: Callable[[MeteredCall, bool], Mapping[str, Any]]) -> None:
        """Settle the cost and record the outcome.

        Args:
            settle: Settles the cost; told whether the provider may have got some of the request.
        """
        if self._deadline is not None:
            self._deadline.cancel()
        if self.cut is not None:
            self.end_as(self.cut.reason.value)
        cost = None
        try:
            cost = settle(self.metered, self.body.is_begun)
        finally:
            self.record.complete(self.outcome or DenyReason.SERVER_UNAVAILABLE.value, cost)


async def relay(
    call: ModelCall, sending: AbstractAsyncContextManager[ClientResponse], client: ProviderClient, hold: Hold
) -> web.StreamResponse:
    """Send a call and pass its answer on as it comes, without a key of the provider.

    Args:
        call: The call.
        sending: Sends it.
        client: The client of its provider.
        hold: The part of the memory for large messages that a large event takes.

    Raises:
        UpstreamError: No usable answer came, or it broke off.
        AgentGone: The agent has hung up.
    """
    try:
        return await _relay(call, sending, client, hold)
    except UpstreamError as failed:
        if failed.refused_status is not None:  # such as that of a redirect
            call.metered.status = failed.refused_status
        raise


async def _relay(
    call: ModelCall, sending: AbstractAsyncContextManager[ClientResponse], client: ProviderClient, hold: Hold
) -> web.StreamResponse:
    async with sending as answer:
        metered = call.metered
        is_events = call.wants_stream or answer.content_type == EVENT_STREAM
        usage = metered.begin_answer(answer, is_events=is_events)
        passed = response_headers(answer.headers)
        check_headers(passed, client.credentials.stands_in_header)  # first: the other check's message quotes a header
        check_media_types(answer.headers.getall("Content-Type", []))
        screen = AnswerScreen(client.shows_secret, is_events=is_events, usage=usage)
        if answer.status >= _FIRST_ERROR:
            told = await HttpAnswer(answer).read(_MAX_ERROR)
            body = b"".join([ready async for ready in screen.feed_in_steps(told)]) + screen.finish()
            call.end_as(ERROR)
            return web.Response(status=answer.status, body=body, headers=passed)
        chunks = answer.content.iter_any()
        first = answer.content.read_nowait()  # what came with the head
        if not first and answer.content_type in _PAGES:
            first = await anext(chunks, b"")
        if answer.content_type in _PAGES and first.lstrip().startswith(b"<"):
            raise UpstreamError("answered with a web page, not as an API of models does: check its URL", is_sent=True)
        response = (_Answer if first else web.StreamResponse)(status=answer.status, headers=passed)
        response.content_length = None if metered.changes_length else answer.content_length
        to_agent = _ToAgent(call, response)
        if not first:  # the first bytes can take minutes
            await to_agent.begin()
        async for chunk in _chain(first, chunks):
            async for ready in screen.feed_in_steps(chunk):
                await make_room(hold, screen.size)
                if ready:
                    await to_agent.write(metered.feed(ready))
        last = metered.feed(screen.finish())
        metered.is_complete = True
        await to_agent.write_eof(last)
        call.end_as(ANSWERED)
        return response


class _Answer(web.StreamResponse):
    """An answer whose headers go out together with its first bytes."""

    _send_headers_immediately = False  # of aiohttp, which has no option for it


class _ToAgent:
    """The agent's side of an answer; nothing is written to an agent that is gone."""

    def __init__(self, call: ModelCall, response: web.StreamResponse) -> None:
        self._call, self._response = call, response

    async def begin(self) -> None:
        """Begin the answer, unless it has begun: from here on it can only be broken off."""
        if not self._call.is_gone and not self._call.has_begun:
            self._call.has_begun = True
            try:
                await self._response.prepare(self._call.http)
            except ConnectionError:
                self._hang_up()

    async def write(self, part: bytes) -> None:
        await self.begin()
        if part and not self._call.is_gone:
            try:
                await self._response.write(part)
            except ConnectionError:
                self._hang_up()

    async def write_eof(self, part: bytes) -> None:
        await self.begin()
        if not self._call.is_gone:
            try:
                await self._response.write_eof(part)
            except ConnectionError:
                self._call.hang_up()

    def _hang_up(self) -> None:
        """Go on without the agent, or end.

        Raises:
            AgentGone: The answer is not read on.
        """
        if not self._call.hang_up():
            raise AgentGone from None


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a first chunk and the ones after it."""
    yield first
    async for chunk in rest:
        yield chunk
