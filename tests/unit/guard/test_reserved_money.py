"""What is reserved for a call ends with it, whatever goes wrong in between: nothing stays reserved for ever."""

import asyncio
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict
from typing_extensions import override

from interlock_contract.budget.prices import ModelPrice, PriceRow
from interlock_contract.bundle import AgentIdentity, Bundle, BundleTool
from interlock_contract.http_target import HttpTarget
from interlock_contract.model_access import Model, Provider
from interlock_guard.audit.recorder import UNKNOWN_CALLER
from interlock_guard.budget.budget import Budget
from interlock_guard.budget.settlement import End
from interlock_guard.budget.tool_payments import Payments
from interlock_guard.decision.decide import Allow, Decision, DecisionInput, Deny, DenyReason
from interlock_guard.downstream.authorizer import Authorizer, CallLimits, OpenRecord
from interlock_guard.llm import metering
from interlock_guard.llm.endpoint import LlmEndpoint
from interlock_guard.llm.metering import Meter, MeteredCall
from tests.requirements import requirement
from tests.support.budget_bench import BudgetBench, in_virtual_time

CALL = 1_000_000
UNUSED: Any = SimpleNamespace(
    limits=None,
    check=lambda _: None,
    reserve_now=lambda: None,
    cancel=lambda _: None,
    settle=lambda *_: None,
    count=lambda *_: None,
    count_tool=lambda *_: None,
)
TOOL = Allow("agentpolicy/support/dataAccess[0]", BundleTool("search", "read", "contacts", cost_per_call=CALL))
TOOL_CALL = DecisionInput("crm", "tools/call", tool="search")
CHAT = DecisionInput("models", "chat/completions", model="openai/gpt-4o-mini")
MODEL = Model("gpt-4o-mini", "key", ModelPrice((PriceRow(input=10**9, output=10**9),), 128_000))
PROVIDER = Provider("openai", "OpenAI", HttpTarget("https://api.openai.com/v1", "Public", (), None), (MODEL,))
WITHOUT_BUDGET = Bundle(4, AgentIdentity("triage", "agents", "uid"), "r", "staging", "staging", (), ())


def under_way(budget: Budget) -> list[Any]:
    """Return the reservations that have not ended."""
    return list(budget._ledgers.account.open.values())  # noqa: SLF001 - what is reserved


class Body:
    """The body of a request."""

    def __init__(self) -> None:
        self.value = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}
        self.length_of = len

    def change(self, value: Any) -> None:
        self.value = value


class CountingRates:
    """Rate limits that wait, and refuse or fail."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def check(self, _: int) -> None:
        return None

    async def reserve(self, _: int) -> Any:
        await asyncio.sleep(0)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


async def reserve(meter: Meter, bundle: Bundle | None) -> MeteredCall | Deny:
    body: Any = Body()
    assert bundle is not None
    return await meter.reserve(bundle=bundle, provider=PROVIDER, model=MODEL, request=CHAT, body=body, size=None)


@requirement("budget.settled")
def test_a_call_whose_answer_breaks_the_guards_reader_is_charged_whole(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=100 * CALL)
        budget = await bench.start()
        call: Any = SimpleNamespace(
            reservation=await bench.reserved(budget, 9 * CALL),
            rate=None,
            read_answer=lambda: 1 // 0,
            find_end=lambda **_: End.COMPLETE,
        )
        with pytest.raises(ZeroDivisionError):
            Meter(budget, UNUSED, UNUSED, bench.logs.append).settle(call, was_sent=True)
        assert not under_way(budget)
        await budget.finish(1)
        assert bench.spent() == bench.committed() == 9 * CALL

    in_virtual_time(tmp_path, work)


@requirement("budget.settled")
@pytest.mark.parametrize(
    ("rates", "is_built"),
    [
        (CountingRates(Deny(DenyReason.RATE_LIMITED, "", "")), True),
        (CountingRates(ZeroDivisionError()), True),
        (CountingRates(asyncio.CancelledError()), True),
        (CountingRates(object()), False),
    ],
    ids=["rate limited", "error", "cancelled", "error at the end"],
)
def test_a_call_that_does_not_come_to_its_forward_gives_its_money_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: Any, *, is_built: bool
) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=1000 * CALL)
        budget = await bench.start()
        if not is_built:
            monkeypatch.setattr(metering, "MeteredCall", lambda *_, **__: 1 // 0)
        try:
            found = await reserve(Meter(budget, rates, UNUSED, bench.logs.append), bench.lives[budget].bundle)
        except (ZeroDivisionError, asyncio.CancelledError):
            found = None
        assert not isinstance(found, MeteredCall)
        assert not under_way(budget)
        await budget.finish(1)
        assert bench.committed() == 0

    in_virtual_time(tmp_path, work)


class BrokenEndpoint(LlmEndpoint):
    """The way to models, in which everything after the payment fails."""

    def __init__(self, outcome: Any) -> None:  # nothing of the endpoint that it stands for
        self.given_back: list[MeteredCall] = []
        self.paid, self.outcome = MeteredCall.__new__(MeteredCall), outcome
        self._meter: Any = SimpleNamespace(cancel=self.given_back.append)

    @override
    async def _check_loop(self, *_: Any) -> None:
        return None

    @override
    async def _pay(self, *_: Any) -> MeteredCall:
        return self.paid

    @override
    def _forward(self, *_: Any) -> Any:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@requirement("budget.settled")
@pytest.mark.parametrize("outcome", [ZeroDivisionError(), asyncio.CancelledError(), SimpleNamespace()], ids=repr)
async def test_whatever_keeps_a_call_of_a_model_from_its_forward_gives_its_money_back(outcome: Any) -> None:
    endpoint, http, body = BrokenEndpoint(outcome), SimpleNamespace(headers=CIMultiDict[str]()), Body()
    with suppress(ZeroDivisionError, asyncio.CancelledError):
        await endpoint._begin(http, CHAT, body, None)  # type: ignore[arg-type]  # noqa: SLF001 - where money is paid
    assert endpoint.given_back == [endpoint.paid]


class BareAuthorizer(Authorizer):
    """Allows a tool that costs money."""

    outcome: Any = None

    @override
    def judge(self, *_: Any) -> Decision:
        return TOOL

    @override
    def _add_listing(self, *_: Any) -> None:
        pass

    @override
    def record(self, *_: Any) -> OpenRecord | Deny:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return OpenRecord(UNUSED, 1, lambda: 0.0)


def an_authorizer(bench: BudgetBench, budget: Budget) -> BareAuthorizer:
    loops: Any = None
    limits = CallLimits(Payments(budget, UNUSED, UNUSED), loops)
    return BareAuthorizer(
        live=bench.lives[budget], sources=UNUSED, lists=UNUSED, recorder=UNUSED, monotonic=lambda: 0.0, limits=limits
    )


@requirement("budget.settled")
@pytest.mark.parametrize("error", [None, ZeroDivisionError()], ids=["recorded", "not recorded"])
def test_a_call_of_a_tool_reserves_nothing_beyond_its_authorization(
    tmp_path: Path, error: BaseException | None
) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=1000 * CALL)
        budget = await bench.start()
        await budget.ensure(CALL)
        authorizer = an_authorizer(bench, budget)
        authorizer.outcome = error
        if error is None:
            found = authorizer.authorize(TOOL_CALL, UNKNOWN_CALLER)
            assert isinstance(found, OpenRecord)
            assert found.cost
        else:
            with pytest.raises(ZeroDivisionError):
                authorizer.authorize(TOOL_CALL, UNKNOWN_CALLER)
        assert not under_way(budget)
        await budget.finish(1)
        assert bench.committed() == bench.spent() == (CALL if error is None else 0)

    in_virtual_time(tmp_path, work)


@requirement("budget.settled")
def test_without_a_budget_in_the_bundle_nothing_that_costs_money_passes(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=1000 * CALL)
        budget = await bench.start()
        bench.lives[budget].bundle = WITHOUT_BUDGET
        found = await reserve(Meter(budget, UNUSED, UNUSED, bench.logs.append), WITHOUT_BUDGET)
        assert isinstance(found, Deny)
        assert found.reason is DenyReason.BUDGET_UNAVAILABLE
        payments = Payments(budget, UNUSED, UNUSED)
        denied, _ = payments.pay(TOOL_CALL, TOOL)
        assert isinstance(denied, Deny)
        assert (denied.reason, denied.tool) == (DenyReason.BUDGET_UNAVAILABLE, TOOL.tool)
        free = Allow(TOOL.rule, BundleTool("search", "read", "contacts"))
        assert payments.pay(TOOL_CALL, free) == (free, None)

    in_virtual_time(tmp_path, work)
