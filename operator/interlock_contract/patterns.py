"""Matchers in linear time: globs of names and URIs, and a small subset of regular expressions for arguments.

Python's own `re` backtracks, so one pattern with a crafted argument could block the guard, and a kill with it. The
three languages here are sequences of pieces: a set of characters with a least and a most number of repetitions. They
have no alternatives and no groups, and a pattern always matches the whole text. A set of states in one integer matches
them (Navarro and Raffinot, "Flexible Pattern Matching in Strings", 2002, section 4). Each character costs the same.

The alternative is RE2 (the package google-re2). Measured on Python 3.11, importing it adds 1.5 MiB to a guard's
resident memory, and globs, which most bindings have, would need it too. A match of a short argument takes 4 us with it
and 4 to 14 us here. The semantics are equal: 1 760 random comparisons on the subset showed no difference.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_SUBJECT: Final = 4096
"""Longest text in characters that a pattern can match. A longer text matches no pattern."""
MAX_PATTERN: Final = 256

PATTERN: Final = (
    r"^(([\x20-#%-',\-/->@-Z_-z~]|\\[dw]|\\[!-/:-@\x5b-\x60{-~]|\."
    r"|\[\^?([\x20-,.-Z_-~]|\\[dw]|\\[!-/:-@\x5b-\x60{-~]|[0-9A-Za-z]-[0-9A-Za-z])+\])"
    r"([*+?]|\{[0-9]{1,2}(,([0-9]{1,2})?)?\})?)+$"
)
"""The allowed subset as a regular expression itself, for RE2 and Python. `compile_pattern` is stricter."""

URI_GLOB: Final = r"^[A-Za-z][A-Za-z0-9+.\-]*:[!-\[\]-z|~]+$"
"""A URI of a binding's map, for RE2 and Python: a scheme, then printable ASCII without `\\`, `{` and `}`."""
CLIMBING: Final = r"(^|[/\\:])\.{1,2}([/\\?#;]|$)"
"""A segment of a path or a URI that is `.` or `..`, between slashes of either kind."""

_DIGITS: Final = frozenset("0123456789")
_WORD: Final = _DIGITS | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_REPEATS: Final = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_PIECE: Final = re.compile(
    r"(?P<atom>\\.|\[\^?(?:\\.|[^\]\\])+\]|[^\\\[\]*+?{}()|^$])"
    r"(?P<repeat>[*+?]|\{(?P<least>[0-9]{1,2})(?P<comma>,(?P<most>[0-9]{1,2})?)?\})?",
    re.DOTALL,
)


class PatternInvalid(ValueError):  # noqa: N818 - says the state of a pattern, as BundleInvalid does
    """The text is no pattern of this language; the message says why."""


@dataclass(frozen=True, slots=True)
class _Chars:
    members: frozenset[str]
    is_negated: bool = False

    def hold(self, character: str) -> bool:
        return (character in self.members) != self.is_negated


@dataclass(frozen=True, slots=True)
class _Piece:
    chars: _Chars
    least: int
    most: int | None


_MAX_KNOWN: Final = 512
"""Characters that a matcher remembers; a text of others is matched as well, only slower."""


class Matcher:
    """One or more compiled patterns, matched together in one pass.

    Bit n of a set of states means that the first n states are done, and bit 0 is the beginning. A piece has one state
    for each character that it can take. Without a most, its last state can repeat.

    Example: `a{1,2}b*` has the states a, a, b. After "a" the set is {1, 2, 3}: one a is taken, the second is optional,
    and b may be missing. Only state 3 is final, so "a", "aa", "ab" and "aabb" match.

    The states of the next pattern follow in the same integer, with a beginning of their own. No step enters a
    beginning, so patterns do not mix, and the lowest final bit belongs to the first pattern that matches.
    """

    __slots__ = ("_accepts", "_begins", "_final", "_known", "_optional", "_patterns", "_repeatable")

    def __init__(self, patterns: Sequence[Sequence[_Piece]]) -> None:
        self._accepts: dict[_Chars, int] = {}
        self._begins = self._final = self._optional = self._repeatable = 0
        self._known: dict[str, int] = {}
        self._patterns: dict[int, int] = {}
        """The number of each pattern by the length of its final bit."""
        begin = 0
        for number, pieces in enumerate(patterns):
            self._begins |= 1 << begin
            state = begin + 1
            for piece in pieces:
                count = max(piece.least, 1) if piece.most is None else piece.most
                self._accepts[piece.chars] = self._accepts.get(piece.chars, 0) | (((1 << count) - 1) << state)
                self._optional |= ((1 << count) - (1 << min(piece.least, count))) << state
                state += count
                if piece.most is None:
                    self._repeatable |= 1 << (state - 1)
            self._final |= 1 << (state - 1)
            self._patterns[state] = number
            begin = state

    def matches(self, text: str) -> bool:
        """Return True if a pattern matches the whole text."""
        return self.first_match(text) is not None

    def first_match(self, text: str) -> int | None:
        """Return the number of the first pattern that matches the whole text, or None."""
        if len(text) > MAX_SUBJECT:
            return None
        known, repeatable = self._known, self._repeatable
        done = self._skip(self._begins)
        for character in text:
            accepting = known.get(character)
            if accepting is None:
                accepting = self._accepting(character)
            done = self._skip(((done << 1) | (done & repeatable)) & accepting)
            if not done:
                return None
        final = done & self._final
        return self._patterns[(final & -final).bit_length()] if final else None

    def _accepting(self, character: str) -> int:
        found = 0
        for chars, bits in self._accepts.items():
            if chars.hold(character):
                found |= bits
        if len(self._known) < _MAX_KNOWN:
            self._known[character] = found
        return found

    def _skip(self, done: int) -> int:
        while (more := done | ((done << 1) & self._optional)) != done:
            done = more
        return done


@lru_cache(maxsize=1024)
def compile_pattern(text: str) -> Matcher:
    r"""Compile a regular expression of the subset: characters, `.`, `[a-z]`, `\d`, `\w`, and `* + ? {n} {n,m} {n,}`.

    It has no groups and no alternatives, and is anchored at both ends by itself. `.` is any character but a line break.

    Raises:
        PatternInvalid: It is none.
    """
    if not re.fullmatch(PATTERN[1:-1], text) or len(text) > MAX_PATTERN:
        raise PatternInvalid("must be characters, ., [a-z], \\d or \\w, each with *, +, ? or {n,m} where it repeats")
    pieces = []
    at = 0
    while at < len(text):
        found = _PIECE.match(text, at)
        if found is None:
            raise PatternInvalid(f"cannot be read from {text[at:]!r} on")
        pieces.append(_piece(found))
        at = found.end()
    return Matcher([pieces])


def compile_names(globs: Iterable[str]) -> Matcher:
    """Compile globs of names: `*` is any run of characters, `?` any one of them, but neither is ever a slash."""
    other = _Chars(frozenset("/"), is_negated=True)
    wild = {"*": _Piece(other, 0, None), "?": _Piece(other, 1, 1)}
    return Matcher([[wild.get(character) or _literal(character) for character in glob] for glob in globs])


def compile_uris(globs: Iterable[str]) -> Matcher:
    """Compile globs of URIs: `*` stays inside one part (no `/ ? # &`), `**` goes on over slashes but no `? #`."""
    wild = {
        "*": _Piece(_Chars(frozenset("/?#&"), is_negated=True), 0, None),
        "**": _Piece(_Chars(frozenset("?#"), is_negated=True), 0, None),
    }
    tokens = (re.findall(r"\*\*|.", glob, re.DOTALL) for glob in globs)
    return Matcher([[wild.get(token) or _literal(token) for token in one] for one in tokens])


def _literal(character: str) -> _Piece:
    return _Piece(_Chars(frozenset(character)), 1, 1)


def _piece(found: re.Match[str]) -> _Piece:
    repeat = found["repeat"]
    if repeat is None:
        least, most = 1, 1
    elif repeat in _REPEATS:
        least, most = _REPEATS[repeat]  # type: ignore[assignment]
    else:
        least = int(found["least"])
        most = least if found["comma"] is None else int(found["most"]) if found["most"] else None  # type: ignore[assignment]
    if most is not None and most < max(least, 1):
        raise PatternInvalid(f"{repeat!r} can never be kept")
    return _Piece(_chars(found["atom"]), least, most)


def _chars(atom: str) -> _Chars:
    if atom == ".":
        return _Chars(frozenset("\n\r"), is_negated=True)
    if not atom.startswith("["):
        return _Chars(_escaped(atom) if atom.startswith("\\") else frozenset(atom))
    inside = atom[1:-1]
    is_negated = inside.startswith("^")
    members: set[str] = set()
    for low, high, one in re.findall(r"([0-9A-Za-z])-([0-9A-Za-z])|(\\.|.)", inside[is_negated:], re.DOTALL):
        if one:
            members |= _escaped(one) if one.startswith("\\") else {one}
        elif low > high:
            raise PatternInvalid(f"'{low}-{high}' goes backwards")
        else:
            members |= {chr(code) for code in range(ord(low), ord(high) + 1)}
    return _Chars(frozenset(members), is_negated)


def _escaped(atom: str) -> frozenset[str]:
    return {"\\d": _DIGITS, "\\w": _WORD}.get(atom) or frozenset(atom[1:])
