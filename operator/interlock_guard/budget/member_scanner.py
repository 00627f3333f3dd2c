r"""Members near the root of a JSON text, found while the text passes; nothing else of it is held in memory. Pure.

An answer may have 100 MB of numbers, and its usage is a few bytes at the end. The scanner follows only strings,
brackets and, near the root, keys. So a member inside of an output of the model is none of the root:

    {"content": [{"input": {"usage": 1}}], "usage": {"input_tokens": 9}}     ("usage",) is {"input_tokens": 9}

Only one object is read. In a stream of several nothing is found, because no one of them is the whole answer. A text
that is no JSON yields anything or nothing. Only the provider that sends the text can do that.
"""

import json
import re
from collections.abc import Collection
from typing import Any, Final, NamedTuple

Path = tuple[str, ...]
"""The keys from the root to a member."""

_MAX_VALUE: Final = 64 * 1024
_MAX_KEY: Final = 128
_NEAR: Final = re.compile(rb'["{}\[\],:]')
_FAR: Final = re.compile(rb'["{}\[\]]')
_IN_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
"""What a string has up to its end, or up to an escape of which the text has only the beginning."""
_QUOTE: Final = re.compile(rb'"')
_BACKSLASH: Final = 0x5C
_LONGEST_NUMBER: Final = 64


class SetBack(NamedTuple):
    """A member that the guard has set, and what the client would read without that.

    Attributes:
        path: Where an answer repeats it.
        value: What was sent.
        original: The text in its place.
    """

    path: Path
    value: int
    original: bytes = b"null"


class MemberScanner:
    """Follows one JSON text.

    Args:
        paths: The members that are wanted.
        set_back: A member whose value is replaced in what passes.
    """

    def __init__(self, paths: Collection[Path], set_back: SetBack | None = None) -> None:
        self._paths = {*paths, set_back.path} if set_back is not None else set(paths)
        self._set_back = set_back
        self._reach = max(map(len, self._paths))
        self._has_begun = self._is_over = False
        self._depth = 0
        self._kinds: list[bytes] = []  # of the containers down to `_reach`
        self._keys: list[str] = []  # of the members that are being read in them
        self._expects_key = False
        self._in_string = self._is_escaped = False
        self._key: bytearray | None = None  # a key that is being read
        self._path: Path | None = None  # of the wanted member that is being read
        self._value = bytearray()
        self._holds = False  # what is being read may be replaced, and has not passed yet
        self._found: dict[Path, bytes] = {}

    def get(self, path: Path) -> Any:
        """Return the value of a member as JSON, None where it is absent or cannot be read."""
        try:
            return json.loads(self._found.get(path, b"null"))
        except (ValueError, RecursionError):
            return None

    def feed(self, chunk: bytes) -> bytes:
        """Take a part of the text and return what passes of it."""
        if not self._has_begun and (start := chunk.lstrip()):
            self._has_begun, self._is_over = True, not start.startswith(b"{")
        if self._is_over:
            if chunk.strip():
                self._found.clear()
            return chunk
        return self._follow(chunk)

    def _follow(self, chunk: bytes) -> bytes:
        passed: list[bytes] = []
        sent = begin = position = 0  # `sent` bytes of the chunk are in `passed`; the value goes on at `begin`
        while (found := self._next(chunk, position)) is not None:
            sign, position = found.group(), found.end()
            if sign == b'"':
                self._turn_string()
            elif sign == b":":
                if self._begin_value():
                    begin = position
                    if self._holds:
                        passed.append(chunk[sent:position])
                        sent = position
            else:
                if self._path is not None and sign in b",}" and self._depth == len(self._path):
                    held = self._end_value(chunk[begin : found.start()])
                    if held is not None:
                        passed.append(held)
                        sent = found.start()
                self._turn_container(sign)
        if self._path is not None:
            self._keep(chunk[begin:])
        if self._holds and len(self._value) > _LONGEST_NUMBER:
            self._holds = False
            return b"".join([*passed, self._value])
        return chunk if self._set_back is None else b"".join(passed if self._holds else [*passed, chunk[sent:]])

    def _next(self, chunk: bytes, position: int) -> re.Match[bytes] | None:
        """Return the next sign that changes the state, at or after a position: the end of a string if one is open."""
        if not self._in_string:
            is_near = self._depth <= self._reach and self._kinds[-1:] == [b"{"]
            return (_NEAR if is_near else _FAR).search(chunk, position)
        if self._is_escaped and position < len(chunk):
            self._is_escaped = False
            self._keep_key(chunk[position : position + 1])
            position += 1
        inside = _IN_STRING.match(chunk, position)
        end = position if inside is None else inside.end()
        self._keep_key(chunk[position:end])
        if end < len(chunk) and chunk[end] == _BACKSLASH:
            self._is_escaped = True
            self._keep_key(chunk[end:])
        return _QUOTE.match(chunk, end)

    def _keep_key(self, part: bytes) -> None:
        if self._key is not None and len(self._key) <= _MAX_KEY:
            self._key += part

    def _turn_string(self) -> None:
        """Begin or end a string."""
        self._in_string = not self._in_string
        if self._in_string:
            self._key = bytearray() if self._expects_key else None
        elif self._key is not None:
            try:
                self._keys[-1] = str(json.loads(b'"%s"' % self._key))
            except ValueError:
                self._keys[-1] = ""
            self._key, self._expects_key = None, False

    def _begin_value(self) -> bool:
        """Begin to read the value of a member if it is wanted; return whether it is."""
        path = tuple(self._keys)
        if self._path is not None or path not in self._paths or self._is_over:
            return False
        self._path, self._value = path, bytearray()
        self._holds = self._set_back is not None and path == self._set_back.path
        return True

    def _keep(self, part: bytes) -> None:
        if len(self._value) <= _MAX_VALUE:
            self._value += part

    def _end_value(self, part: bytes) -> bytes | None:
        """Note the value that has ended, and return what passes in its place; None if it has passed already."""
        self._keep(part)
        text, path = bytes(self._value), self._path
        if path is not None and len(text) <= _MAX_VALUE:
            self._found[path] = text  # of two with one name the last counts, as for the SDKs
        self._path, self._value = None, bytearray()
        if not self._holds or self._set_back is None:
            return None
        self._holds = False
        value = text.strip()
        return text.replace(value, self._set_back.original) if value == b"%d" % self._set_back.value else text

    def _turn_container(self, sign: bytes) -> None:
        """Enter or leave an object or a list, or pass on to the next member."""
        if sign in b"{[":
            if self._is_over:
                self._found.clear()
            self._depth += 1
            if self._depth <= self._reach:
                self._kinds.append(sign)
                self._keys.append("")
                self._expects_key = sign == b"{"
        elif sign in b"}]":
            if 0 < self._depth <= self._reach:
                self._kinds.pop()
                self._keys.pop()
            self._depth = max(0, self._depth - 1)
            self._is_over = self._depth == 0
            self._expects_key = False
        else:
            self._expects_key = True
