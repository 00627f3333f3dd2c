"""JSON in the one form that every implementation of RFC 8785 (JSON Canonicalization Scheme) writes. No I/O.

Its digest names the arguments of a call without repeating them. In one point this goes beyond the RFC, which knows
doubles only: an integer that a double cannot hold exactly is written in full, so that calls with different integers
never share a digest.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring
from typing import Any, Final, TypeGuard

from interlock_contract.strict_json import build_encoder

_DIFFERS: Final = re.compile(r"[0-9](?:\.0(?![0-9])|e)")
"""Where Python writes a double otherwise than ECMAScript; a text may hold it, too, and then is looked at in vain."""
_LAST_UNIT: Final = "\uffff"
"""Behind it UTF-16 sorts keys otherwise than by code points."""
_LEAST_EXPONENT: Final = -6
_MOST_DIGITS: Final = 21
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
_encode: Final[Callable[[Any], str]] = build_encoder(sort_keys=True, ensure_ascii=False)


def canonicalize(value: Any) -> str:
    """Return a value that was parsed from strict JSON as canonical text.

    Raises:
        ValueError: It holds a number that is not finite.
    """
    text = _encode(value)
    if _DIFFERS.search(text) is None and (text.isascii() or max(text) <= _LAST_UNIT):
        return text
    return "".join(canonical_parts(value))


def digest_of(canonical: str) -> str:
    """Return the SHA-256 of canonical text in hex."""
    return hashlib.sha256(canonical.encode()).hexdigest()


def is_digest(value: Any) -> TypeGuard[str]:
    """Return True if a value is a SHA-256 in 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and _DIGEST.match(value) is not None


def canonical_parts(value: Any) -> Iterator[str]:
    """Yield the canonical text of a value in parts, so that a large one can be written in steps.

    Raises:
        ValueError: It holds a number that is not finite.
    """
    if isinstance(value, str):
        yield encode_basestring(value)
    elif isinstance(value, float):
        yield _number(value)
    elif isinstance(value, dict):
        opener = "{"
        for key in sorted(value, key=_utf16):
            yield f"{opener}{encode_basestring(key)}:"
            yield from canonical_parts(value[key])
            opener = ","
        yield "}" if value else "{}"
    elif isinstance(value, list | tuple):
        opener = "["
        for item in value:
            yield opener
            yield from canonical_parts(item)
            opener = ","
        yield "]" if value else "[]"
    else:
        yield _encode(value)


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _number(value: float) -> str:
    """Write a double as ECMAScript's Number::toString does (ECMA-262 6.1.6.1.20), as RFC 8785 3.2.2.3 requires.

    Python's repr finds the same shortest digits; only where the point and the exponent go differs.
    """
    if value == 0:
        return "0"
    if not math.isfinite(value):
        raise ValueError("Out of range float values are not JSON compliant")
    text = repr(value)
    if "e" not in text:  # below 1e16 and not tiny: both write it out
        return text.removesuffix(".0")
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    return sign + _place_point(digits, point)


def _place_point(digits: str, point: int) -> str:
    """Return the number 0.`digits` times ten to the power of `point`."""
    if len(digits) <= point <= _MOST_DIGITS:
        return digits + "0" * (point - len(digits))
    if 0 < point <= _MOST_DIGITS:
        return f"{digits[:point]}.{digits[point:]}"
    if _LEAST_EXPONENT < point <= 0:
        return "0." + "0" * -point + digits
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{point - 1:+d}"
