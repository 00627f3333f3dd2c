"""Queries of metric gates, answered by a server that speaks Prometheus' HTTP API as its documentation has it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from interlock.api.gates import MetricGate
from interlock.cluster import metric_source
from interlock.cluster.metric_source import MAX_ANSWER, NO_PROMETHEUS, MetricSource
from interlock.orchestration.gates import MetricResult
from tests.support.bounds import WAIT_SECONDS, until

AGENT, OTHER = ("team-a", "triage"), ("team-b", "triage")


def vector(*values: str) -> dict[str, Any]:
    samples = [{"metric": {"pod": f"p{number}"}, "value": [1435781451.781, one]} for number, one in enumerate(values)]
    return {"status": "success", "data": {"resultType": "vector", "result": samples}, "warnings": ["partial"]}


class Prometheus:
    """A server with one answer."""

    def __init__(self) -> None:
        self.status, self.body, self.asked = 200, json.dumps(vector("0.5")).encode(), list[dict[str, str]]()
        self.headers: dict[str, str] = {}
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.port = 0

    async def answer(self, http: web.BaseRequest) -> web.Response:
        assert (http.method, http.path) == ("POST", "/base/api/v1/query")
        self.asked.append({key: str(value) for key, value in (await http.post()).items()})
        await self.go_on.wait()
        return web.Response(status=self.status, body=self.body, headers=self.headers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/base/"


@asynccontextmanager
async def serving() -> AsyncIterator[Prometheus]:
    made = Prometheus()
    runner = web.ServerRunner(web.Server(made.answer), shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    yield made
    made.go_on.set()
    await runner.cleanup()


@pytest.fixture
async def prometheus() -> AsyncIterator[Prometheus]:
    async with serving() as made:
        yield made


class Bench:
    def __init__(self, **urls: str) -> None:
        self.now, self.woken = 0.0, list[tuple[str, str]]()
        self.source = MetricSource(
            {name.replace("_", "-"): url for name, url in urls.items()}, self.woken.append, lambda: self.now
        )

    async def result(self, agent: tuple[str, str] = AGENT, query: str = "up") -> MetricResult:
        gates = [MetricGate(name="errors", query=query, max="1")]
        await until(lambda: "errors" in self.source.results(agent, gates), "the query has a result")
        return self.source.results(agent, gates)["errors"]


async def ask(prometheus: Prometheus, query: str = "up") -> MetricResult:
    bench = Bench(team_a=prometheus.url)
    async with bench.source:
        return await bench.result(query=query)


async def test_a_query_goes_to_the_prometheus_of_its_namespace_whatever_it_says(prometheus: Prometheus) -> None:
    query = 'sum(rate(x{a="b"}[5m])) or vector(0)&query=up\r\nHost: elsewhere #'
    assert await ask(prometheus, query) == MetricResult(Decimal("0.5"))
    assert prometheus.asked == [{"query": query, "timeout": "5s"}]


def answer_of(value: Any) -> bytes:
    return json.dumps(value).encode()


SCALAR = {"status": "success", "data": {"resultType": "scalar", "result": [1435781451, "1e-05"]}}
MATRIX = {"status": "success", "data": {"resultType": "matrix", "result": []}}


@pytest.mark.parametrize(
    ("body", "value", "trouble"),
    [
        (answer_of(SCALAR), Decimal("0.00001"), ""),
        (answer_of(vector("-3.25")), Decimal("-3.25"), ""),
        (answer_of(vector("1e+300")), Decimal("1e300"), ""),
        (answer_of(vector()), None, "it has no result"),
        (answer_of(vector("1", "2")), None, "it has 2 results: ask for one number"),
        (answer_of(vector("NaN")), None, "its result is NaN or infinite"),
        (answer_of(vector("+Inf")), None, "its result is NaN or infinite"),
        (answer_of(vector("-Inf")), None, "its result is NaN or infinite"),
        (answer_of(vector("")), None, "it has no number"),
        (answer_of(vector("0x10")), None, "it has no number"),
        (answer_of(vector("1e9999")), None, "it has no number"),
        (answer_of(MATRIX), None, "its result is a matrix: ask for one number"),
        (answer_of({"status": "error", "data": SCALAR["data"]}), None, "not that of an instant query"),
        (answer_of([1]), None, "not that of an instant query"),
        (b"<html>", None, "Prometheus' answer is no JSON"),
        (b'{"status":"success","data":{"resultType":"scalar","result":[1,"1"],"result":[1,"2"]}}', None, "no JSON"),
        (answer_of(vector("1")) + b" " * MAX_ANSWER, None, f"more than {MAX_ANSWER} bytes"),
    ],
)
async def test_only_one_finite_number_is_a_result(
    prometheus: Prometheus, body: bytes, value: Decimal | None, trouble: str
) -> None:
    prometheus.body = body
    result = await ask(prometheus)
    assert result.value == value
    assert trouble in result.trouble


async def test_a_refused_query_says_why(prometheus: Prometheus) -> None:
    prometheus.status = 400
    prometheus.body = answer_of({"status": "error", "errorType": "bad_data", "error": "parse error:\n" + "x" * 500})
    result = await ask(prometheus)
    assert result.value is None
    assert result.trouble.startswith("Prometheus answered with HTTP 400: parse error:?xxx")
    assert len(result.trouble) < 250


async def test_no_redirect_is_followed(prometheus: Prometheus) -> None:
    prometheus.status, prometheus.headers = 307, {"Location": f"{prometheus.url}api/v1/query"}
    assert (await ask(prometheus)).trouble.startswith("Prometheus answered with HTTP 307")
    assert len(prometheus.asked) == 1


async def test_a_prometheus_that_is_away_gives_no_result(prometheus: Prometheus) -> None:
    bench = Bench(team_a="http://127.0.0.1:9/")
    async with bench.source:
        assert (await bench.result()).trouble.startswith("Prometheus cannot be reached")


async def test_a_namespace_without_prometheus_asks_none(prometheus: Prometheus) -> None:
    bench = Bench(team_a=prometheus.url)
    async with bench.source:
        assert await bench.result(OTHER) == MetricResult(trouble=NO_PROMETHEUS)
    assert prometheus.asked == []


async def test_a_prometheus_that_does_not_answer_holds_up_no_other_namespace(
    prometheus: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_source, "QUERY_SECONDS", 2 * WAIT_SECONDS)
    async with serving() as slow:
        slow.go_on.clear()
        bench = Bench(team_a=slow.url, team_b=prometheus.url)
        async with bench.source:
            waiting = asyncio.create_task(bench.result())
            await until(lambda: bool(slow.asked), "the slow one is asked")
            assert (await bench.result(OTHER)).value == Decimal("0.5")
            assert not waiting.done()
            waiting.cancel()
        monkeypatch.setattr(metric_source, "QUERY_SECONDS", 0.1)
        assert (await ask(slow)).trouble.startswith("Prometheus did not answer within")


async def test_a_gate_is_asked_every_thirty_seconds_and_its_agent_woken_by_a_change(prometheus: Prometheus) -> None:
    bench = Bench(team_a=prometheus.url)
    gates = [MetricGate(name="errors", query="up", max="1")]
    async with bench.source:
        await bench.result()
        assert bench.woken == [AGENT]
        for _ in range(100):
            bench.source.results(AGENT, gates)
            await asyncio.sleep(0)
        assert len(prometheus.asked) == 1
        for value, times in (("0.5", 1), ("0.7", 2)):
            prometheus.body = answer_of(vector(value))
            bench.now += 30
            bench.source._namespaces["team-a"].changed.set()  # noqa: SLF001 - the clock of the test has moved
            asked = len(prometheus.asked)
            await until(lambda asked=asked: len(prometheus.asked) > asked, "it is asked again")
            await until(
                lambda value=value: bench.source.results(AGENT, gates)["errors"].value == Decimal(value), "it has come"
            )
            assert len(bench.woken) == times


async def test_an_old_result_counts_no_longer_and_another_query_begins_without_one(prometheus: Prometheus) -> None:
    bench = Bench(team_a=prometheus.url)
    gates = [MetricGate(name="errors", query="up", max="1")]
    async with bench.source:
        await bench.result()
        prometheus.go_on.clear()
        bench.now += 301
        assert bench.source.results(AGENT, gates)["errors"].trouble == "its last result is older than 300 s"
        assert bench.source.results(AGENT, [MetricGate(name="errors", query="down", max="1")]) == {}
        bench.source.forget(AGENT)
        assert bench.source._namespaces["team-a"].gates == {}  # noqa: SLF001 - nothing is asked for it
        prometheus.go_on.set()
