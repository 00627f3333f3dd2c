"""Path traversal in every reading of a path: a server may decode, normalise or fold a text before it opens a file.

The guard compares a text as it stands. A server may decode `%2e`, turn a full-width dot into a dot, or take a yen sign
for a backslash, as some code pages do. A path is therefore looked at in each of these readings.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

_DOTS: Final = re.compile(r"(?:^|[/\\:{,])([.\s]+)(?=[/\\:?#;,}]|$)")
"""A segment of dots and white space alone, between slashes of either kind. Each character is looked at once.

Servers that take globs expand `/data/{a,..}/b` to `/data/a/b` and `/data/../b`, so braces and commas end a segment too.
"""
_UNICODE_ESCAPE: Final = re.compile(r"%u([0-9a-f]{4})", re.IGNORECASE)
_MAX_DECODINGS: Final = 4
"""How often a text is decoded. One that still changes then is taken for a path traversal."""
_FOLDED: Final = str.maketrans(
    {
        **dict.fromkeys("\u2044\u2215\u29f8", "/"),
        **dict.fromkeys("\u2216\u29f5\u29f9\u00a5\u20a9", "\\"),
        **dict.fromkeys("\u3002", "."),
    }
)
"""Look-alikes that NFKC keeps, and that code pages of Windows or rules for host names fold."""

_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Unicode's Default_Ignorable_Code_Point."""
_MAX_GROWTH: Final = 4
"""How much longer than the text its normal form may be. One character can become 18."""
_MAX_MARKS: Final = 30
"""Longest run of combining marks (UAX #15, Stream-Safe Text). The time to order a run grows with its square."""


class PathUnreadable(ValueError):  # noqa: N818 - says the state of a text
    """The readings of the text cannot be told, such as escaped bytes that are no UTF-8; the message says why."""


def interpretations(text: str) -> Iterator[str]:
    """Yield the readings of a path or URI: as it stands, decoded once and more often, and each of these normalised.

    Example: `..%ef%bc%8fa` is read as itself, as `..` with a full-width slash and `a`, and as `../a`.

    Raises:
        PathUnreadable: The readings cannot be told.
    """
    for _ in range(_MAX_DECODINGS + 1):
        yield text
        if not text.isascii():
            folded = _normalize(text)
            if folded != text:
                yield folded
                text = folded
        decoded = _decode(text)
        if decoded == text:
            return
        text = decoded
    raise PathUnreadable("is escaped too often")


def traverses_up(path: str) -> bool:
    """Return True if a segment of the path is `.` or `..` in any reading, between slashes of either kind.

    White space in such a segment does not count, since Windows and some servers drop it.
    """
    try:
        return any(_is_step(found[1]) for one in interpretations(path) for found in _DOTS.finditer(one))
    except PathUnreadable:
        return True


def _is_step(segment: str) -> bool:
    """Return True for `.`, `..`, and dots with white space. `...` is an ordinary name."""
    return "." in segment and (len(segment) <= len("..") or segment.strip(".") != "")


def _normalize(text: str) -> str:
    """Return a text in NFKC, with look-alikes of slashes and dots replaced and invisible characters left out.

    Raises:
        PathUnreadable: The work would be far more than the text is long.
    """
    counts = Counter(text)
    if sum(len(unicodedata.normalize("NFKC", one)) * count for one, count in counts.items()) > _MAX_GROWTH * len(text):
        raise PathUnreadable("grows too long")
    marks = {one for one in counts if unicodedata.combining(one)}
    if any(len(run) > _MAX_MARKS for run in "".join(one if one in marks else " " for one in text).split()):
        raise PathUnreadable("has too many combining marks in a row")
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text).translate(_FOLDED))


def _decode(text: str) -> str:
    """Return a text with its percent escapes decoded once.

    Raises:
        PathUnreadable: The bytes are no UTF-8, such as `%c0%ae`, which old decoders take for a dot.
    """
    if "%" not in text:
        return text
    text = _UNICODE_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    try:
        return unquote_to_bytes(text.encode("utf-8", "surrogatepass")).decode()
    except UnicodeDecodeError:
        raise PathUnreadable("has escaped bytes that are no UTF-8") from None
