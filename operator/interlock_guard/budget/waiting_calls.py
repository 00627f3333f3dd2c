"""Calls that wait for money, or for a part of their agent's minute.

A call that does not fit into what the guard has waits for its loop, which asks the ledger for more. Calls are answered
in the order in which they came. One that does not fit holds up none behind it that does.

    wait -> offer: fits -> its reservation
                -> never fits -> denied
         -> too long: denied
         -> cancelled: a reservation that it was given, and has not seen, is given back
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from interlock_guard.decision.decide import Deny

Need = TypeVar("Need")
Reserved = TypeVar("Reserved")


@dataclass(slots=True, eq=False)
class WaitingCall(Generic[Need, Reserved]):
    """One call that waits.

    Attributes:
        need: What it lacks.
        answer: Its reservation, or why it is denied.
        is_known: Whether the ledgers have answered a round for it, and none was away since: only then is it known that
            there is nothing for it.
    """

    need: Need
    answer: "asyncio.Future[Reserved | Deny]"
    is_known: bool = False


class WaitingCalls(Generic[Need, Reserved]):
    """The calls of a guard that wait for the same thing.

    Args:
        give_back: Ends a reservation whose call was cancelled, as if it had not been forwarded.
        wake: Wakes the loop that asks for what they lack.
    """

    def __init__(self, *, give_back: Callable[[Reserved], None], wake: Callable[[], None]) -> None:
        self._give_back, self._wake = give_back, wake
        self._calls: list[WaitingCall[Need, Reserved]] = []

    def __bool__(self) -> bool:
        """Return True while a call waits, or has not seen its answer."""
        return bool(self._calls)

    def __iter__(self) -> Iterator[WaitingCall[Need, Reserved]]:
        return iter(list(self._calls))

    @property
    def needs(self) -> list[Need]:
        """What the calls without an answer lack, first come first."""
        return [call.need for call in self._calls if not call.answer.done()]

    async def wait(
        self, need: Need, seconds: float, deny: Callable[[WaitingCall[Need, Reserved]], Deny]
    ) -> Reserved | Deny:
        """Wait for an answer.

        Args:
            need: What the call lacks.
            seconds: How long it waits.
            deny: Returns why a call is denied that has waited for so long.
        """
        call = WaitingCall[Need, Reserved](need, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        self._wake()
        try:
            await asyncio.wait([call.answer], timeout=seconds)
        except asyncio.CancelledError:
            if call.answer.done() and not isinstance(late := call.answer.result(), Deny):
                self._give_back(late)
            raise
        finally:
            self._calls.remove(call)
            self._wake()  # what it lacks need not be returned any longer
        return call.answer.result() if call.answer.done() else deny(call)

    def offer(self, answer: Callable[[Need], Reserved | Deny | None]) -> None:
        """Answer calls, first come first.

        Args:
            answer: Returns the answer to a call, None where it still waits.
        """
        for call in self._calls:
            if not call.answer.done() and (found := answer(call.need)) is not None:
                call.answer.set_result(found)

    def deny_all(self, denial: Deny) -> None:
        """Deny every call that has no answer."""
        self.offer(lambda _: denial)
