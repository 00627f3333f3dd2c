"""JSON without the liberties that let two parsers read one text differently.

Refused: anything but UTF-8, duplicate keys, `NaN` and `Infinity` (also as `1e999`), lone surrogates, nesting beyond a
bound. What passed is re-serialised from the parsed value, so that the receiver reads exactly what was decided on.

Where a sender cannot be asked to repeat a text, `parse_lenient` and `replace_surrogates` read what it must have meant.
They return a value that a strict text could have had, too.
"""

import json
import json.encoder
import math
import re
from collections.abc import Callable
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Final

MAX_DEPTH: Final = 64
"""Deepest nesting of arrays and objects that is accepted."""


class JsonInvalid(ValueError):  # noqa: N818 - says the state of a text, like BundleInvalid
    """The text is not strict JSON; the message says why, without quoting the text."""


_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape of half a surrogate pair; a text may also hold it after an escaped backslash, and then nothing is found."""


def parse_json(data: bytes | bytearray | str, *, max_depth: int = MAX_DEPTH) -> Any:
    """Parse one strict JSON value.

    Args:
        data: The whole text; bytes must be UTF-8 without a byte order mark.
        max_depth: Deepest nesting of arrays and objects that is accepted.

    Raises:
        JsonInvalid: The text is not strict JSON or too deep.
    """
    text = decode_text(data) if isinstance(data, bytes | bytearray) else data
    value = parse_text(text, max_depth=max_depth)
    check_parsed(value, text, max_depth=max_depth)
    return value


def decode_text(data: bytes | bytearray) -> str:
    """Return a text that must be UTF-8; the first of the three steps of `parse_json`.

    Raises:
        JsonInvalid: It is not.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonInvalid("not UTF-8") from None


def parse_text(text: str, *, max_depth: int = MAX_DEPTH, decoder: json.JSONDecoder | None = None) -> Any:
    """Return the value of a text, which `check_parsed` has not checked yet; the second step.

    Raises:
        JsonInvalid: The text is not strict JSON.
    """
    try:
        return (decoder or _DECODER).decode(text)
    except JsonInvalid:
        raise
    except RecursionError:
        raise JsonInvalid(f"nested deeper than {max_depth}") from None
    except ValueError:  # syntax, and integers beyond the interpreter's digit limit
        raise JsonInvalid("not JSON") from None


def check_parsed(value: Any, text: str, *, max_depth: int = MAX_DEPTH) -> None:
    """Check what the parser does not: depth and lone surrogates; the third step.

    Raises:
        JsonInvalid: The value is too deep, or holds half a surrogate pair.
    """
    check_depth(value, text, max_depth=max_depth)
    if has_lone_surrogates(value, text):
        raise JsonInvalid("not strict JSON: lone surrogate")


def check_depth(value: Any, text: str, *, max_depth: int = MAX_DEPTH) -> None:
    """Check the depth of a value that was parsed from a text.

    Raises:
        JsonInvalid: The value is too deep.
    """
    # The check walks the value, so it runs only where the text could fail it. So does the next one.
    if text.count("[") + text.count("{") > max_depth and _is_deeper(value, max_depth):
        raise JsonInvalid(f"nested deeper than {max_depth}")


def has_lone_surrogates(value: Any, text: str) -> bool:
    """Return True if a value that was parsed from a text holds half a surrogate pair."""
    # The search for a plain text is many times as fast where a text has a million other escapes.
    if ("\\ud" not in text and "\\uD" not in text) or _SURROGATE.search(text) is None:
        return False
    try:
        _encode_unicode(value).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def parse_lenient(text: str) -> Any:
    """Return the value of a text in which numbers may be no numbers: `NaN`, `Infinity` and `1e999` are null.

    Raises:
        JsonInvalid: The text is not JSON, or has an object with one key twice.
    """
    return parse_text(text, decoder=_LENIENT_DECODER)


def replace_surrogates(value: Any) -> Any:
    """Return a value with U+FFFD for each half of a surrogate pair.

    Raises:
        JsonInvalid: Two keys of an object are equal then.
    """
    # The steps are C code: the value is written as text, and half a pair is one unit of UTF-16.
    text = _encode_unicode(value).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return parse_lenient(text)


def text_of(value: Any) -> str:
    """Return a value of another program's document if it is text, else an empty text.

    What a document has in place of a name may be a list or an object, and `[] in {"a", "b"}` raises TypeError. So each
    value that is looked up in a set or in a dictionary is read with this function.
    """
    return value if isinstance(value, str) else ""


class NodeCounter:
    """Counts the values and keys of a JSON text from its bytes, before anything is parsed.

    One call of the parser cannot be interrupted, and its time and memory follow the number of values. Each value and
    each key except the first value follows one of `[`, `{`, `,` and `:`, so these characters outside of strings bound
    the number. The text comes in chunks that may end anywhere:

        feed(b'{"a,b":[1,')    nodes is 5: the text itself, and four such characters
        feed(b'2]}')           nodes is 5

    A text that is not JSON is counted right up to the character at which the parser stops.
    """

    def __init__(self) -> None:
        self.nodes = 1
        """Upper bound of the values and keys so far."""
        self._in_string = self._is_escaping = False

    def feed(self, chunk: bytes | bytearray) -> None:
        """Count a chunk of the text."""
        if self._is_escaping:
            chunk = b"\\" + chunk
        # An odd number of backslashes at the end escapes the first character of the next chunk.
        self._is_escaping = (len(chunk) - len(chunk.rstrip(b"\\"))) % 2 == 1
        if self._is_escaping:
            chunk = chunk[:-1]
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = chunk.split(b'"')
        outside = b"".join(parts[1::2] if self._in_string else parts[::2])
        self.nodes += len(outside) - len(outside.translate(None, b"[{,:"))
        self._in_string ^= len(parts) % 2 == 0


def dump_json(value: Any) -> bytes:
    """Serialise compactly in ASCII, so that the text is one line whatever the reader takes for a line end."""
    return _encode(value).encode("ascii")


def build_encoder(*, sort_keys: bool = False, ensure_ascii: bool = True) -> Callable[[Any], str]:
    """Return a function that serialises compactly and raises ValueError for a number that is not finite.

    `JSONEncoder.encode` creates its C encoder again for each value. That costs more than a small value itself, so the C
    encoder is made once here, where the interpreter has it. It does not look for cycles: no parsed value has one.
    """
    encoder = json.JSONEncoder(
        sort_keys=sort_keys, ensure_ascii=ensure_ascii, separators=(",", ":"), allow_nan=False, check_circular=False
    )
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    write = encode_basestring_ascii if ensure_ascii else encode_basestring
    encode = make(None, encoder.default, write, None, ":", ",", sort_keys, False, False)  # noqa: FBT003 - a C function
    return lambda value: "".join(encode(value, 0))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise JsonInvalid("not strict JSON: duplicate key")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonInvalid("not strict JSON: number is not finite")
    return value


def _refuse_constant(_: str) -> None:
    raise JsonInvalid("not strict JSON: number is not finite")


def _finite_or_null(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _is_deeper(value: Any, max_depth: int) -> bool:
    level = [value]
    for _ in range(max_depth + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> list[Any]:
    """Return what a container holds, and a placeholder for the container itself when it is empty."""
    if isinstance(node, dict):
        return list(node.values()) or [None]
    if isinstance(node, list):
        return node or [None]
    return []


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_float=_finite, parse_constant=_refuse_constant)
_LENIENT_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_float=_finite_or_null, parse_constant=lambda _: None
)
_encode = build_encoder()
_encode_unicode = build_encoder(ensure_ascii=False)
