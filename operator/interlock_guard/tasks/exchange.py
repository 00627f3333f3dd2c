"""One task on its way to the agent, and the answer on its way back; nothing of either is held longer than it must."""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import yarl
from aiohttp import HttpVersion10, web

from interlock_contract.bundle import BundlePeer
from interlock_guard.decision.decide import DenyReason
from interlock_guard.tasks.agent_connector import TaskRoute, explain_miss
from interlock_guard.tasks.headers import Trace, to_agent, to_caller
from interlock_guard.tasks.outcome_classifier import AnswerReader, TaskOutcome
from interlock_guard.tasks.refusals import (
    BODY_TIMED_OUT,
    BROKEN_OFF,
    MAX_BODY,
    TIMED_OUT,
    TOO_LARGE,
    TaskReason,
    TaskRefusal,
    TaskRefused,
    bad_answer,
    malformed,
    peer_timed_out,
    too_late,
    unavailable,
)
from interlock_guard.tasks.request_classes import RequestClass
from interlock_guard.tasks.routing import FORWARDED_BY_ID, FORWARDED_BY_SCOPE, FORWARDED_HEADER, REFUSED_HEADER
from interlock_http.client import explain_head

TASK_SECONDS: Final = 3600.0
"""How long a task may take at most in a guard, from its arrival to the end of its answer, wherever it is passed on."""
CONNECT_SECONDS: Final = 3.0
"""How long pods of the agent may take to accept one connection. Then DNS is asked again which pods there are."""
PEER_CONNECT_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 30.0
"""How long a caller may pause in the middle of its body."""
UNREAD_SECONDS: Final = 60.0
"""How long a caller may read nothing of an answer that waits for it: it keeps another task from running."""

_LIMITS: Final = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
_PEER_LIMITS: Final = aiohttp.ClientTimeout(total=None, sock_connect=PEER_CONNECT_SECONDS)
_NO_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_DECLINES: Final = frozenset(
    {
        TaskReason.OUT_OF_SCOPE,
        TaskReason.DRAINING,
        DenyReason.NO_BUNDLE,
        DenyReason.BUNDLE_NOT_CONFIRMED,
        DenyReason.POLICY_NOT_TESTED,
        DenyReason.STALE_STATE,
    }
)
"""Refusals of another guard that are about this guard alone, or about this moment: the task is routed again."""
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """Where the agent listens, and the connections to it: one for each task, so that none was closed before."""

    session: aiohttp.ClientSession
    host: str
    port: int

    @property
    def is_shared(self) -> bool:
        """Whether it is in this pod: other pods have a name."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def url_of(self, target: str) -> yarl.URL:
        """Return the URL of a path and query, as they stand."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return yarl.URL(f"http://{host}:{self.port}{target}", encoded=True)


@dataclass(slots=True)
class TaskRequest:
    """A request that may pass.

    Attributes:
        http: The request itself.
        id: The task's id, which its answer, the agent's request and the record name.
        trace: The trace that it belongs to.
        kind: What it is.
        rpc: The JSON-RPC method that it names, if its body was looked at.
        body: The body, if it was looked at; else it is still to come.
        begun: The beginning of a body that turned out to be too long to be looked at.
        values: The values that it names of the dimensions of scopes.
        ids: The tasks and contexts of A2A that it names.
        has_begun: Whether it is on its way to an agent.
        task: The task of A2A that the agent's answer has named last; empty without one.
    """

    http: web.BaseRequest
    id: str
    trace: Trace
    kind: RequestClass = RequestClass.TASK
    rpc: str = ""
    body: bytes | None = None
    begun: bytes = b""
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ids: frozenset[str] = frozenset()
    has_begun: bool = False
    task: str = ""

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent to several places, one after the other."""
        return self.body is not None or not self.http.body_exists

    @property
    def forwarded(self) -> str:
        """What another guard asks of this one; empty for a request of a caller."""
        found = self.http.headers.get(FORWARDED_HEADER)
        return "" if found is None else FORWARDED_BY_ID if found == FORWARDED_BY_ID else FORWARDED_BY_SCOPE


class TaskMoved(Exception):  # noqa: N818 - says what became of a task
    """A task belongs to another placement by now. Nothing of it was sent."""


class PeerDeclined(Exception):  # noqa: N818 - says what became of a task
    """A peer did not take a task: its guard refused it, or is not there. Nothing of an answer was sent."""


@dataclass(slots=True, eq=False)
class TaskExchange:
    """One task under way. `outcome` is how it ended, `status` what its caller got, 0 where that was nothing.

    Attributes:
        request: The task.
        agent: Where it goes.
        peer: The placement that it is passed on to; None for the guard's own agent.
        forwarded: For a peer, what its guard is asked.
        waited: How long the task has been in this guard already, in seconds.
        on_message: Called with each message of JSON in the answer.
        route: Which of the agent's pods it may be in.
        ends_connection: Called when the answer begins: whether the caller must send its next request elsewhere.
    """

    request: TaskRequest
    agent: AgentAddress
    peer: BundlePeer | None = None
    forwarded: str = ""
    waited: float = 0.0
    on_message: Callable[[Any], None] = lambda _: None
    route: TaskRoute = field(default_factory=TaskRoute)
    ends_connection: Callable[[], bool] = lambda: False
    outcome: str = ""
    status: int = 0
    _cancelled: TaskRefusal | None = None
    _blame: TaskRefusal | None = None
    _response: web.StreamResponse | None = None
    _reader: AnswerReader | None = None
    _work: asyncio.Task[web.StreamResponse] | None = field(default=None)

    async def carry(self) -> web.StreamResponse:
        """Bring the task to the agent and the answer back; a caller that hangs up ends both.

        Raises:
            PeerDeclined: The peer did not take it.
            TaskMoved: It belongs to another placement, and nothing of it was sent.
            TaskRefused: The guard takes it no longer, and nothing of it was sent.
        """
        self._work = asyncio.create_task(self._bounded())
        try:
            await asyncio.wait({self._work})
        except asyncio.CancelledError:
            self._end(self._left())
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)  # its result is no longer needed
            raise
        if not self._work.cancelled():
            return self._work.result()
        return self._break_off(at_once=True) if self._cancelled is None else self._fail(self._cancelled, at_once=True)

    def cancel(self, refusal: TaskRefusal) -> None:
        """End the task now: its caller gets the refusal, or half an answer that it can tell from a whole one."""
        self._cancelled = refusal
        self._end(refusal.reason)
        if self._work is not None:
            self._work.cancel()

    def _end(self, outcome: str) -> None:
        self.outcome = self.outcome or outcome  # the first word stands

    def _left(self) -> TaskOutcome:
        """Return what a task came to whose caller has hung up; after the last word of a stream it may."""
        return self._reader.finish() if self._reader and self._reader.has_last_word else TaskOutcome.CANCELLED

    async def _bounded(self) -> web.StreamResponse:
        try:
            self.route.follow()
            async with asyncio.timeout(max(0.0, TASK_SECONDS - self.waited)):
                return await self._forward()
        except TimeoutError:
            self._end(TaskOutcome.TIMED_OUT)
            if not self.route.is_connected:
                return self._fail(too_late() if self.peer is None else too_late(self.peer.stage))
            return self._fail(TIMED_OUT if self.peer is None else peer_timed_out(self.peer.stage))

    async def _forward(self) -> web.StreamResponse:
        try:
            answer = await self._ask()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:  # nothing was sent
            if self.peer is not None:
                raise PeerDeclined from None
            self._end(TaskOutcome.AGENT_UNAVAILABLE)
            why = explain_miss(error, self.route, port=self.agent.port, is_shared=self.agent.is_shared)
            return self._fail(unavailable(self.route.waited, self.route.tries, why))
        except aiohttp.ClientResponseError as error:  # what came is no answer
            self._blame = self._blame or bad_answer(explain_head(error))
            return self._fail(self._broken())
        except (aiohttp.ClientError, OSError):
            return self._fail(self._broken())
        try:
            if self._is_declined(answer):
                raise PeerDeclined
            return await self._pass_back(answer)
        finally:
            answer.close()

    def _is_declined(self, answer: aiohttp.ClientResponse) -> bool:
        """Return True if the guard of a peer refused the task, and it can be sent elsewhere.

        A guard that is asked for ids and refuses for any reason does not know them, or cannot say. Its refusal is no
        answer then: an exhausted budget or a start of one placement is not that of the others.
        """
        reason = "" if self.peer is None else answer.headers.get(REFUSED_HEADER, "")
        is_refused = bool(reason) if self.forwarded == FORWARDED_BY_ID else reason in _DECLINES
        return is_refused and self.request.is_repeatable

    async def _ask(self) -> aiohttp.ClientResponse:
        request = self.request
        headers = to_agent(request.http.headers, request.id, request.trace)
        if self.forwarded:
            headers[FORWARDED_HEADER] = self.forwarded
        return await self.agent.session.request(
            request.http.method,
            self.agent.url_of(request.http.raw_path),
            headers=headers,
            data=self._body(),
            skip_auto_headers=_NO_AUTOMATIC,
            allow_redirects=False,
            timeout=_LIMITS if self.peer is None else _PEER_LIMITS,
            middlewares=(_send_once,),
        )

    def _body(self) -> AsyncIterator[bytes] | bytes | None:
        if self.request.body is not None:
            return self.request.body
        return self._read_on() if self.request.http.body_exists else None

    async def _read_on(self) -> AsyncIterator[bytes]:
        """Hand the body on as it comes; one that does not say its length may turn out to be too long."""
        http = self.request.http
        if "Expect" in http.headers and not self.request.begun:
            await tell_to_continue(http)
        sent = len(self.request.begun)
        if sent:
            yield self.request.begun
        while chunk := await self._read_some():
            sent += len(chunk)
            if sent > MAX_BODY:
                self._blame = TOO_LARGE
                raise TaskRefused(TOO_LARGE)  # ends the request to the agent in its middle
            yield chunk

    async def _read_some(self) -> bytes:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                return await self.request.http.content.readany()
        except TimeoutError:
            self._blame = BODY_TIMED_OUT
            raise
        except Exception:
            self._blame = malformed("The body is not whole, or not well-formed.")
            raise

    def _broken(self) -> TaskRefusal:
        """Return what to say where the exchange with the agent has broken: the caller's body broke it, or the agent."""
        refusal = self._blame or BROKEN_OFF
        self._end(refusal.reason)
        return refusal

    async def _pass_back(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = to_caller(answer.headers, self.request.id)
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        self._response, self.status = response, answer.status
        if self.ends_connection():
            response.force_close()
        reader = self._reader = AnswerReader(
            answer.status,
            answer.content_type,
            is_coded="Content-Encoding" in answer.headers,
            on_message=self.on_message,
        )
        try:
            await response.prepare(self.request.http)
            while True:
                try:
                    chunk = await answer.content.readany()
                except (aiohttp.ClientError, OSError):
                    self._broken()
                    return self._break_off()
                if not chunk:
                    break
                reader.feed(chunk)
                async with asyncio.timeout(UNREAD_SECONDS):
                    await response.write(chunk)
            async with asyncio.timeout(UNREAD_SECONDS):
                await response.write_eof()
        except TimeoutError:
            self._end(self._left())
            return self._break_off(at_once=True)
        except OSError:
            self._end(self._left())
            raise
        self._end(reader.finish())
        return response

    def _fail(self, refusal: TaskRefusal, *, at_once: bool = False) -> web.StreamResponse:
        """Return a refusal as the answer; an answer that has begun is broken off."""
        if self._response is not None:
            return self._break_off(at_once=at_once)
        self.status = refusal.status
        headers = {**refusal.headers, "Interlock-Task": self.request.id}
        return web.Response(status=refusal.status, body=refusal.body, headers=headers)

    def _break_off(self, *, at_once: bool = False) -> web.StreamResponse:
        """End the connection so that the caller sees that the answer is not whole."""
        break_off(self.request.http, at_once=at_once)
        return self._response or web.Response(status=499)  # no client is left to read it


class _Disconnected(aiohttp.ClientError):
    """The connection has ended after the request was sent, without an answer."""


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request once. By itself aiohttp repeats each GET, PUT and DELETE whose connection ends without an answer.

    The agent may be at work on it, and for a task that was passed on, two guards would repeat it.
    """
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):  # nothing was sent
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Disconnected from error


async def tell_to_continue(http: web.BaseRequest) -> None:
    """Tell a caller that waits for it to send its body."""
    if http.version > HttpVersion10 and http.transport is not None:
        http.transport.write(_CONTINUE)


def break_off(http: web.BaseRequest, *, at_once: bool = False) -> None:
    """End a connection in the middle of an answer.

    Args:
        http: The request that is answered.
        at_once: What has not left yet does not leave at all.
    """
    transport = http.transport
    if transport is None:
        return
    if http.version == HttpVersion10:  # the end of its connection is the end of an answer, so only a reset tells
        found = transport.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    elif at_once:
        transport.abort()
    else:
        transport.close()
