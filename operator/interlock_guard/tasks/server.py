"""The way in: tasks for the agent, as plain HTTP or A2A over it, checked, bounded, passed on and counted.

Nothing is decided about what a task says; what the agent then does is decided on call by call.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web

from interlock_guard.bundle.document import TaskIntake
from interlock_guard.decision.decide import check_cut, check_open
from interlock_guard.records.recorder import Recorder
from interlock_guard.state import LiveState
from interlock_guard.tasks.checks import check_request
from interlock_guard.tasks.connections import TaskServer
from interlock_guard.tasks.counts import TaskCounts
from interlock_guard.tasks.exchange import Agent, TaskExchange, TaskRequest, tell_to_continue
from interlock_guard.tasks.headers import read_trace
from interlock_guard.tasks.kinds import LONGEST_LOOKED_AT, Kind, kind_of, read_rpc_method
from interlock_guard.tasks.refusals import BODY_TIMED_OUT, NO_TASKS, Refusal, TaskReason, TaskRefused, closed
from interlock_guard.tasks.slots import Slots
from interlock_guard.tasks.verdicts import Outcome

ASIDES_PER_SLOT: Final = 4
"""How many words about tasks may be under way for each task that may be."""
BODY_SECONDS: Final = 10.0
"""How long the body of a short JSON request may take, which is read before a place is asked for."""

_SHUTDOWN_SECONDS: Final = 0.2
_ENDING: Final = Refusal(503, Outcome.GUARD_ENDED, "The guard is being ended: try again.", retry_after=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskParts:
    """What the way in is made of; `monotonic` is the clock of the state, `host` where the agent listens."""

    live: LiveState
    recorder: Recorder
    counts: TaskCounts
    session: aiohttp.ClientSession
    monotonic: Callable[[], float]
    host: str


class TaskEndpoint:
    """Takes tasks for the agent."""

    def __init__(self, parts: TaskParts) -> None:
        self._live, self._recorder, self._counts = parts.live, parts.recorder, parts.counts
        self._session, self._monotonic, self._host = parts.session, parts.monotonic, parts.host
        self._slots = Slots()
        self._asides = Slots(waiting_per_slot=0)
        self._open: set[TaskExchange] = set()
        self.runner = web.ServerRunner(TaskServer(self._handle), shutdown_timeout=_SHUTDOWN_SECONDS)
        parts.live.listeners.append(self._follow)

    def lines(self) -> list[str]:
        """Return the figures about tasks in Prometheus' text format."""
        return self._counts.lines(self._slots.taken, self._slots.waiting)

    def end(self) -> None:
        """End every task, since the guard itself ends."""
        self._send_all_away(_ENDING)

    def _follow(self) -> None:
        """Take over how much may be under way; once nothing may go on, end everything at once."""
        bundle = self._live.bundle
        limit = 0 if bundle is None or bundle.tasks is None else bundle.tasks.max_concurrent
        denial = check_cut(bundle, self._live.state)
        if denial is not None:
            self._send_all_away(closed(denial))
            self._abort_what_is_going_out()
        elif limit == 0:
            self._slots.send_away(self._closed_or_no_tasks())
        self._slots.resize(limit)
        self._asides.resize(limit * ASIDES_PER_SLOT)

    def _send_all_away(self, refusal: Refusal) -> None:
        self._slots.send_away(refusal)
        for exchange in list(self._open):
            exchange.cut(refusal)

    def _abort_what_is_going_out(self) -> None:
        server = self.runner.server
        for connection in [] if server is None else server.connections:
            transport = connection.transport
            if transport is not None and transport.get_write_buffer_size() > 0:
                transport.abort()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        since = self._monotonic()
        trace = read_trace(http.headers.getall("traceparent", ()), secrets.token_hex(24))
        request = TaskRequest(http, secrets.token_hex(16), trace)
        try:
            self._admit(http)
            await self._look_at(request)
            slots = self._asides if request.kind == Kind.CONTROL else self._slots
            await slots.take()
        except TaskRefused as refused:
            return self._refuse(refused.refusal)
        except (asyncio.CancelledError, OSError):
            self._counts.refused[TaskReason.GAVE_UP] += 1
            raise
        try:
            return await self._carry(request, since)
        finally:
            slots.give_back()

    def _admit(self, http: web.BaseRequest) -> TaskIntake:
        """Return how the agent takes tasks.

        Raises:
            TaskRefused: It takes none now, or not this one.
        """
        denial = check_open(self._live.bundle, self._live.state, self._monotonic())
        if denial is not None:
            raise TaskRefused(closed(denial))
        refusal = check_request(http)
        if refusal is not None:
            raise TaskRefused(refusal)
        bundle = self._live.bundle
        if bundle is None or bundle.tasks is None:
            raise TaskRefused(NO_TASKS)
        return bundle.tasks

    def _closed_or_no_tasks(self) -> Refusal:
        denial = check_open(self._live.bundle, self._live.state, self._monotonic())
        return NO_TASKS if denial is None else closed(denial)

    async def _look_at(self, request: TaskRequest) -> None:
        """Find out what a request is; of a short JSON body, what it says.

        Raises:
            TaskRefused: The body did not come in time.
        """
        http = request.http
        length = http.content_length
        is_json = http.content_type == "application/json" and "Content-Encoding" not in http.headers
        if is_json and length is not None and 0 < length <= LONGEST_LOOKED_AT:
            if "Expect" in http.headers:
                await tell_to_continue(http)
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    request.body = await http.content.readexactly(length)
            except TimeoutError:
                raise TaskRefused(BODY_TIMED_OUT) from None
            request.rpc = read_rpc_method(request.body)
        request.kind = kind_of(http.method, http.raw_path, request.rpc)

    def _refuse(self, refusal: Refusal) -> web.StreamResponse:
        self._counts.refused[str(refusal.reason)] += 1
        response = web.Response(status=refusal.status, body=refusal.body, headers=refusal.headers)
        if refusal.ends_connection:
            response.force_close()
        return response

    async def _carry(self, request: TaskRequest, since: float) -> web.StreamResponse:
        """Pass a task on that has a place; what has changed while it waited is looked at again."""
        try:
            intake = self._admit(request.http)
        except TaskRefused as refused:
            return self._refuse(refused.refusal)
        began = self._monotonic()
        exchange = TaskExchange(request, Agent(self._session, self._host, intake.port))
        self._open.add(exchange)
        try:
            return await exchange.carry()
        finally:
            self._open.discard(exchange)
            self._finish(exchange, since, began)

    def _finish(self, exchange: TaskExchange, since: float, began: float) -> None:
        now, request = self._monotonic(), exchange.request
        outcome = exchange.outcome or Outcome.GUARD_ENDED
        self._counts.end(request.kind, outcome, now - since)
        fields = {
            "task": request.id,
            "trace": request.trace.id,
            "type": str(request.kind),
            "method": request.http.method,
            "rpc": request.rpc,
            "caller": request.http.remote or "",
            "outcome": str(outcome),
            "status": exchange.status,
            "waitSeconds": round(began - since, 6),
            "durationSeconds": round(now - since, 6),
        }
        self._recorder.finish_task(self._live.bundle, fields)
