"""The collector's HTTP servers: one for guards and readers, one for probes and metrics.

A client identifies itself by a bearer token with the audience `interlock-audit`. A guard may send the records of its
own pod only. A reader needs the permission to `get` the resource `auditrecords` of the group `interlock.dev`, in the
namespace of the records, or in all namespaces.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from typing import Any, Final

from aiohttp import web

from interlock_audit.cost_sql import GROUPS, CostQuery
from interlock_audit.ingest import BatchInvalid, NotYours, read_batch
from interlock_audit.quotas import AGENT_RATE, LEAST_BATCH, NAMESPACE_RATE, RateLimiter
from interlock_audit.reviewer import AccessUnknown, Identity, Reviewer, TooManyReviews, sender_of
from interlock_audit.store_executor import StoreExecutor
from interlock_audit.stores import (
    FIRST,
    LAST,
    MOST_BYTES,
    MOST_LISTED,
    Accepted,
    Fork,
    Gap,
    OverQuota,
    Place,
    Query,
    StoreUnavailable,
)
from interlock_contract.audit_chain import LineInvalid, parse_guard
from interlock_contract.exposition import Metric, join_lines
from interlock_contract.listeners import ListenerName
from interlock_http.listener import BodyRefused, BoundedListener, read_body
from interlock_http.probes import build_probe_app

SENDS: Final = 16
"""Batches of one namespace that are received or stored at a time: half of the memory for all bodies."""
READS: Final = 2
"""Requests of readers of one namespace, or of readers of all, that are answered at a time."""
ALL_READS: Final = 32
"""Requests of readers of all single namespaces that are answered at a time. An answer takes some MiB of memory."""

_PREFIX: Final = "interlock_audit_"
STORED: Final = Metric("interlock_audit_stored_total", "counter", "Records that were stored.")
REPEATED: Final = Metric("interlock_audit_repeated_total", "counter", "Records that arrived again.")
GAPS: Final = Metric("interlock_audit_gaps_total", "counter", "Batches refused because earlier records are missing.")
DECLARED_GAPS: Final = Metric(
    "interlock_audit_declared_gaps_total", "counter", "Gaps that guards declared after the collector had lost records."
)
FORKS: Final = Metric(
    "interlock_audit_forks_total", "counter", "Batches refused because another record of that number is stored."
)
PRUNED: Final = Metric("interlock_audit_pruned_total", "counter", "Records deleted by retention.")
UNAVAILABLE: Final = Metric(
    "interlock_audit_unavailable_total", "counter", "Requests that the database could not serve."
)
COUNTED: Final = (STORED, REPEATED, GAPS, DECLARED_GAPS, FORKS, PRUNED, UNAVAILABLE)
"""What the store counts, under the name without the prefix."""
REFUSED: Final = Metric("interlock_audit_refused_total", "counter", "Refused requests.", ("error",))
CLOSED: Final = Metric(
    "interlock_audit_connections_closed_total", "counter", "Connections that a bound has closed.", ("listener",)
)
QUOTA_ALARMS: Final = Metric(
    "interlock_audit_quota_alarms", "gauge", "Agents and namespaces that use 80 % of their quota or more."
)
DISK_FREE: Final = Metric(
    "interlock_audit_disk_free_ratio", "gauge", "The part of the collector's disk that is free, with SQLite."
)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}\Z")
_WORDS: Final = ("namespace", "agent", "guard", "kind", "decision", "since", "until")
_COST_WORDS: Final = ("namespace", "agent", "since", "until", "latest")


class _Refused(Exception):  # noqa: N818 - says what happened to a request
    """A refused request: its status and error."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status, self.error = status, error


class CollectorServer:
    """The server for guards and readers."""

    def __init__(
        self,
        executor: StoreExecutor,
        reviewer: Reviewer,
        log: Callable[[str], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._executor, self._reviewer, self._log, self._monotonic = executor, reviewer, log, monotonic
        self._agent_rates, self._namespace_rates = RateLimiter(AGENT_RATE), RateLimiter(NAMESPACE_RATE)
        self._sends: Counter[str] = Counter()
        self._reads: Counter[str] = Counter()

    def build_app(self) -> web.Application:
        """Return the HTTP application."""
        app = web.Application(middlewares=[self._answer])
        app.router.add_post("/v1/records", self._append)
        app.router.add_get("/v1/records", self._find)
        app.router.add_get("/v1/chains", self._chains)
        app.router.add_get("/v1/lines", self._lines)
        app.router.add_get("/v1/usage", self._usage)
        app.router.add_get("/v1/costs", self._costs)
        return app

    @web.middleware
    async def _answer(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Answer refusals and failures as JSON."""
        try:
            return await handler(request)
        except _Refused as refusal:
            status, error, message = refusal.status, refusal.error, str(refusal)
        except TooManyReviews as refusal:
            status, error, message = 429, "TooManyReviews", str(refusal)
        except (StoreUnavailable, AccessUnknown) as trouble:
            status, error, message = 503, "Unavailable", str(trouble)
            self._log(f"{request.method} {request.path} cannot be answered: {trouble}")
        self._executor.counts[f'refused_total{{error="{error}"}}'] += 1
        return web.json_response({"error": error, "message": message}, status=status)

    async def _append(self, http: web.Request) -> web.Response:
        identity = await self._identify(http)
        sender = sender_of(identity)
        if sender is None:
            raise _Refused(403, "NotYours", f"{identity.user} is no guard of a pod")
        namespace = sender[0]
        if self._sends[namespace] >= SENDS:
            raise _Refused(429, "TooManySends", f"{namespace} sends {SENDS} batches at a time: send this one later")
        with _counted(self._sends, namespace):
            return await self._store(http, identity, sender)

    async def _store(self, http: web.Request, identity: Identity, sender: tuple[str, str]) -> web.Response:
        lost = _number(http, "lost", None)
        try:
            body = bytes(await read_body(http))
            self._check_rates(*sender, len(body))  # before the batch is parsed, since that takes time
            batch = read_batch(body, identity, received=self._executor.now(), lost=lost)
        except NotYours as refusal:
            self._log(f"REFUSED: {refusal}")
            raise _Refused(403, "NotYours", str(refusal)) from None
        except BodyRefused as refusal:
            raise _Refused(refusal.status, "BodyRefused", f"the body is {refusal}") from None
        except BatchInvalid as refusal:
            self._log(f"INVALID: {identity.user} sent an invalid batch: {refusal}")
            raise _Refused(400, "Invalid", str(refusal)) from None
        match await self._executor.append(batch):
            case Accepted(next=following):
                return web.json_response({"next": following})
            case Gap(next=following):
                return web.json_response({"error": "Gap", "next": following}, status=409)
            case Fork(seq=seq):
                return web.json_response({"error": "Fork", "seq": seq}, status=409)
            case OverQuota(level=level):
                raise _Refused(507, "OverQuota", f"{level.text}: retention frees room, or raise the quota")

    def _check_rates(self, namespace: str, agent: str, size: int) -> None:
        """Refuse a batch of an agent or namespace that sends faster than its rate."""
        now = self._monotonic()
        owners = ((self._agent_rates, f"{namespace}/{agent}"), (self._namespace_rates, namespace))
        for limiter, owner in owners:
            if not limiter.take(owner, max(size, LEAST_BATCH), now):
                raise _Refused(429, "OverRate", f"{owner} sends records faster than its rate: send them later")

    async def _usage(self, http: web.Request) -> web.Response:
        namespace = http.query.get("namespace", "")
        async with self._read(http, namespace):
            found = [one for one in await self._executor.usage() if namespace in {"", one.namespace}]
            usage = [asdict(one) for one in found]
            return await _send(http, {"usage": usage, "quotas": asdict(self._executor.quotas)})

    async def _find(self, http: web.Request) -> web.Response:
        words = {name: http.query.get(name, "") for name in _WORDS}
        query = Query(**words, after=_place(http.query.get("after", "")), limit=_limit(http))
        async with self._read(http, query.namespace):
            found = await self._executor.find(query)
            is_last = len(found) < query.limit and sum(len(one.text) for one in found) < MOST_BYTES
            following = None if is_last else f"{found[-1].time},{found[-1].guard},{found[-1].seq}"
            return await _send(http, {"records": [asdict(one) for one in found], "next": following})

    async def _costs(self, http: web.Request) -> web.Response:
        words = {name: http.query.get(name, "") for name in _COST_WORDS}
        groups = tuple(one for one in http.query.get("groups", "").split(",") if one)
        if not GROUPS.keys() >= set(groups) or len(groups) > len(GROUPS):
            raise _Refused(400, "Invalid", f"groups is not a list of {', '.join(GROUPS)}")
        place = _place(http.query.get("after", ""))
        after = None if place is None else (place.time, place.guard, place.seq)
        query = CostQuery(**words, groups=groups, after=after)
        async with self._read(http, query.namespace):
            step = await self._executor.costs(query)
            found = [{"group": group, **asdict(cost)} for group, cost in step.sums]
            following = None if step.next is None else ",".join(map(str, step.next))
            return await _send(http, {"costs": found, "next": following})

    async def _chains(self, http: web.Request) -> web.Response:
        namespace = http.query.get("namespace", "")
        async with self._read(http, namespace):
            page = await self._executor.chains(namespace, http.query.get("after", ""))
            return await _send(http, asdict(page))

    async def _lines(self, http: web.Request) -> web.Response:
        guard = http.query.get("guard", "")
        try:
            namespace = parse_guard(guard).namespace
        except LineInvalid as error:
            raise _Refused(400, "Invalid", f"guard {error}") from None
        async with self._read(http, namespace):
            found = await self._executor.lines(guard, _start(http), _limit(http))
            return await _send(http, {"lines": [asdict(one) for one in found]})

    async def _identify(self, http: web.Request) -> Identity:
        scheme, _, token = http.headers.get("Authorization", "").partition(" ")
        identity = (
            await self._reviewer.identify(token, http.remote or "") if scheme.lower() == "bearer" and token else None
        )
        if identity is None:
            raise _Refused(401, "Unauthenticated", "a bearer token with the audience interlock-audit is required")
        return identity

    @asynccontextmanager
    async def _read(self, http: web.Request, namespace: str) -> AsyncIterator[None]:
        """Authorize a reader, and bound how many requests of readers there are until their answers are sent."""
        identity = await self._identify(http)
        if not await self._reviewer.may_read(identity, namespace, http.remote or ""):
            where = f"in namespace {namespace!r}" if namespace else "in all namespaces (name one with ?namespace=)"
            raise _Refused(403, "Forbidden", f"{identity.user} may not get auditrecords.interlock.dev {where}")
        if self._reads[namespace] >= READS or (namespace and self._reads.total() >= ALL_READS):
            raise _Refused(429, "TooManyReads", "too many requests of readers are answered: send one at a time")
        with _counted(self._reads, namespace):
            yield


class Telemetry:
    """The server for the kubelet and Prometheus. It reports the state of the collector, and no records."""

    def __init__(self, executor: StoreExecutor, listeners: Mapping[ListenerName, BoundedListener]) -> None:
        self._executor, self._listeners = executor, listeners

    def build_app(self) -> web.Application:
        """Return the HTTP application."""
        return build_probe_app(metrics=self._render, unready=self._unready)

    async def _unready(self) -> str | None:
        try:
            await self._executor.check()
        except StoreUnavailable as error:
            return str(error)
        return None

    def _render(self) -> bytes:
        counts = self._executor.counts
        # The counter's keys carry the label already: refused_total{error="..."}.
        refused = [(name.removeprefix("refused_total"), count) for name, count in sorted(counts.items()) if "{" in name]
        lines = [line for one in COUNTED for line in one.render(counts[one.name.removeprefix(_PREFIX)])]
        lines += REFUSED.render_samples(refused)
        lines += CLOSED.render_by(((name,), one.closed) for name, one in self._listeners.items())
        lines += QUOTA_ALARMS.render(self._executor.alarms)
        lines += DISK_FREE.render_samples([] if self._executor.free is None else [("", f"{self._executor.free:.3f}")])
        return join_lines(lines)


@contextmanager
def _counted(counter: Counter[str], key: str) -> Iterator[None]:
    """Count a request until its end, and keep no key without requests."""
    counter[key] += 1
    try:
        yield
    finally:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]


async def _send(http: web.Request, value: Mapping[str, Any]) -> web.Response:
    """Send an answer, and return it once it has left this program's memory."""
    response = web.json_response(value)
    with suppress(ConnectionError):  # the client is gone
        await response.prepare(http)
        await response.write_eof()
    return response


def _number(http: web.Request, name: str, default: int | None) -> int | None:
    text: Any = http.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16):  # noqa: PLR2004 - below 2**53
        raise _Refused(400, "Invalid", f"{name} is not a number")
    return int(text)


def _start(http: web.Request) -> int:
    """Return the number from which on lines are asked for. Only forged lines have one below 0, and a verifier asks."""
    text = http.query.get("start", str(FIRST))
    if not _INTEGER.match(text):
        raise _Refused(400, "Invalid", "start is not a number")
    return min(max(int(text), FIRST), LAST)


def _limit(http: web.Request) -> int:
    return max(1, min(_number(http, "limit", MOST_LISTED) or MOST_LISTED, MOST_LISTED))


def _place(text: str) -> Place | None:
    """Return the end of an earlier answer, from its `next`."""
    if not text:
        return None
    time, _, rest = text.partition(",")
    guard, _, seq = rest.partition(",")
    if not (seq.isascii() and seq.isdigit() and len(seq) < 16):  # noqa: PLR2004 - below 2**53
        raise _Refused(400, "Invalid", "after is not the next of an earlier answer")
    return Place(time, guard, int(seq))
