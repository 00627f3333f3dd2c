"""The body of a call of a model: read within a budget, parsed for the decision, and written for the provider.

Bodies are large because of images and files in Base64, on which no decision depends. Long runs of Base64 are therefore
cut out before a body is parsed, and put back when it is written:

    {"type": "base64", "data": "iVBORw0K<60 KiB of Base64>mCC"}     as the agent sent it
    {"type": "base64", "data": "iVBORw0K<token>mCC"}                 as it is parsed and decided on

A body then needs little more memory than its own size. A run keeps its beginning, so that an escape before it and the
host of a URL stay as they were. The token is random, so no agent can send one.
"""

import asyncio
import hashlib
import re
import secrets
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from interlock_contract.model_access import MAX_REQUEST_BYTES
from interlock_contract.strict_json import JsonInvalid, dump_json, parse_json
from interlock_guard.wire.large_messages import (
    MAX_REQUEST_NODES,
    SMALL,
    WORKING,
    Hold,
    LargeMessages,
    MemoryBudget,
    NoRoom,
    Pace,
)
from interlock_http.listener import read_body, release_body

_IN_FLIGHT: Final = 3
"""Bodies of the largest size that have room at the same time."""
_WORKING: Final = 2.25
"""Memory for parsing or writing one body, as a multiple of the largest size: twice the text, and its values."""
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"
_ASCII: Final = bytes(range(0x80))
_SLICE: Final = 4096
_KEPT: Final = 256
"""Bytes at the beginning of a run that stay: more than an escape has, and more than a label of a host."""
_DIGITS: Final = 6
_INDEX: Final = rb"([0-9]{%d})" % _DIGITS
"""What follows the token in a text: the number of a run."""
_PORTION: Final = 64 * 1024
_HASHED: Final = 128 * 1024
"""Bytes of a run that are digested in one step."""


class ModelBodies:
    """Reads the bodies of calls of models.

    Args:
        large: The large messages of this guard.
        max_bytes: Largest body in bytes.
    """

    def __init__(self, large: LargeMessages, max_bytes: int = MAX_REQUEST_BYTES) -> None:
        self._large, self._max_bytes = large, max_bytes
        self.budget = MemoryBudget(_IN_FLIGHT * max_bytes)
        self._working = max(WORKING, int(_WORKING * max_bytes))

    async def read(self, http: web.Request) -> "RequestBody":
        """Return the body of a request.

        Raises:
            BodyRefused: It is too large or too slow.
            JsonInvalid: It is no strict JSON object with a model in it.
            NoRoom: Too many bytes of other bodies are under way.
        """
        hold, length = self.budget.hold(), http.content_length
        try:
            if length is None or length > SMALL:
                await hold.resize(min(self._max_bytes, length or self._max_bytes))
            data = await read_body(http, max_bytes=self._max_bytes)
            if len(data) > SMALL:
                body = await self.parse(data, hold)
            else:
                hold.release()
                body = RequestBody(parse_json(data), hold)
            release_body(http)
        except BaseException:
            hold.release()  # an exception may keep the frames that refer to it
            raise
        if not isinstance(body.value, dict) or not isinstance(body.value.get("model"), str):
            raise JsonInvalid("no JSON object with a model in it")
        return body

    async def parse(self, data: bytearray, hold: Hold) -> "RequestBody":
        """Return the body that a text is.

        Raises:
            JsonInvalid: It is no strict JSON.
            NoRoom: There is no memory for it.
        """
        cut = await _cut(data)
        kept = len(data) if cut.runs else 0
        if not hold.try_resize(kept + len(cut.text)):
            raise NoRoom
        value = await self._large.parse(
            cut.text,
            max_nodes=MAX_REQUEST_NODES,
            hold=hold,
            working=self._working,
            kept=kept,
            least=cut.written,
        )
        if cut.runs:
            await _refuse_cut_names(value, cut.token)
        return RequestBody(value, hold, cut.token, cut.runs)


@dataclass(slots=True)
class RequestBody:
    """A body.

    Attributes:
        value: What the decision is made on.
        hold: Its part of the budget.
    """

    value: Any
    hold: Hold
    _token: str = ""
    _runs: tuple[memoryview, ...] = ()

    def length_of(self, text: str) -> int:
        """Return the bytes of a text of the value in UTF-8, with the runs that were cut out of it."""
        length = len(text) if text.isascii() else _encoded_length(text)
        if not self._runs or length <= _KEPT or self._token not in text:
            return length
        cut = [int(index) for index in re.findall(self._token + _INDEX.decode(), text)]
        return length + sum(len(self._runs[index]) for index in cut) - len(cut) * (len(self._token) + _DIGITS)

    async def name_runs(self, text: str) -> str:
        """Return a text of the value with the digest of each run that was cut out of it, in place of its token.

        The token is another one in each body, and the digest is the same for the same run.
        """
        if not self._runs or len(text) <= _KEPT or self._token not in text:
            return text
        parts = re.split(self._token + _INDEX.decode(), text)
        for index in range(1, len(parts), 2):
            run, found, pace = self._runs[int(parts[index])], hashlib.sha256(), Pace()
            for start in range(0, len(run), _HASHED):
                found.update(run[start : start + _HASHED])
                await pace.pause()
            parts[index] = found.hexdigest()
        return "".join(parts)

    def change(self, value: Any) -> None:
        """Set the value that is written; it must hold the texts of the former one."""
        self.value = value

    def write(self) -> "OutgoingBody":
        """Return the body as it is sent, made from what was decided on; the value may then be dropped."""
        text = dump_json(self.value)
        if not self._runs:
            return OutgoingBody(deque([memoryview(text)]), self.hold)
        parts = re.split(self._token.encode() + _INDEX, text)
        pieces = [self._runs[int(part)] if index % 2 else memoryview(part) for index, part in enumerate(parts)]
        return OutgoingBody(deque(pieces), self.hold)


def _encoded_length(text: str) -> int:
    """Return the bytes of a text in UTF-8, without a second copy of all of it."""
    return sum(len(text[start : start + _PORTION].encode()) for start in range(0, len(text), _PORTION))


class OutgoingBody:
    """A body that is sent once; its memory, a part of the budget, is given back as soon as it is.

    Args:
        pieces: What is sent, in order.
        hold: The part of the budget.
    """

    def __init__(self, pieces: deque[memoryview], hold: Hold) -> None:
        self.size = sum(map(len, pieces))
        self.is_begun = False
        """Whether the provider may have got some of it."""
        self._pieces, self._hold = pieces, hold

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body in portions.

        Some providers refuse a body before they have read it, and then reset the connection. Their answer is lost once
        sending has failed. A turn of the loop before each portion reads it, if it is there.
        """
        while self._pieces:
            await asyncio.sleep(0)
            piece = self._pieces.popleft()
            if len(piece) > _PORTION:
                self._pieces.appendleft(piece[_PORTION:])
            portion = bytes(piece[:_PORTION])
            del piece  # so that `drop` frees the memory
            self.is_begun = True
            yield portion
        self.drop()

    def drop(self) -> None:
        """Give its memory back, sent or not. The HTTP library may refer to a body for a while after a failed call."""
        self._pieces.clear()
        self._hold.release()


@dataclass(frozen=True, slots=True)
class _Cut:
    """A body with tokens in place of its long runs of Base64.

    Attributes:
        text: The rest, with the tokens.
        token: Beginning of each token; six digits follow.
        runs: What was cut out.
        written: Most bytes of the rest once it is written again.
    """

    text: bytes | bytearray
    token: str
    runs: tuple[memoryview, ...]
    written: int


async def _cut(data: bytearray) -> _Cut:
    """Cut the runs of Base64 out of a body, in steps."""
    places: list[tuple[int, int]] = []
    foreign, pace = 0, Pace()
    for start in range(0, len(data), _SLICE):
        part = data[start : start + _SLICE]
        if not part.isascii():
            foreign += len(part.translate(None, _ASCII))
        elif start and len(part) == _SLICE and not data[start - _KEPT : start + _SLICE].translate(None, _BASE64):
            joined = places.pop()[0] if places and places[-1][1] == start else start
            places.append((joined, start + _SLICE))
        await pace.pause()
    token, view, parts, end = secrets.token_hex(16), memoryview(data).toreadonly(), list[bytes | memoryview](), 0
    for index, (start, stop) in enumerate(places):
        parts += [view[end:start], f"{token}{index:0{_DIGITS}d}".encode()]
        end = stop
    text = b"".join([*parts, view[end:]]) if places else data
    written = len(text) + 2 * foreign  # two bytes of UTF-8 become six of an escape
    return _Cut(text, token, tuple(view[start:stop] for start, stop in places), written)


async def _refuse_cut_names(value: Any, token: str) -> None:
    """Refuse a body with a token in a member's name: two long names that are the same would pass as different ones.

    Raises:
        JsonInvalid: There is one.
    """
    waiting, pace = [value], Pace()
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if any(len(name) > _KEPT and token in name for name in one):
                raise JsonInvalid(f"not JSON whose members have names of at most {_SLICE} characters")
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        await pace.pause()
