"""The calls and tokens of one minute: how guards share `rateLimits` without passing them. Pure.

The ledger has the present minute and a slice of it for each holder. A holder counts a call only in a slice that was
written before. All slices together never exceed the limits. A slice says nothing of what was used of it: a holder that
crashed keeps its slice until the minute ends, and each new minute begins without slices.

    limit 60   |#### holder a 30 ####|=== holder b 10 ===|        room 20        |
    a asks b for 25 more: b has used 4, so b lowers its slice to 4, and a takes 25 of the room of 26

The promises, which hold whatever is lost, crashes or runs twice:

1. All slices of a minute together are within the limits, but for usage of a call above its own reservation.
2. What a holder uses in a minute is at most its slice of that minute.
3. Once the other holders have returned what they do not use, no call is refused for which there is room.
4. A minute never comes back: a clock that is behind goes on in the minute of the ledger.
"""

from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

from msgspec import Meta
from msgspec.structs import replace

from interlock_contract.budget.ledger_fields import Holder, Seconds
from interlock_contract.strict_fields import StrictStruct, Text

MINUTE: Final = 60
"""Seconds of a minute. Minutes begin at its multiples since the epoch."""
MAX_CALLS: Final = 1_000_000
MAX_TOKENS: Final = 1_000_000_000
"""Largest limits of a minute."""
MAX_RATE_SLICES: Final = 1024
LEAST_PARTS: Final = 32
"""A holder takes at least this part of a limit at once, so that no call of a busy agent needs a write of its own."""

_NO_LIMIT: Final = 2**53 - 1
Amount = Annotated[int, Meta(ge=0, le=_NO_LIMIT)]


class RateAmounts(NamedTuple):
    """Calls, and tokens. What has no limit is counted as 0."""

    calls: int = 0
    tokens: int = 0

    def plus(self, other: "RateAmounts") -> "RateAmounts":
        """Return the sum."""
        return RateAmounts(self.calls + other.calls, self.tokens + other.tokens)

    def minus(self, other: "RateAmounts") -> "RateAmounts":
        """Return the difference, 0 where it would be negative."""
        return RateAmounts(max(0, self.calls - other.calls), max(0, self.tokens - other.tokens))

    def is_within(self, other: "RateAmounts") -> bool:
        """Return True if neither is more than the other's."""
        return self.calls <= other.calls and self.tokens <= other.tokens


NOTHING: Final = RateAmounts()


class RateLimits(StrictStruct, frozen=True):
    """Most calls and tokens of an agent in its environment in one minute; None is no limit."""

    calls_per_minute: Annotated[int, Meta(ge=1, le=MAX_CALLS)] | None = None
    tokens_per_minute: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None = None

    @property
    def most(self) -> RateAmounts:
        """The limits as amounts, where no limit is an amount that no call reaches."""
        return RateAmounts(
            _NO_LIMIT if self.calls_per_minute is None else self.calls_per_minute,
            _NO_LIMIT if self.tokens_per_minute is None else self.tokens_per_minute,
        )

    def count(self, tokens: int) -> RateAmounts:
        """Return what one call with so many tokens counts."""
        return RateAmounts(
            0 if self.calls_per_minute is None else 1, 0 if self.tokens_per_minute is None else max(0, tokens)
        )


class RateSlice(StrictStruct, frozen=True):
    """What one holder may use in the minute, with what it has used.

    A holder that lacks something says so in `wanted_calls` and `wanted_tokens`: the others return what they do not use.
    `asked_at` is when it asked last.
    """

    holder: Holder
    pod_uid: Text
    calls: Amount = 0
    tokens: Amount = 0
    wanted_calls: Amount = 0
    wanted_tokens: Amount = 0
    asked_at: Seconds = 0

    @property
    def amounts(self) -> RateAmounts:
        """What the holder has."""
        return RateAmounts(self.calls, self.tokens)

    @property
    def wanted(self) -> RateAmounts:
        """What the holder lacks."""
        return RateAmounts(self.wanted_calls, self.wanted_tokens)


class MinuteRate(StrictStruct, frozen=True):
    """One minute and its slices. One that starts at 0 is that of a ledger without any."""

    start: Seconds = 0
    slices: Annotated[tuple[RateSlice, ...], Meta(max_length=MAX_RATE_SLICES)] = ()

    def find(self, holder: str) -> RateSlice | None:
        """Return the slice of a holder."""
        return next((one for one in self.slices if one.holder == holder), None)

    def others(self, holder: str) -> Iterator[RateSlice]:
        """Return the slices of other holders."""
        return (one for one in self.slices if one.holder != holder)

    @property
    def taken(self) -> RateAmounts:
        """All slices together."""
        return RateAmounts(sum(one.calls for one in self.slices), sum(one.tokens for one in self.slices))


def roll_minute(rate: MinuteRate, now: int) -> MinuteRate:
    """Return the minute of `now`, without slices if it is a new one. A clock that is behind changes nothing.

    Args:
        rate: The minute of the ledger.
        now: Seconds since the epoch, of the API server.
    """
    start = now - now % MINUTE
    return MinuteRate(start) if start > rate.start else rate


def rate_room(rate: MinuteRate, limits: RateLimits) -> RateAmounts:
    """Return what may be taken in this minute."""
    return limits.most.minus(rate.taken)


def keep_rate(rate: MinuteRate, holder: str, pod_uid: str, amounts: RateAmounts) -> MinuteRate:
    """Let a holder's slice be what it keeps: what it has used, and what it may still use.

    A write whose answer was lost may have granted more. The holder does not know, so that goes back.

    Args:
        rate: The minute.
        holder: `<pod uid>/<start of the process in ms>`.
        pod_uid: UID of its pod.
        amounts: What it keeps: never more than it was granted, but for usage above a reservation.
    """
    found = rate.find(holder)
    if (NOTHING if found is None else found.amounts) == amounts:
        return rate
    one = found or RateSlice(holder, pod_uid)
    return _put(rate, replace(one, calls=amounts.calls, tokens=amounts.tokens))


def take_rate(
    rate: MinuteRate, limits: RateLimits, holder: str, pod_uid: str, *, least: RateAmounts, want: RateAmounts
) -> tuple[MinuteRate, RateAmounts]:
    """Grow a holder's slice. It may be used only after the ledger was written.

    Args:
        rate: The minute.
        limits: The limits.
        holder: Which holder.
        pod_uid: UID of its pod.
        least: What its calls need in addition. Where there is less room, nothing is granted.
        want: What it would like, see `rate_want`.

    Returns:
        The minute to write, and what was granted.
    """
    room, found = rate_room(rate, limits), rate.find(holder)
    if not least.is_within(room) or (found is None and len(rate.slices) >= MAX_RATE_SLICES):
        return rate, NOTHING
    granted = RateAmounts(
        min(max(least.calls, want.calls), room.calls), min(max(least.tokens, want.tokens), room.tokens)
    )
    before = NOTHING if found is None else found.amounts
    return keep_rate(rate, holder, pod_uid, before.plus(granted)), granted


def rate_want(rate: MinuteRate, limits: RateLimits, holder: str, *, need: RateAmounts, use: RateAmounts) -> RateAmounts:
    """Return what a holder should take at once, the `want` of `take_rate`.

    Args:
        rate: The minute.
        limits: The limits.
        holder: Which holder.
        need: What its calls need in addition. The result is at least this.
        use: What it is expected to use in the rest of the minute.
    """
    others = list(rate.others(holder))
    if any(one.wanted != NOTHING for one in others):
        return need  # another holder was refused, or waits: nothing is kept in store
    room, most, holders = rate_room(rate, limits), limits.most, len(others) + 1
    return RateAmounts(
        max(need.calls, _share(room.calls, most.calls, use.calls, holders)),
        max(need.tokens, _share(room.tokens, most.tokens, use.tokens, holders)),
    )


def ask_rate(rate: MinuteRate, holder: str, pod_uid: str, wanted: RateAmounts, now: int) -> MinuteRate:
    """Say what a holder lacks, so that the others return what they do not use. `NOTHING` takes it back.

    Args:
        rate: The minute.
        holder: Which holder.
        pod_uid: UID of its pod.
        wanted: What it lacks.
        now: Seconds since the epoch, of the API server.
    """
    found = rate.find(holder)
    if found is None and (wanted == NOTHING or len(rate.slices) >= MAX_RATE_SLICES):
        return rate
    one = found or RateSlice(holder, pod_uid)
    if one.wanted == wanted and (wanted == NOTHING or one.asked_at == now):
        return rate
    asked_at = one.asked_at if wanted == NOTHING else now
    return _put(rate, replace(one, wanted_calls=wanted.calls, wanted_tokens=wanted.tokens, asked_at=asked_at))


def _share(room: int, most: int, use: int, holders: int) -> int:
    """Return which part of the room one holder should take."""
    if most >= _NO_LIMIT:
        return 0
    least = max(1, most // LEAST_PARTS)
    return min(max(use, least), max(room // (2 * holders), min(room, least)))


def _put(rate: MinuteRate, one: RateSlice) -> MinuteRate:
    if rate.find(one.holder) is None:
        return replace(rate, slices=(*rate.slices, one))
    return replace(rate, slices=tuple(one if other.holder == one.holder else other for other in rate.slices))
