"""The rate limits of a guard: counts each call, and the tokens of calls of models, in the agent's minute.

All guards of an agent share one minute in its ledger. A guard takes a slice of it, and answers calls from memory for as
long as the slice lasts. A call that does not fit waits for one round of the loop, like one that waits for money:

    reserve -> fits: forward
            -> does not fit: wait -> round: take more -> fits: forward
                                  -> no room: ask, other guards return what they do not use -> round ...
                                  -> 2 s later: refused until the minute ends

What a guard has left is worth nothing in the next minute, so nothing is settled and an idle guard writes nothing.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from interlock_contract.budget.ledger import Ledger
from interlock_contract.budget.rates import (
    MINUTE,
    NOTHING,
    MinuteRate,
    RateAmounts,
    RateLimits,
    ask_rate,
    keep_rate,
    rate_room,
    rate_want,
    roll_minute,
    take_rate,
)
from interlock_guard.budget.budget import AWAY_SECONDS, WAIT_SECONDS, Budget
from interlock_guard.budget.ledger_object import LedgerAway
from interlock_guard.budget.waiting_calls import WaitingCalls
from interlock_guard.decision.decide import Deny, DenyReason, check_terminated
from interlock_guard.state import LiveState

ASK_SECONDS: Final = 10
"""How long a guard does not ask again, after the others had nothing to return."""
_TICK_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 0.2
"""How long the loop waits after a write that failed."""


@dataclass(slots=True, eq=False)
class RateReservation:
    """One call in the minute in which it was counted, with the most tokens that it may use."""

    minute: int
    amounts: RateAmounts
    is_ended: bool = False


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a write under way says: in which minute, what it grants, whom it answers, and by which limits."""

    minute: int
    granted: RateAmounts
    answered: dict[str, int]
    limits: RateLimits


class MinuteLimiter:
    """Counts calls and tokens against the limits in the bundle.

    Args:
        live: The Agent's state and its bundle.
        budget: Knows the agent's ledger and the time of the API server.
        pod_uid: UID of the pod.
        monotonic: Seconds on the monotonic clock.
    """

    def __init__(self, live: LiveState, budget: Budget, pod_uid: str, monotonic: Callable[[], float]) -> None:
        self._live, self._budget, self._pod_uid, self._monotonic = live, budget, pod_uid, monotonic
        self._holder = budget.holder
        self._minute = 0
        self._granted = self._used = self._used_before = NOTHING
        """What the ledger grants, what calls have used or may still use, and what they used in the minute before."""
        self._answered: dict[str, int] = {}
        """When each holder asked to which this guard has returned what it did not use."""
        self._offer: _Offer | None = None
        self._limits: RateLimits | None = None
        self._is_relimited = False
        """Whether the limits have changed, so that nothing may be used that was taken under the former ones."""
        self._wake = asyncio.Event()
        self._waiting = WaitingCalls[RateAmounts, RateReservation](give_back=self.cancel, wake=self._wake.set)
        self._retry_at = 0.0
        self.refusals = 0
        """Calls that were refused."""
        budget.on_ledger = self._wake.set

    @property
    def limits(self) -> RateLimits | None:
        """The limits in the bundle in force."""
        terms = self._budget.terms
        return None if terms is None else terms.rate_limits

    @property
    def is_away(self) -> bool:
        """Whether the agent's ledger is not known now, or cannot be reached."""
        held = self._budget.own_ledger
        return self._budget.now() is None or held is None or held.ledger is None or held.is_away

    @property
    def free(self) -> RateAmounts:
        """What may be used in this minute without a write to the ledger."""
        return self._granted.minus(self._used)

    def check(self, tokens: int = 0) -> Deny | None:
        """Return why a call cannot pass in this minute whatever the other guards return; it waits for nothing."""
        return self._refuse_early(self._count(tokens))

    async def reserve(self, tokens: int = 0) -> RateReservation | Deny:
        """Count a call that is allowed otherwise; its end must be told to `settle` or `cancel`.

        A call waits up to two seconds for what other guards do not use, and until a kill at most.

        Args:
            tokens: The most tokens that it may use.
        """
        need = self._count(tokens)
        found = self._try(need) or self._refuse_early(need)
        if found is not None:
            return found
        seconds = AWAY_SECONDS if self.is_away else WAIT_SECONDS
        return await self._waiting.wait(need, seconds, lambda _: self._deny(need))

    def reserve_now(self, tokens: int = 0) -> RateReservation | Deny:
        """Count a call that fits without waiting."""
        need = self._count(tokens)
        return self._try(need) or self._deny(need)

    async def ensure(self, tokens: int = 0) -> None:
        """Wait until `reserve_now` can count a call, as long as nothing is awaited in between, or it never will."""
        found = await self.reserve(tokens)
        if isinstance(found, Deny):
            self.refusals -= 1  # `reserve_now` counts it
        else:
            self.cancel(found)

    def settle(self, reservation: RateReservation, tokens: int | None) -> None:
        """End a call with the tokens that it has used, None if they are unknown. A second end does nothing.

        They count in the minute in which the call began. A minute that is over is not changed.
        """
        if reservation.is_ended:
            return
        reservation.is_ended = True
        if tokens is not None and reservation.amounts.tokens and reservation.minute == self._minute:
            used = self._used.tokens - reservation.amounts.tokens + tokens
            self._used = self._used._replace(tokens=max(0, used))
            self._tell()

    def cancel(self, reservation: RateReservation) -> None:
        """Take back a call that was not forwarded."""
        if not reservation.is_ended and reservation.minute == self._minute:
            self._used = self._used.minus(reservation.amounts)
            self._tell()
        reservation.is_ended = True

    def follow(self) -> None:
        """Take over the limits of the bundle. As soon as nothing may go out, answer every call that waits."""
        denial = check_terminated(self._live.bundle, self._live.state)
        if denial is not None:
            self._waiting.deny_all(denial)
        limits = self.limits
        if self._budget.terms is not None and limits != self._limits:
            self._limits, self._is_relimited = limits, self._minute > 0
        self._wake.set()

    async def run(self) -> None:
        """Keep the slice in line with what calls need, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            await self._round()

    async def finish(self, seconds: float) -> None:
        """Return what is free, because the guard ends."""
        limits, held = self.limits, self._budget.own_ledger
        if limits is None or held is None or self._present() is None or self.free == NOTHING:
            return
        self._granted = self._used
        with suppress(TimeoutError, LedgerAway):
            async with asyncio.timeout(seconds):
                await self._write(limits)

    def _count(self, tokens: int) -> RateAmounts:
        limits = self.limits
        return NOTHING if limits is None else limits.count(tokens)

    def _present(self) -> int | None:
        """Return the start of the present minute, None while it is not known. In a new one nothing is granted."""
        now, held = self._budget.now(), self._budget.own_ledger
        if now is None or held is None or held.ledger is None:
            return None
        self._enter(max(now - now % MINUTE, held.ledger.rate.start))
        return self._minute

    def _enter(self, start: int) -> None:
        if start > self._minute:
            self._used_before = self._used if start == self._minute + MINUTE else NOTHING
            self._minute, self._granted, self._used = start, NOTHING, NOTHING
            self._answered.clear()
            self._is_relimited = False

    def _try(self, need: RateAmounts) -> RateReservation | None:
        """Return a reservation from the slice, None where it does not have as much."""
        if need == NOTHING:
            return RateReservation(0, NOTHING)
        if self._present() is None or self._is_relimited or not need.is_within(self.free):
            return None
        self._used = self._used.plus(need)
        return RateReservation(self._minute, need)

    def _tell(self) -> None:
        """Give what became free to calls that wait, here or in other guards."""
        self._serve()
        if self._waiting or self._asks(self._known()):
            self._wake.set()

    def _serve(self) -> None:
        """Answer the calls that fit, and those that cannot fit in this minute any more."""
        self._waiting.offer(lambda need: self._try(need) or self._refuse_hopeless(need))

    def _refuse_hopeless(self, need: RateAmounts) -> Deny | None:
        """Refuse a call that would not fit even if the other guards had used nothing."""
        limits = self.limits
        if limits is None or need == NOTHING or self._present() is None:
            return None
        return None if need.is_within(limits.most.minus(self._used)) else self._deny(need)

    def _refuse_early(self, need: RateAmounts) -> Deny | None:
        """Refuse a call without waiting, if the other guards have just been asked in vain.

        As long as the question is in the ledger, they keep nothing in store.
        """
        hopeless, now, limits = self._refuse_hopeless(need), self._budget.now(), self.limits
        if hopeless is not None or now is None or limits is None or need == NOTHING or self.is_away:
            return hopeless
        rate = self._known()
        own = rate.find(self._holder)
        if own is None or own.wanted == NOTHING or not WAIT_SECONDS < now - own.asked_at < ASK_SECONDS:
            return None
        return None if need.is_within(self.free.plus(rate_room(rate, limits))) else self._deny(need)

    def _deny(self, need: RateAmounts) -> Deny:
        """Return why a call is not counted."""
        self.refusals += 1
        now, limits = self._budget.now(), self.limits
        if self.is_away or now is None or limits is None:
            message = "The ledger of the rate limits cannot be read or written, and the guard has nothing left."
            return Deny(DenyReason.BUDGET_UNAVAILABLE, "", message)
        most = limits.most
        if need.tokens > most.tokens:
            message = (
                f"This call may use up to {need.tokens} tokens, but the agent may use {most.tokens} a minute "
                "(rateLimits.tokensPerMinute). Send a smaller request, or limit its output."
            )
            return Deny(DenyReason.RATE_LIMITED, "", message)
        seconds = max(1, self._minute + MINUTE - now)
        again = f"Try again in {seconds} second{'' if seconds == 1 else 's'}."
        left = rate_room(self._known(), limits).plus(self.free)
        if limits.tokens_per_minute is not None and need.tokens > left.tokens:
            message = (
                f"This call may use up to {need.tokens} tokens, and fewer are left of the {most.tokens} that the agent "
                f"may use a minute (rateLimits.tokensPerMinute). {again}"
            )
        else:
            message = f"The agent has made its {most.calls} calls of this minute (rateLimits.callsPerMinute). {again}"
        return Deny(DenyReason.RATE_LIMITED, "", message, retry_seconds=seconds)

    def _known(self) -> MinuteRate:
        """Return the present minute as the ledger was last known."""
        held = self._budget.own_ledger
        if self._present() is None or held is None or held.ledger is None:
            return MinuteRate()
        return roll_minute(held.ledger.rate, self._minute)

    def _asks(self, rate: MinuteRate) -> dict[str, int]:
        """Return which other holders lack something and have had no answer, and since when."""
        return {
            one.holder: one.asked_at
            for one in rate.others(self._holder)
            if one.wanted != NOTHING and self._answered.get(one.holder) != one.asked_at
        }

    async def _round(self) -> None:
        """Write if calls wait, if another guard asks, or if the limits have changed; answer the calls that fit then."""
        self._serve()
        limits, held = self.limits, self._budget.own_ledger
        if limits is None or held is None or held.ledger is None or self._monotonic() < self._retry_at:
            return
        rate = self._known()
        own = rate.find(self._holder)
        has_asked = own is not None and own.wanted != NOTHING and own.wanted.is_within(rate_room(rate, limits))
        is_asked = self.free != NOTHING and bool(self._asks(rate))
        if self._waiting.needs or is_asked or (has_asked and not self._waiting) or self._is_relimited:
            try:
                await self._write(limits)
            except LedgerAway:
                self._retry_at = self._monotonic() + _PAUSE_SECONDS
            self._serve()

    async def _write(self, limits: RateLimits) -> None:
        """Change the ledger, and take over what was stored.

        Raises:
            LedgerAway: It cannot be read or written. What it may have granted goes back with the next write.
        """
        now, held = self._budget.now(), self._budget.own_ledger
        if now is None or held is None:
            return
        await held.change(lambda ledger: self._change(ledger, limits, now))
        offer = self._offer
        if offer is not None and offer.minute == self._minute:
            self._granted = self._granted.plus(offer.granted)
            self._answered.update(offer.answered)
            self._is_relimited = self._is_relimited and offer.limits != self.limits

    def _change(self, ledger: Ledger, limits: RateLimits, now: int) -> Ledger:
        """Return the ledger with everything that this holder has to say about the minute."""
        rate = rolled = roll_minute(ledger.rate, max(now, self._minute))
        self._enter(rate.start)
        asks = self._asks(rate)
        answered = asks if self.free != NOTHING else {}  # what becomes free later is an answer, too
        # Before the write: no call may use what it returns. A call may have used more than it had reserved.
        is_returned = bool(asks) or self._is_relimited
        self._granted = self._used if is_returned else RateAmounts(*map(max, self._granted, self._used))
        rate = keep_rate(rate, self._holder, self._pod_uid, self._granted)
        reachable, fits, wanted = self.free.plus(rate_room(rate, limits)), NOTHING, NOTHING
        for need in self._waiting.needs:
            if fits.plus(need).is_within(reachable):
                fits = fits.plus(need)
            else:
                wanted = wanted.plus(need)
        granted, least = NOTHING, fits.minus(self.free)
        if least != NOTHING:
            used = RateAmounts(*map(max, self._used_before, self._used))
            left = rate.start + MINUTE - now
            use = RateAmounts(used.calls * left // MINUTE, used.tokens * left // MINUTE)
            want = rate_want(rate, limits, self._holder, need=least, use=use)
            rate, granted = take_rate(rate, limits, self._holder, self._pod_uid, least=least, want=want)
        rate = self._ask(rate, limits, fits.plus(wanted).minus(reachable) if wanted != NOTHING else NOTHING, now)
        self._offer = _Offer(rate.start, granted, answered, limits)
        return ledger if rate == rolled else replace(ledger, rate=rate)

    def _ask(self, rate: MinuteRate, limits: RateLimits, wanted: RateAmounts, now: int) -> MinuteRate:
        """Return the minute with what this holder lacks. A question that was in vain stays until there is room."""
        own = rate.find(self._holder)
        if wanted == NOTHING:
            if self._waiting.needs or (own is not None and own.wanted.is_within(rate_room(rate, limits))):
                return ask_rate(rate, self._holder, self._pod_uid, NOTHING, now)
            return rate
        if not any(one.amounts != NOTHING for one in rate.others(self._holder)):
            return rate
        asked_at = 0 if own is None else own.asked_at
        if own is not None and own.wanted != NOTHING and now - asked_at < ASK_SECONDS:
            return rate
        return ask_rate(rate, self._holder, self._pod_uid, wanted, max(now, asked_at + 1))
