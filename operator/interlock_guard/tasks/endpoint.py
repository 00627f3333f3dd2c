"""The endpoint of tasks for the agent, plain HTTP or A2A: each is checked, bounded, forwarded and counted.

The content of a task is not decided on. The agent's calls are, one by one.
"""

import asyncio
import re
import secrets
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp import HttpVersion10, HttpVersion11, web

from interlock_contract.bundle import BundleTasks
from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_guard.audit.recorder import Recorder
from interlock_guard.budget.task_accounts import TaskAccounts
from interlock_guard.decision.decide import check_open, check_terminated
from interlock_guard.state import LiveState
from interlock_guard.tasks.concurrency_limiter import ConcurrencyLimiter
from interlock_guard.tasks.exchange import AgentAddress, TaskExchange, TaskRequest, tell_to_continue
from interlock_guard.tasks.headers import imitates, read_trace
from interlock_guard.tasks.metrics import TaskMetrics
from interlock_guard.tasks.outcome_classifier import FAILURES, OF_THE_AGENT, TaskOutcome
from interlock_guard.tasks.refusals import (
    BODY_TIMED_OUT,
    MAX_BODY,
    NO_TASKS,
    OWN_POD,
    TOO_LARGE,
    TaskReason,
    TaskRefusal,
    TaskRefused,
    closed,
    exhausted,
    malformed,
)
from interlock_guard.tasks.request_classes import LONGEST_LOOKED_AT, RequestClass, classify_request, read_rpc_method
from interlock_http.listener import BoundedListener
from interlock_http.own_pod import OwnPod

METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""The methods that reach an agent."""
_BODILESS: Final = frozenset({"GET", "HEAD"})
"""Methods whose body has no meaning (RFC 9110, section 9.3.1): many servers leave it on the connection."""

_TARGET: Final = re.compile(r"/[!-\"$-~]*\Z")
"""Origin form of RFC 9112, section 3.2.1: printable ASCII, and no fragment, which clients keep to themselves."""
_LENGTH: Final = re.compile(r"[0-9]{1,18}\Z")
_ONCE: Final = ("Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Expect", "Authorization")
_SWITCHES: Final = frozenset({"websocket", "tcp"})
"""What the HTTP parser switches to; any other offer of an upgrade may be ignored (RFC 9110, section 7.8)."""


def check_request(http: web.BaseRequest) -> TaskRefusal | None:
    """Return why the request is not passed on, as far as its head tells."""
    return _check_line(http) or _check_headers(http) or _check_size(http)


def _check_line(http: web.BaseRequest) -> TaskRefusal | None:
    if http.version not in (HttpVersion10, HttpVersion11):
        return malformed("This speaks HTTP/1.1.", 505)
    if http.method not in METHODS:
        return malformed(f"The method must be one of {', '.join(sorted(METHODS))}.", 405)
    if _TARGET.match(http.raw_path) is None:
        return malformed("The request's target must be a path, printable and without a fragment.")
    return None


def _check_headers(http: web.BaseRequest) -> TaskRefusal | None:
    headers = http.headers
    doubled = next((name for name in _ONCE if len(headers.getall(name, ())) > 1), None)
    if doubled is not None:
        return malformed(f"The header {doubled} is there twice.")
    imitation = next((name for name in headers if imitates(name)), None)
    if imitation is not None:
        return malformed(f"The header {imitation} could be taken for another one: use no sign but - in its name.")
    if http.version == HttpVersion11 and not headers.get("Host"):
        return malformed("The header Host is missing.")
    if headers.get("Upgrade", "").strip().lower() in _SWITCHES:
        return malformed("Web sockets and other protocols than HTTP are not passed on.", 501)
    if headers.get("Expect", "100-continue").lower() != "100-continue":
        return malformed("Nothing but 100-continue can be expected here.", 417)
    return None


def _check_size(http: web.BaseRequest) -> TaskRefusal | None:
    length, coding = http.headers.get("Content-Length"), http.headers.get("Transfer-Encoding")
    if length is not None and coding is not None:
        return malformed("Content-Length and Transfer-Encoding contradict each other: send one of them.")
    if coding is not None and (coding.lower() != "chunked" or http.version == HttpVersion10):
        return malformed("The only Transfer-Encoding that is read is chunked, in HTTP/1.1.", 501)
    if length is not None and _LENGTH.match(length) is None:
        return malformed("Content-Length is not a number.")
    if http.method in _BODILESS and (coding is not None or int(length or "0") > 0):
        return malformed(f"A {http.method} request has no body: send it by POST.")
    return TOO_LARGE if length is not None and int(length) > MAX_BODY else None


CONTROL_REQUESTS_PER_TASK: Final = 4
"""How many control requests may be under way for each task that may be."""
BODY_SECONDS: Final = 10.0
"""How long the body of a short JSON request may take, which is read before a place is asked for."""

_SHUTDOWN_SECONDS: Final = 0.2
_ENDING: Final = TaskRefusal(503, TaskOutcome.GUARD_ENDED, "The guard is being ended: try again.", retry_after=1)


class TaskEndpoint:
    """Takes tasks for the agent.

    Args:
        live: The Agent's state and its bundle.
        recorder: Stores how tasks ended.
        session: Sends tasks to the agent.
        monotonic: The clock of `live`, in seconds.
        host: Where the agent listens.
        own_pod: Tells callers in the guard's own pod, such as its MCP servers, from others.
        seconds_until_money: Says how long the budget is exhausted; None while it is not.
        accounts: The accounts of the tasks under way.
    """

    def __init__(
        self,
        *,
        live: LiveState,
        recorder: Recorder,
        session: aiohttp.ClientSession,
        monotonic: Callable[[], float],
        host: str,
        own_pod: OwnPod,
        seconds_until_money: Callable[[], int | None] = lambda: None,
        accounts: TaskAccounts | None = None,
    ) -> None:
        self._live, self._recorder, self._counts = live, recorder, TaskMetrics()
        self._session, self._monotonic, self._host = session, monotonic, host
        self._own_pod, self._seconds_until_money = own_pod, seconds_until_money
        self._accounts = accounts or TaskAccounts()
        self._tasks = ConcurrencyLimiter()
        self._control_requests = ConcurrencyLimiter(waiting_per_slot=0)
        self._open: set[TaskExchange] = set()
        self.listener = BoundedListener(LISTENERS[ListenerName.TASKS], self._refuse_head)
        self.runner = self.listener.build_server_runner(
            self._handle,
            handler_cancellation=True,  # a caller that hangs up ends its task
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )

    def lines(self) -> list[str]:
        """Return the figures about tasks in Prometheus' text format."""
        return self._counts.lines(self._tasks.taken, self._tasks.waiting)

    def end(self) -> None:
        """End every task, since the guard itself ends."""
        self._send_all_away(_ENDING)

    def follow(self) -> None:
        """Take over how much may be under way; as soon as nothing may go on, end everything."""
        bundle = self._live.bundle
        limit = 0 if bundle is None or bundle.tasks is None else bundle.tasks.max_concurrent
        denial = check_terminated(bundle, self._live.state)
        if denial is not None:
            self._send_all_away(closed(denial))
            self._abort_what_is_going_out()
        elif limit == 0:
            self._tasks.send_away(self._closed_or_no_tasks())
        self._tasks.resize(limit)
        self._control_requests.resize(limit * CONTROL_REQUESTS_PER_TASK)

    def _send_all_away(self, refusal: TaskRefusal) -> None:
        self._tasks.send_away(refusal)
        for exchange in list(self._open):
            exchange.cancel(refusal)

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
            await self._inspect(request)
            self._check_budget(request)
            slots = self._control_requests if request.kind == RequestClass.CONTROL else self._tasks
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

    def _admit(self, http: web.BaseRequest) -> BundleTasks:
        """Return how the agent takes tasks.

        Raises:
            TaskRefused: It takes none now, or not this one.
        """
        if self._own_pod.has(http.remote):
            raise TaskRefused(OWN_POD)
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

    def _check_budget(self, request: TaskRequest) -> None:
        """Refuse a task that the agent has no money for. What controls a task under way passes.

        Raises:
            TaskRefused: The budget is exhausted.
        """
        seconds = None if request.kind == RequestClass.CONTROL else self._seconds_until_money()
        if seconds is not None:
            raise TaskRefused(exhausted(seconds))

    def _closed_or_no_tasks(self) -> TaskRefusal:
        denial = check_open(self._live.bundle, self._live.state, self._monotonic())
        return NO_TASKS if denial is None else closed(denial)

    async def _inspect(self, request: TaskRequest) -> None:
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
        request.kind = classify_request(http.method, http.raw_path, request.rpc)

    def _refuse_head(self, status: int, message: str) -> web.Response:
        return self._refuse(malformed(message, status))

    def _refuse(self, refusal: TaskRefusal) -> web.Response:
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
        exchange = TaskExchange(request, AgentAddress(self._session, self._host, intake.port))
        self._open.add(exchange)
        if request.kind != RequestClass.CONTROL:
            self._accounts.begin(request.id)
        try:
            return await exchange.carry()
        finally:
            self._accounts.end(request.id)
            self._open.discard(exchange)
            self._finish(exchange, since, began)

    def _finish(self, exchange: TaskExchange, since: float, began: float) -> None:
        now, request = self._monotonic(), exchange.request
        outcome = exchange.outcome or TaskOutcome.GUARD_ENDED
        self._counts.end(request.kind, outcome, now - since)
        if request.kind == RequestClass.TASK and outcome in OF_THE_AGENT:
            self._recorder.work.end_task(now - since, is_failure=outcome in FAILURES)
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
