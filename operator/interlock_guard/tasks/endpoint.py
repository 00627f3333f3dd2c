"""The endpoint of tasks for the agent, plain HTTP or A2A: each is checked, bounded, routed, forwarded and counted.

The content of a task is not decided on. The agent's calls are, one by one.
"""

import asyncio
import functools
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final

import aiohttp
import yarl
from aiohttp import web

from interlock_contract.bundle import Bundle, BundlePeer, BundleTasks
from interlock_contract.drain_report import LEAST_DRAIN_SECONDS
from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_guard.audit.recorder import Recorder
from interlock_guard.budget.task_accounts import TaskAccounts
from interlock_guard.decision.decide import check_open, check_terminated
from interlock_guard.decision.scope import describe_values
from interlock_guard.state import LiveState
from interlock_guard.tasks.a2a_ids import read_answer_ids
from interlock_guard.tasks.agent_connector import REACH_SECONDS, TaskRoute
from interlock_guard.tasks.begun import BegunTasks
from interlock_guard.tasks.concurrency_limiter import ConcurrencyLimiter
from interlock_guard.tasks.exchange import AgentAddress, PeerDeclined, TaskExchange, TaskMoved, TaskRequest
from interlock_guard.tasks.headers import read_trace
from interlock_guard.tasks.inspection import BodyRoom, inspect, measure_read
from interlock_guard.tasks.known_ids import KnownIds
from interlock_guard.tasks.metrics import TaskMetrics
from interlock_guard.tasks.outcome_classifier import FAILURES, OF_THE_AGENT, TaskOutcome
from interlock_guard.tasks.refusals import (
    NO_TASKS,
    OWN_POD,
    RECORDED,
    UNKNOWN_TASK,
    TaskReason,
    TaskRefusal,
    TaskRefused,
    closed,
    exhausted,
    malformed,
    peer_unavailable,
)
from interlock_guard.tasks.request_checks import check_request
from interlock_guard.tasks.request_classes import RequestClass
from interlock_guard.tasks.routing import (
    FORWARDED_BY_ID,
    FORWARDED_BY_SCOPE,
    REFUSED_HEADER,
    choose_placement,
    explain_refusal,
    is_draining,
)
from interlock_http.listener import BoundedListener
from interlock_http.own_pod import OwnPod

CONTROL_REQUESTS_PER_TASK: Final = 4
"""How many control requests may be under way for each task that may be."""
PASSED_ON_PER_TASK: Final = 4
"""How many requests may be under way at other placements for each task that may be at the agent."""
ATTEMPTS: Final = 12
PAUSE_SECONDS: Final = 0.25
ROUTE_SECONDS: Final = 5.0
"""How often, after which pause and for how long a task is routed again that a peer did not take. The bundles of two
placements change one after the other, so for a moment neither may serve what one of them has given up."""

_sleep: Final = asyncio.sleep
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
        self.on_change: Callable[[], None] = lambda: None
        """Called when what is under way may have changed, or the bundle has."""
        self.is_leaving: Callable[[], bool] = lambda: False
        """Returns True while the pod waits for its end, whatever the bundle says."""
        self.begun = BegunTasks(live, monotonic)
        """The tasks under way at the agent."""
        self._last_task: float | None = None
        self._known, self._bodies = KnownIds(), BodyRoom()
        self._tasks = ConcurrencyLimiter()
        self._passing = ConcurrencyLimiter(waiting_per_slot=0)
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
        lines = self._counts.lines(self._tasks.taken, self._tasks.waiting)
        return [*lines, *self._counts.drain_lines(self.under_way, drains=self.drains)]

    @property
    def drains(self) -> bool:
        """Whether this guard is on its way out, as the bundle says."""
        return self._live.bundle is not None and is_draining(self._live.bundle, self._recorder.pod)

    @property
    def is_chosen(self) -> bool:
        """Whether the bundle names this guard's pod as one that goes, next to others that stay."""
        return self._live.bundle is not None and self._recorder.pod in self._live.bundle.draining_pods

    @property
    def ends_connections(self) -> bool:
        """Whether callers must connect again after each answer, to reach another guard."""
        return self.drains or self.is_leaving()

    @property
    def under_way(self) -> int:
        """Tasks under way: requests that are here, and A2A tasks whose last seen state is not final."""
        self._known.expire(self._monotonic())
        return len(self._open) + self._tasks.waiting + self._known.under_way

    @property
    def got_task_lately(self) -> bool:
        """Whether a task came so lately that some node may not have learned yet that Services lead to other pods."""
        return self._last_task is not None and self._monotonic() - self._last_task < LEAST_DRAIN_SECONDS

    @property
    def under_way_leaving(self) -> int | None:
        """Those of them in pods of the agent that drain; None while no such pod does."""
        bundle = self._live.bundle
        if bundle is None or not bundle.draining_addresses:
            return None
        leaving = frozenset(bundle.draining_addresses)
        sent = sum(not leaving.isdisjoint(one.route.addresses) for one in self._open if one.peer is None)
        self._known.expire(self._monotonic())
        return sent + self._known.under_way_at(leaving)

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
        self.begun.follow()
        self._passing.resize(limit * PASSED_ON_PER_TASK)
        self.on_change()

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
        response = await self._answer(http)
        if self.ends_connections and not response.prepared:
            response.force_close()
        return response

    async def _answer(self, http: web.BaseRequest) -> web.StreamResponse:
        since = self._monotonic()
        trace = read_trace(http.headers.getall("traceparent", ()), secrets.token_hex(24))
        request = TaskRequest(http, secrets.token_hex(16), trace)
        held = 0
        try:
            bundle, tasks = self._admit(http)
            most = measure_read(http, bundle, tasks)
            held = self._bodies.take(most)
            await inspect(request, tasks, most)
            held -= self._bodies.give_back(max(0, held - len(request.body or request.begun)))
            self._check_asked(request)
            self._check_budget(request)
            response = await self._route(request, since)
        except TaskRefused as refused:
            return self._refuse(refused.refusal, request)
        except (asyncio.CancelledError, OSError):
            if not request.has_begun:
                self._counts.refused[TaskReason.GAVE_UP] += 1
            raise
        else:
            if request.kind != RequestClass.CONTROL:
                self._last_task = self._monotonic()
            return response
        finally:
            self._bodies.give_back(held)
            self.on_change()

    async def _route(self, request: TaskRequest, since: float) -> web.StreamResponse:
        """Bring a request to the placement that it belongs to.

        Raises:
            TaskRefused: No placement takes it.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + ROUTE_SECONDS
        for peer in list(self._find_asked_first(request)):
            if clock() > deadline:
                break
            response = await self._pass_on(request, since, peer, FORWARDED_BY_ID)
            if response is not None:
                return response
        for _ in range(ATTEMPTS):
            found = self._choose(request)
            if found is None:
                response = await self._carry(request, since)
                deadline = clock() + ROUTE_SECONDS  # the time in line and for a connection does not count
            else:
                response = await self._pass_on(request, since, found, FORWARDED_BY_SCOPE)
            if response is not None:
                return response
            if clock() > deadline:
                break
            if found is not None:
                await _sleep(PAUSE_SECONDS)
        raise TaskRefused(peer_unavailable("" if found is None else found.stage))

    def _find_asked_first(self, request: TaskRequest) -> Iterator[BundlePeer]:
        """Yield the peers that may have begun what a request is about, where this guard does not know it."""
        bundle = self._live.bundle
        if bundle is None or not request.ids or request.forwarded or not request.is_repeatable:
            return
        if not self._known.knows(request.ids, self._monotonic()):
            yield from sorted(bundle.peers, key=lambda peer: not peer.is_draining)

    def _choose(self, request: TaskRequest) -> BundlePeer | None:
        """Return the peer that serves a request; None where the guard's own agent does.

        Raises:
            TaskRefused: No placement takes it.
        """
        bundle, _ = self._admit(request.http)
        if self._known.knows(request.ids, self._monotonic()):
            return None
        self._check_asked(request)
        if request.kind == RequestClass.CONTROL and not request.values:
            return None  # no new work: the agent's card, or a task that its agent may know
        found = choose_placement(bundle, request.values)
        if found is not None and request.forwarded:
            raise TaskRefused(explain_refusal(bundle, request.values))
        return found

    async def _pass_on(
        self, request: TaskRequest, since: float, peer: BundlePeer, forwarded: str
    ) -> web.StreamResponse | None:
        """Pass a request on to another placement; return None where its guard did not take it.

        Raises:
            TaskRefused: Too many are under way there.
        """
        await self._passing.take()
        try:
            self._admit(request.http)
            url = yarl.URL(peer.url)
            address = AgentAddress(self._session, url.host or "", url.port or 0)
            exchange = TaskExchange(
                request,
                address,
                peer,
                forwarded,
                waited=self._monotonic() - since,
                ends_connection=lambda: self.ends_connections,
            )
            try:
                return await self._run(exchange, since)
            except PeerDeclined:
                return None
        finally:
            self._passing.give_back()

    def _admit(self, http: web.BaseRequest) -> tuple[Bundle, BundleTasks]:
        """Return the bundle, and how the agent takes tasks.

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
        return bundle, bundle.tasks

    def _check_asked(self, request: TaskRequest) -> None:
        """Refuse what another guard has asked for by its ids, if none of them was begun here.

        Raises:
            TaskRefused: None was.
        """
        if request.forwarded == FORWARDED_BY_ID and not self._is_asked_for_known(request):
            raise TaskRefused(UNKNOWN_TASK)

    def _is_asked_for_known(self, request: TaskRequest) -> bool:
        """Return True if another guard asks for a task or context that was begun here: then a refusal is the answer."""
        return request.forwarded == FORWARDED_BY_ID and self._known.knows(request.ids, self._monotonic())

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

    def _refuse_head(self, status: int, message: str) -> web.Response:
        return self._refuse(malformed(message, status))

    def _refuse(self, refusal: TaskRefusal, request: TaskRequest | None = None) -> web.Response:
        self._counts.refused[str(refusal.reason)] += 1
        headers = dict(refusal.headers)
        if request is not None and request.forwarded and not self._is_asked_for_known(request):
            headers[REFUSED_HEADER] = str(refusal.reason)
        if request is not None and refusal.reason in RECORDED:
            headers["Interlock-Task"] = request.id
            fields = self._describe(request, str(refusal.reason), refusal.status)
            self._recorder.refuse_task(self._live.bundle, fields)
        response = web.Response(status=refusal.status, body=refusal.body, headers=headers)
        if refusal.ends_connection:
            response.force_close()
        return response

    async def _carry(self, request: TaskRequest, since: float) -> web.StreamResponse | None:
        """Bring a task to the agent; return None where it belongs elsewhere by the time that it has a place.

        Raises:
            TaskRefused: It has no place, or is not taken any longer.
        """
        slots = self._control_requests if request.kind == RequestClass.CONTROL else self._tasks
        await slots.take()
        try:
            if self._choose(request) is not None:
                return None
            _, tasks = self._admit(request.http)
            route = TaskRoute(
                self._known.find_address(request.ids),
                REACH_SECONDS,
                check=functools.partial(self._check_still_here, request),
                on_reach=functools.partial(self._begin_account, request),
                on_change=self.on_change,
            )
            exchange = TaskExchange(
                request,
                AgentAddress(self._session, self._host, tasks.port),
                waited=self._monotonic() - since,
                on_message=functools.partial(self._note_answer, request, route),
                route=route,
                ends_connection=lambda: self.ends_connections,
            )
            if request.kind != RequestClass.CONTROL:
                self.begun.begin(request.id)
            try:
                return await self._run(exchange, since)
            except TaskMoved:
                return None
            finally:
                self._accounts.end(request.id)
                self.begun.end(request.id)
        finally:
            slots.give_back()

    def _check_still_here(self, request: TaskRequest) -> None:
        """Check what has not reached the agent yet as when its turn came.

        Raises:
            TaskMoved: It belongs to another placement by now.
            TaskRefused: No placement takes it any longer.
        """
        if self._choose(request) is not None:
            raise TaskMoved

    def _begin_account(self, request: TaskRequest) -> None:
        """Let calls count against a task from here on. Before, the agent cannot work on it."""
        if request.kind != RequestClass.CONTROL:
            self._accounts.begin(request.id)

    async def _run(self, exchange: TaskExchange, since: float) -> web.StreamResponse:
        """Run an exchange and record its end.

        Raises:
            PeerDeclined: The peer did not take it.
            TaskMoved: It belongs to another placement, and nothing of it was sent.
            TaskRefused: The guard takes it no longer, and nothing of it was sent.
        """
        began, exchange.request.has_begun = self._monotonic(), True
        self._open.add(exchange)
        self.on_change()
        is_unsent = False
        try:
            return await exchange.carry()
        except (PeerDeclined, TaskMoved, TaskRefused):
            is_unsent, exchange.request.has_begun = True, False
            raise
        finally:
            self._open.discard(exchange)
            if not is_unsent:
                self._finish(exchange, since, began)

    def _note_answer(self, request: TaskRequest, route: TaskRoute, message: Any) -> None:
        seen = read_answer_ids(message)
        if seen is None:
            return
        request.task = seen.task or request.task
        has_failed_late = self._known.note(seen, self._monotonic(), route.reached)
        if has_failed_late and request.kind == RequestClass.CONTROL:  # else this request ends as the failure
            self._recorder.work.fail_task()
        self.on_change()

    def _finish(self, exchange: TaskExchange, since: float, began: float) -> None:
        now, request, peer = self._monotonic(), exchange.request, exchange.peer
        outcome = str(exchange.outcome or TaskOutcome.GUARD_ENDED)
        if peer is None:
            self._counts.end(request.kind, outcome, now - since)
            if request.kind == RequestClass.TASK and outcome in OF_THE_AGENT:
                self._recorder.work.end_task(now - since, is_failure=outcome in FAILURES)
                self._known.answer("" if outcome in FAILURES else request.task)
        else:
            self._counts.passed_on[outcome] += 1
        more: dict[str, Any] = {} if peer is None else {"passedTo": f"{peer.stage}/{peer.revision}"}
        more |= {"waitSeconds": round(began - since, 6), "durationSeconds": round(now - since, 6)}
        self._recorder.finish_task(self._live.bundle, self._describe(request, outcome, exchange.status) | more)

    @staticmethod
    def _describe(request: TaskRequest, outcome: str, status: int) -> dict[str, Any]:
        """Return the fields that the record of a task has in any case."""
        fields: dict[str, Any] = {
            "task": request.id,
            "trace": request.trace.id,
            "type": str(request.kind),
            "method": request.http.method,
            "rpc": request.rpc,
            "caller": request.http.remote or "",
            "outcome": outcome,
            "status": status,
        }
        if request.values:
            fields["values"] = describe_values(request.values)
        if request.forwarded:
            fields["forwarded"] = request.forwarded
        return fields
