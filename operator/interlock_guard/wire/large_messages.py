"""Large messages: handled one at a time, in steps, and within one budget of memory.

The event loop that handles messages also sees the kill. Python's JSON parser cannot be interrupted, and a thread does
not help, since the parser holds the interpreter's lock. So the cost of a message is bounded before it is parsed, and
between two steps the loop handles whatever else has happened:

    count (in slices)  ->  decode  ->  parse  ->  check  ->  digest (in slices)  ->  decide and forward
                      ^          ^         ^         ^                          ^
                      the loop handles other events here, a kill among them

The sizes fit the guard's container of 128 MiB: a guard at rest has 45 MiB, and `RECEIVING`, `REQUESTS`, `RESULTS` and
`WORKING` are 73 MiB. The events of streams (`downstream.event_stream`) have 4 MiB more. Requests and results have
budgets of their own, so that calls under way leave room for what they wait for. Bodies for models have another budget
(`llm.request_body`), and the guard of an agent with models has a larger container.
"""

import asyncio
import hashlib
import re
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from interlock_contract.canonical_json import canonical_parts
from interlock_contract.strict_json import JsonInvalid, NodeCounter
from interlock_guard.wire.jsonrpc import (
    MAX_BODY,
    PARSE_ERROR,
    STRICT,
    Message,
    MessageInvalid,
    MessageReader,
    MessageTooLarge,
    parse_messages,
)

SMALL: Final = 4096
"""Messages up to this size, in bytes, are handled immediately: each costs about a millisecond at most."""
MAX_REQUEST_NODES: Final = 65_536
"""Values and keys of one message of the agent."""
MAX_RESULT_NODES: Final = 131_072
"""Values and keys of one message of a server."""
MAX_LIST: Final = 4 * 1024 * 1024
"""Largest list of tools, prompts or resources in bytes: each of its items is decided on."""
RECEIVING: Final = 4 * 1024 * 1024
"""Memory for the large bodies of the agent that are being read, in bytes."""
REQUESTS: Final = 16 * 1024 * 1024
"""Memory for the large requests of the agent that are under way, in bytes."""
RESULTS: Final = 17 * 1024 * 1024
"""Memory for the large messages of servers that are received, held or sent, in bytes."""
WORKING: Final = 36 * 1024 * 1024
"""Memory for parsing and writing the one message that is being handled, in bytes."""
MAX_OWN_MESSAGE: Final = 1024 * 1024
"""Largest request or notification of a server in bytes: many clients may have to be told."""
WAIT_SECONDS: Final = 10.0
"""How long a message waits for memory before it is refused."""

_E = TypeVar("_E", bound=Exception)
_FULL: Final = "has no room in memory next to the other large messages under way; try again"
_NODE: Final = 128
"""Memory of one parsed value or key in bytes, about."""
_SLICE: Final = 128 * 1024
_STEP_SECONDS: Final = 0.004
_TURNS: Final = 3
"""Turns of the event loop between two steps: what a socket receives needs two until it is handled."""
_PARTS: Final = 512
_ASCII: Final = bytes(range(0x80))
_UP_TO_LATIN_1: Final = bytes(range(0xC4))
"""Bytes of UTF-8 that are in texts of one byte a character, as Python stores them."""
_UP_TO_16_BITS: Final = bytes(range(0xF0))
"""Bytes of UTF-8 that are in texts of two bytes a character."""
_ESCAPED_PAIR: Final = re.compile(rb"\\u[dD][89abAB]")
_ESCAPED_BEYOND_LATIN_1: Final = re.compile(rb"\\u(?!00)")
_ESCAPE: Final = 6
"""Length of an escape; one may begin at the end of a slice."""
_WIDEST: Final = 4


class NoRoom(Exception):  # noqa: N818 - says the state of the budget
    """There is no memory for a message; the text says so to its sender."""

    def __init__(self, message: str = _FULL) -> None:
        super().__init__(message)


class JsonTooLarge(JsonInvalid):
    """The text may be strict JSON, but is beyond a bound."""


class Hold:
    """A part of a budget. It is given back by `release`, or when the last reference to it is gone."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: "MemoryBudget") -> None:
        self._budget = budget
        self.size = 0

    @property
    def capacity(self) -> int:
        """The size of the budget."""
        return self._budget.capacity

    def try_resize(self, size: int) -> bool:
        """Take another size, if there is room; one that shrinks always has it."""
        return self._budget.try_resize(self, size)

    async def resize(self, size: int) -> None:
        """Take another size; wait for room.

        Raises:
            NoRoom: There is none in time, or never can be.
        """
        await self._budget.resize(self, size)

    def release(self) -> None:
        """Give it back."""
        self._budget.give_back(self)

    def __del__(self) -> None:
        """Give it back with the message that it was for, on whichever way that message has ended."""
        self._budget.give_back(self)


class MemoryBudget:
    """Bytes that large messages may take in all."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def hold(self) -> Hold:
        """Return an empty hold."""
        return Hold(self)

    def try_resize(self, hold: Hold, size: int) -> bool:
        """Give a hold another size, if there is room; one that shrinks always has it."""
        growth = size - hold.size
        if growth > 0 and self.used + growth > self.capacity:
            return False
        hold.size = size
        self.used += growth
        if growth < 0:
            self._wake()
        return True

    async def resize(self, hold: Hold, size: int) -> None:
        """Give a hold another size; wait for room.

        Raises:
            NoRoom: There is none in time, or never can be.
        """
        if size > self.capacity:
            raise NoRoom(f"needs {size} bytes of memory, and large messages have {self.capacity} in all")
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.try_resize(hold, size):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await turn
            except TimeoutError:
                raise NoRoom from None
            finally:
                if turn in self._waiting:
                    self._waiting.remove(turn)

    def give_back(self, hold: Hold) -> None:
        """Take a hold's part back; a second time changes nothing."""
        self.used -= hold.size
        hold.size = 0
        self._wake()

    def _wake(self) -> None:
        """Let the waiters try again, the first one first."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done() and not turn.get_loop().is_closed():
                turn.set_result(None)


def without_frames(error: _E) -> _E:
    """Return an exception that is kept as a value, without the frames it was raised in, which keep the message."""
    error.__context__ = None
    return error.with_traceback(None)


async def let_others_run() -> None:
    """Let the event loop handle what has happened meanwhile."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class Pace:
    """Divides work into steps of a few milliseconds."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the present step has lasted long enough."""
        return time.monotonic() - self._since > _STEP_SECONDS

    async def pause(self) -> None:
        """Let the event loop run if the present step has lasted long enough."""
        if self.is_over:
            await let_others_run()
            self._since = time.monotonic()


class LargeMessages:
    """The large messages of one guard.

    Args:
        working: Memory for the one that is being handled, in bytes.

    Attributes:
        receiving: The budget of the agent's bodies that are being read.
        requests: The budget of the agent's requests.
        results: The budget of what servers send.
    """

    def __init__(self, *, working: int = WORKING) -> None:
        self.receiving, self.requests = MemoryBudget(RECEIVING), MemoryBudget(REQUESTS)
        self.results = MemoryBudget(RESULTS)
        self._working = working
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the turn of a large message: what is done in here is done for one message at a time."""
        async with self._turn:
            await let_others_run()
            yield
        await let_others_run()

    @asynccontextmanager
    async def receive(self, length: int | None) -> AsyncIterator[None]:
        """Wait until a body of the agent may be read and parsed, in here; until then its connection keeps it.

        Args:
            length: Its bytes; None where that is not known.

        Raises:
            NoRoom: Too many others are being read.
        """
        hold = self.receiving.hold()
        if length is None or length > SMALL:
            await hold.resize(min(length or MAX_BODY, MAX_BODY))
        try:
            yield
        finally:
            hold.release()

    async def parse_messages(
        self,
        data: bytes | bytearray,
        *,
        max_bytes: int,
        hold: Hold,
        max_nodes: int = MAX_RESULT_NODES,
        is_forwarded: bool = False,
        reader: MessageReader = STRICT,
    ) -> list[Message]:
        """Parse one message of JSON-RPC, or several in one array where the reader accepts them.

        A large one keeps its part of the budget while it lives. Several share theirs, and each counts as all.

        Args:
            data: The whole message.
            max_bytes: Bound of its size.
            hold: Its part of a budget, with what it took while it was received.
            max_nodes: Bound of its values and keys.
            is_forwarded: Whether it is written again while it lives.
            reader: Reads it.

        Raises:
            MessageInvalid: It is no message.
            MessageTooLarge: It is beyond a bound.
            NoRoom: There is no memory for it.
        """
        if len(data) <= SMALL or len(data) > max_bytes:
            return parse_messages(data, max_bytes=max_bytes, reader=reader)
        try:
            messages = reader.read_all(await self.parse(data, max_nodes=max_nodes, hold=hold, reader=reader))
        except JsonTooLarge as error:
            raise MessageTooLarge(str(error)) from None
        except JsonInvalid as error:
            raise MessageInvalid(PARSE_ERROR, str(error)) from None
        except MessageInvalid:
            hold.release()
            raise
        if is_forwarded and not hold.try_resize(hold.size + len(data)):
            hold.release()
            raise NoRoom
        for message in messages:
            message.hold, message.size = hold, len(data)
        return messages

    async def parse(
        self,
        data: bytes | bytearray,
        *,
        max_nodes: int,
        hold: Hold,
        working: int | None = None,
        kept: int = 0,
        least: int = 0,
        reader: MessageReader = STRICT,
    ) -> Any:
        """Parse one strict JSON value in steps.

        Args:
            data: The whole text.
            max_nodes: Bound of its values and keys.
            hold: The part of the budget that the text takes; afterwards that of the value.
            working: Memory for the parser in bytes, where it is not that of this guard's messages.
            kept: Bytes that stay in memory next to the value.
            least: Least bytes that the value counts.
            reader: Reads it.

        Raises:
            JsonInvalid: It is no strict JSON.
            JsonTooLarge: It is beyond a bound.
            NoRoom: There is no memory for it.
        """
        try:
            await hold.resize(max(hold.size, len(data)))
            return await self._parse(data, max_nodes, hold, working or self._working, kept, least, reader)
        except BaseException:
            hold.release()  # an exception may keep the frames that refer to it
            raise

    async def _parse(
        self,
        data: bytes | bytearray,
        max_nodes: int,
        hold: Hold,
        working: int,
        kept: int,
        least: int,
        reader: MessageReader,
    ) -> Any:
        async with self.turn():
            needed = await _measure(data, max_nodes)
            if needed > working:
                raise JsonTooLarge(f"may need {needed} bytes of memory, and one message has {working}")
            text = reader.decode(data)
            await let_others_run()
            value = reader.parse(text)
            await let_others_run()
            value = reader.check(value, text)
            del text
            size = kept + max(least, await _size_of(value))
            if size > hold.capacity:
                raise JsonTooLarge(f"needs {size} bytes of memory, and large messages have {hold.capacity} in all")
            if not hold.try_resize(size):
                raise NoRoom
            return value

    async def digest(self, value: Any) -> str:
        """Return the SHA-256 of a value's canonical text in hex, computed in steps."""
        digest = PacedDigest()
        for part in canonical_parts(value):
            if digest.add(part):
                await digest.step()
        return digest.finish()


class PacedDigest:
    """A SHA-256 of a long text that comes in parts, computed in steps."""

    __slots__ = ("_found", "_pace", "_parts", "_size")

    def __init__(self) -> None:
        self._found, self._pace = hashlib.sha256(), Pace()
        self._parts: list[str] = []
        self._size = 0

    def add(self, part: str) -> bool:
        """Take the next part; return True if `step` is due."""
        self._parts.append(part)
        self._size += len(part)
        return len(self._parts) >= _PARTS or self._size >= _SLICE

    async def step(self) -> None:
        """Digest the parts so far."""
        text = "".join(self._parts).encode()
        self._parts, self._size = [], 0
        for start in range(0, len(text), _SLICE):
            self._found.update(text[start : start + _SLICE])
            await self._pace.pause()

    def finish(self) -> str:
        """Return the digest of all parts in hex."""
        self._found.update("".join(self._parts).encode())
        return self._found.hexdigest()


async def _measure(data: bytes | bytearray, max_nodes: int) -> int:
    """Return how much memory the steps of a message may need next to the message itself, in bytes.

    Raises:
        JsonTooLarge: It has too many values and keys.
    """
    counter = NodeCounter()
    foreign, text_width, value_width = 0, 1, 1
    for start in range(0, len(data), _SLICE):
        part = data[start : start + _SLICE]
        counter.feed(part)
        if counter.nodes > max_nodes:
            raise JsonTooLarge(f"has more than {max_nodes} values and keys")
        if not part.isascii():
            foreign += len(part.translate(None, _ASCII))
            text_width = max(text_width, _width(part))
        if value_width < _WIDEST and b"\\u" in part:
            value_width = max(value_width, _escaped_width(data[start : start + _SLICE + _ESCAPE]))
        await let_others_run()
    value_width = max(value_width, text_width)
    # Text and value are there together; later the value, and what is written of it as text and as bytes.
    parsing = (text_width + value_width) * len(data)
    written = len(data) + 2 * foreign  # two bytes of UTF-8 become six of an escape
    writing = (value_width - 1) * len(data) + 2 * written
    return _NODE * counter.nodes + max(parsing, writing)


async def _size_of(value: Any) -> int:
    """Return how much memory a value takes, in bytes."""
    size, pace, waiting = 0, Pace(), [value]
    while waiting:
        one = waiting.pop()
        size += sys.getsizeof(one) if isinstance(one, str) and len(one) > _NODE else _NODE
        if isinstance(one, dict):
            waiting += one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        await pace.pause()
    return size


def _width(part: bytes | bytearray) -> int:
    """Return how many bytes Python takes for each character of a text with these bytes in it."""
    if part.translate(None, _UP_TO_16_BITS):
        return _WIDEST
    return 2 if part.translate(None, _UP_TO_LATIN_1) else 1


def _escaped_width(part: bytes | bytearray) -> int:
    """Return how many bytes Python takes for each character of a text with these escapes in it."""
    if _ESCAPED_PAIR.search(part) is not None:
        return _WIDEST
    return 1 if _ESCAPED_BEYOND_LATIN_1.search(part) is None else 2
