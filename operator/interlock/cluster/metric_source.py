"""The queries of metric gates: asked of the Prometheus of the agent's namespace, in the background, one after another.

An installation says which Prometheus answers a namespace (`INTERLOCK_PROMETHEUS`). A tenant names no server, so a query
reaches no other one. What the query may read is what that Prometheus has: nothing here adds labels to it.

A Prometheus that is slow or away holds up only its own namespace: each namespace has one query under way. A result that
is no single finite number is none, and so is one that grew old. Reconciles read the last results and wait for nothing.

The API is https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from interlock.api.gates import MetricGate
from interlock.orchestration.gates import MetricResult
from interlock_contract.strict_json import JsonInvalid, parse_json
from interlock_http.client import BoundedConnector
from interlock_kube.background import log_failure
from interlock_kube.resource_types import Key

_log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 30.0
"""Least time between two queries of one gate."""
QUERY_SECONDS: Final = 5.0
"""How long a query may take, its answer included."""
STALE_SECONDS: Final = 300.0
"""Age of a result that counts no longer, where a namespace has more queries than its Prometheus answers."""
MAX_ANSWER: Final = 64 * 1024
"""Most bytes of an answer."""
NO_PROMETHEUS: Final = "its namespace has no Prometheus: the installation sets one in INTERLOCK_PROMETHEUS"
_MAX_ERROR: Final = 160
_OK: Final = 200
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")


class _QueryFailed(Exception):  # noqa: N818 - says what happened
    """The query has no number as its result."""


@dataclass(slots=True)
class _Asked:
    """One gate of one agent, with its last query.

    Attributes:
        query: The query.
        at: When it was asked, in seconds; None before the first time.
        result: Its result; None before the first.
    """

    query: str
    at: float | None = None
    result: MetricResult | None = None


class _Namespace:
    """The gates of one namespace."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.gates: dict[tuple[Key, str], _Asked] = {}
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def next(self) -> tuple[tuple[Key, str], _Asked] | None:
        """Return the gate that was not asked for the longest time."""
        return min(
            self.gates.items(), key=lambda item: float("-inf") if item[1].at is None else item[1].at, default=None
        )


class MetricSource:
    """Asks for the results of metric gates.

    Args:
        urls: The base URL of the Prometheus of each namespace.
        wake: Called with the agent whose result has changed.
        monotonic: Returns seconds on a clock that only goes forward.
    """

    def __init__(self, urls: Mapping[str, str], wake: Callable[[Key], None], monotonic: Callable[[], float]) -> None:
        self._urls, self._wake, self._monotonic = urls, wake, monotonic
        self._namespaces: dict[str, _Namespace] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session. Queries begin with the first gate."""
        self._session = aiohttp.ClientSession(
            connector=BoundedConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=QUERY_SECONDS),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all queries and close the session."""
        tasks = [one.task for one in self._namespaces.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def results(self, agent: Key, gates: Sequence[MetricGate]) -> dict[str, MetricResult]:
        """Return the last results of an agent's gates by name, and go on asking for these gates alone.

        A gate that was not asked yet has no result. Its agent is woken when one has come.
        """
        url = self._urls.get(agent[0])
        if url is None:
            return {gate.name: MetricResult(trouble=NO_PROMETHEUS) for gate in gates}
        wanted = {(agent, gate.name): gate.query for gate in gates}
        namespace = self._namespaces.get(agent[0])
        if namespace is None:
            if not wanted:
                return {}
            namespace = self._namespaces[agent[0]] = _Namespace(url)
        for key in [key for key in namespace.gates if key[0] == agent and key not in wanted]:
            del namespace.gates[key]
        for key, query in wanted.items():
            known = namespace.gates.get(key)
            if known is None or known.query != query:
                namespace.gates[key] = _Asked(query)
                namespace.changed.set()
        if namespace.gates and (namespace.task is None or namespace.task.done()):
            namespace.task = asyncio.create_task(self._ask_all(namespace), name=f"metrics of {agent[0]}")
            namespace.task.add_done_callback(partial(log_failure, log=_log.error))
        return {
            name: self._fresh(asked)
            for (owner, name), asked in namespace.gates.items()
            if owner == agent and asked.result is not None
        }

    def forget(self, agent: Key) -> None:
        """Forget an agent that is gone or has no metric gates now."""
        self.results(agent, ())

    def _fresh(self, asked: _Asked) -> MetricResult:
        if asked.result is None or asked.at is None or self._monotonic() - asked.at > STALE_SECONDS:
            return MetricResult(trouble=f"its last result is older than {int(STALE_SECONDS)} s")
        return asked.result

    async def _ask_all(self, namespace: _Namespace) -> None:
        """Ask for the gates of a namespace in turn, until it has none."""
        while (found := namespace.next()) is not None:
            key, asked = found
            wait = 0.0 if asked.at is None else asked.at + INTERVAL_SECONDS - self._monotonic()
            if wait > 0:
                namespace.changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(namespace.changed.wait(), wait)
                continue
            asked.at = self._monotonic()
            result = await self._ask(namespace.url, asked.query)
            before, asked.result = asked.result, result
            if result != before and namespace.gates.get(key) is asked:
                self._wake(key[0])

    async def _ask(self, url: str, query: str) -> MetricResult:
        try:
            return MetricResult(read_number(await self._post(f"{url.rstrip('/')}/api/v1/query", query)))
        except _QueryFailed as error:
            return MetricResult(trouble=str(error))
        except TimeoutError:
            return MetricResult(trouble=f"Prometheus did not answer within {int(QUERY_SECONDS)} s")
        except (aiohttp.ClientError, OSError) as error:
            return MetricResult(trouble=f"Prometheus cannot be reached: {type(error).__name__}")

    async def _post(self, url: str, query: str) -> bytes:
        if self._session is None:
            raise RuntimeError("the source is not open")
        form = {"query": query, "timeout": f"{int(QUERY_SECONDS)}s"}
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._session.post(url, data=form, headers=headers, allow_redirects=False) as answer:
            body = await answer.content.read(MAX_ANSWER)
            while len(body) <= MAX_ANSWER and (more := await answer.content.read(MAX_ANSWER)):
                body += more
            if len(body) > MAX_ANSWER:
                raise _QueryFailed(f"its answer has more than {MAX_ANSWER} bytes: ask for one number")
            if answer.status != _OK:
                raise _QueryFailed(f"Prometheus answered with HTTP {answer.status}{_error_in(body)}")
            return body


def read_number(body: bytes) -> Decimal:
    """Return the number in the answer to an instant query: a scalar, or a vector of exactly one sample.

    Raises:
        _QueryFailed: There is none. NaN, infinity, an empty vector and several samples are no number.
    """
    try:
        match parse_json(body):
            case {"status": "success", "data": {"resultType": "scalar", "result": [int() | float(), str(text)]}}:
                return _parse_number(text)
            case {"status": "success", "data": {"resultType": "vector", "result": list(samples)}}:
                match samples:
                    case [{"value": [int() | float(), str(text)]}]:
                        return _parse_number(text)
                    case []:
                        raise _QueryFailed("it has no result")
                    case _:
                        raise _QueryFailed(f"it has {len(samples)} results: ask for one number")
            case {"status": "success", "data": {"resultType": str(kind)}} if kind in ("matrix", "string"):
                raise _QueryFailed(f"its result is a {kind}: ask for one number")
            case _:
                raise _QueryFailed("Prometheus' answer is not that of an instant query")
    except JsonInvalid:
        raise _QueryFailed("Prometheus' answer is no JSON") from None


def _parse_number(text: str) -> Decimal:
    if _NUMBER.fullmatch(text) is None:
        raise _QueryFailed("its result is NaN or infinite" if text in ("NaN", "+Inf", "-Inf") else "it has no number")
    return Decimal(text)


def _error_in(body: bytes) -> str:
    """Return what Prometheus says about a refused query, such as a syntax error in it."""
    try:
        said: Any = parse_json(body)
    except JsonInvalid:
        return ""
    error = said.get("error") if isinstance(said, dict) else None
    if not isinstance(error, str):
        return ""
    return ": " + "".join(one if one.isprintable() else "?" for one in error[:_MAX_ERROR])
