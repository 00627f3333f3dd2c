"""The meter of calls of models: bounds what a call may cost, reserves it, and settles what it has cost.

A bundle without a budget allows no call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import ClientResponse

from interlock_contract.budget.prices import ModelUsage
from interlock_contract.budget.tokens_per_byte import TokenCount
from interlock_contract.bundle import Bundle
from interlock_contract.mcp import EVENT_STREAM
from interlock_contract.model_access import Model, Provider
from interlock_guard.budget.account import Reservation
from interlock_guard.budget.answer_text import TextBytes, text_bytes
from interlock_guard.budget.body_usage import BodyUsage
from interlock_guard.budget.budget import Budget
from interlock_guard.budget.cost_record import describe_cost
from interlock_guard.budget.denials import deny_unlimited
from interlock_guard.budget.dialects import MESSAGES, dialect_of
from interlock_guard.budget.minute_limiter import MinuteLimiter, RateReservation
from interlock_guard.budget.prompt_size import PromptSize, measure_prompt
from interlock_guard.budget.settlement import Charge, End, charge, end_of
from interlock_guard.budget.spend_metrics import SpendMetrics
from interlock_guard.budget.stream_usage import StreamUsage
from interlock_guard.budget.token_tally import count_call
from interlock_guard.budget.usage import Answer, Unknown
from interlock_guard.budget.worst_case import ModelRequest, Refused, WorstCase, assess
from interlock_guard.decision.decide import DecisionInput, Deny, DenyReason
from interlock_guard.llm.request_body import RequestBody

_NOT_THINKING: Final = (None, {"type": "disabled"})
_REASONS: Final = {
    "PriceUnknown": DenyReason.PRICE_UNKNOWN,
    "BadRequest": DenyReason.BAD_REQUEST,
    "MemberNotAllowed": DenyReason.MEMBER_NOT_ALLOWED,
}


@dataclass(slots=True, eq=False)
class MeteredCall:
    """The cost of one call, from its reservation to its settlement.

    Attributes:
        worst: The most that it can cost.
        reservation: What was reserved for it.
        rate: What it counts of the agent's calls and tokens of this minute.
        provider: Who answers.
        model: The provider's name for the model.
        price_book: The digest of the prices.
        hang_up_seconds: How long the answer is read on after the client has hung up.
        reads_text_alone: Whether the request has nothing but text.
        hides_reasoning: Whether reasoning counts as output, and is not shown as it was charged.
        sent_bytes: Bytes of the request.
        status: The status of the answer, once its head has come.
        is_complete: Whether the answer came to its end.
    """

    worst: WorstCase
    reservation: Reservation
    rate: RateReservation
    provider: Provider
    model: str
    price_book: str | None
    hang_up_seconds: int
    reads_text_alone: bool = False
    hides_reasoning: bool = False
    sent_bytes: int = 0
    status: int | None = None
    is_complete: bool = False
    _stream: StreamUsage | None = None
    _reader: BodyUsage | None = field(default=None)

    def begin_answer(self, answer: ClientResponse, *, is_events: bool) -> StreamUsage | None:
        """Note the head of the answer; return what reads its events, if it may be a stream of events."""
        self.status = answer.status
        if is_events:
            self._stream = StreamUsage(self.worst.watch)
        if answer.content_type != EVENT_STREAM:
            self._reader = BodyUsage(self.worst.watch)
        return self._stream

    @property
    def changes_length(self) -> bool:
        """Whether the agent may get another number of bytes than the provider has sent."""
        return self.worst.watch.takes_out or self.worst.watch.set_back is not None

    def feed(self, part: bytes) -> bytes:
        """Take a part of the answer that has passed the screen; return what the agent gets of it."""
        return part if self._reader is None else self._reader.feed(part)

    def find_end(self, *, was_sent: bool) -> End:
        """Return how the call ended.

        Args:
            was_sent: Whether the provider may have got some of the request.
        """
        if self.status is not None:
            return end_of(self.status, is_complete=self.is_complete)
        return End.UNKNOWN if was_sent else End.FREE

    def read_answer(self) -> Answer | None:
        """Return what the answer says about its cost; None without one."""
        found = [reader.finish() for reader in (self._stream, self._reader) if reader is not None]
        return next((one for one in found if not isinstance(one.usage, Unknown)), found[0] if found else None)

    def count_tokens(self, usage: ModelUsage) -> TokenCount:
        """Return what the answer said of its tokens, next to the bytes that they stand for."""
        says_little = self.worst.watch.echoes or self.hides_reasoning
        return count_call(
            usage,
            sent_bytes=self.sent_bytes if self.reads_text_alone else None,
            shown=None if says_little else self._shown_text(),
        )

    def _shown_text(self) -> TextBytes | None:
        """Return the text of the answer, None if it is not known."""
        if self._reader is not None and self._reader.body is not None:
            return text_bytes(self.worst.watch, self._reader.body)
        if self._stream is not None:
            return TextBytes(self._stream.output_bytes, self._stream.reasoning_bytes)
        return None


class Meter:
    """Meters the calls of models of one guard.

    Args:
        budget: Reserves and settles.
        rates: Counts calls and tokens.
        metrics: Counts what was spent.
        log: Takes lines for the log.
    """

    def __init__(self, budget: Budget, rates: MinuteLimiter, metrics: SpendMetrics, log: Callable[[str], None]) -> None:
        self._budget, self._rates, self._metrics, self._log = budget, rates, metrics, log

    @property
    def is_on(self) -> bool:
        """Whether calls are limited by a budget now."""
        return self._budget.terms is not None

    async def measure(self, endpoint: str, body: RequestBody, provider: Provider | None) -> PromptSize | None:
        """Return the size of a body's input; None where nothing is metered."""
        if not self.is_on or provider is None:
            return None
        return await measure_prompt(endpoint, body.value, body.length_of, frozenset(provider.extra_members))

    async def reserve(
        self,
        *,
        bundle: Bundle,
        provider: Provider,
        model: Model,
        request: DecisionInput,
        body: RequestBody,
        size: PromptSize | None,
        task: str = "",
    ) -> MeteredCall | Deny:
        """Bound the cost of a call that is allowed otherwise, and reserve it. The body becomes the one that is sent.

        Args:
            bundle: The bundle in force.
            provider: Who is asked.
            model: Which model.
            request: The call as it was decided on.
            body: Its body.
            size: Of its input.
            task: The task that it names; empty without one.

        Returns:
            The call, whose end must be told to `settle`, or the denial.
        """
        terms = bundle.budget
        if terms is None:
            return deny_unlimited()
        added = frozenset(provider.extra_members)
        if size is None or size.added != added:  # another bundle may have come meanwhile
            size = await measure_prompt(request.method, body.value, body.length_of, added)
        assessed = assess(
            ModelRequest(
                endpoint=request.method,
                body=body.value,
                size=size,
                model=model.name,
                price=model.price,
                dialect=dialect_of(
                    provider.shape,
                    provider.name,
                    provider.target.url,
                    limit_member=provider.limit_member,
                    takes_usage_option=provider.takes_usage_option,
                ),
                at=self._budget.now() or 0,  # without the time nothing is reserved
                max_output_tokens=terms.max_output_tokens,
                betas=request.betas,
            )
        )
        if isinstance(assessed, Refused):
            return Deny(_REASONS[assessed.reason], "", assessed.message)
        refused = self._rates.check(assessed.tokens)  # first, since it costs nothing
        if refused is not None:
            return refused
        reservation = await self._budget.reserve(assessed.nanos, task)
        if isinstance(reservation, Deny):
            return reservation
        metered: MeteredCall | None = None
        try:
            rate = await self._rates.reserve(assessed.tokens)  # last: it counts in the minute in which it is sent
            if isinstance(rate, Deny):
                return rate
            body.change(assessed.body)
            metered = MeteredCall(
                assessed,
                reservation,
                rate,
                provider,
                model.name,
                None if bundle.models is None else bundle.models.price_book,
                terms.hang_up_seconds,
                reads_text_alone=size.is_text_alone,
                hides_reasoning=request.method == MESSAGES and assessed.body.get("thinking") not in _NOT_THINKING,
            )
            return metered
        finally:
            if metered is None:
                self._budget.settle(reservation, 0)

    def cancel(self, call: MeteredCall) -> None:
        """End a call that was not forwarded."""
        self._budget.settle(call.reservation, 0)
        self._rates.cancel(call.rate)

    def settle(self, call: MeteredCall, *, was_sent: bool) -> Mapping[str, Any]:
        """End a call; return what its audit record says about the cost.

        Its reservation ends whatever happens. If its answer cannot be read, the whole reservation is charged.

        Args:
            call: The call.
            was_sent: Whether the provider may have got some of the request.
        """
        found = Charge(call.reservation.amount, "Reservation")
        try:
            answer, end = call.read_answer(), call.find_end(was_sent=was_sent)
            found = self._charge(call, end, answer)
        finally:
            self._budget.settle(call.reservation, found.nanos)
            self._rates.settle(call.rate, _tokens_of(found))
        if found.basis == "Usage" and answer is not None and isinstance(answer.usage, ModelUsage):
            self._budget.tally.add(f"{call.provider.name}/{call.model}", call.count_tokens(answer.usage))
        self._metrics.count(call.provider.name, call.model, found)
        for alert in found.alerts:
            self._log(f"cost of {call.provider.name}/{call.model}: {alert} {found.reason}".rstrip())
        return describe_cost(
            found,
            reserved=call.reservation.amount,
            answered_model=None if answer is None else answer.model,
            price_book=call.price_book,
        )

    def _charge(self, call: MeteredCall, end: End, answer: Answer | None) -> Charge:
        def find_price(name: str) -> Any:
            model = call.provider.find(name)
            return None if model is None else model.price

        return charge(end, call.worst.terms, answer, find_price)


def _tokens_of(charge: Charge) -> int | None:
    """Return the tokens that a call has used, None where the provider does not say."""
    if charge.basis == "Free":
        return 0
    return None if charge.usage is None else charge.usage.input_tokens + charge.usage.output_tokens
