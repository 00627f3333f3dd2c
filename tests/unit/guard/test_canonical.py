import json
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.strict_json import parse_json

NODE = Path(sys.executable).parent / "node"

# RFC 8785, Appendix B: a double's bits and how it is written.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}
# Sections 3.2.2 and 3.2.3: the RFC's own examples of a whole object and of the order of its keys.
OBJECT = r"""{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}"""
CANONICAL = (
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
    r'"string":"€$\u000f\nA' + "'" + r'B\"\\\\\"/"}'
)
KEYS = r"""{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
  "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}"""
ORDER = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji:", "Hebrew"]

PROGRAM = """
const write = (v) => v === null || typeof v !== "object" ? JSON.stringify(v)
  : Array.isArray(v) ? "[" + v.map(write).join(",") + "]"
  : "{" + Object.keys(v).sort().map((k) => JSON.stringify(k) + ":" + write(v[k])).join(",") + "}";
for (const line of require("fs").readFileSync(0, "utf8").trim().split("\\n")) console.log(write(JSON.parse(line)));
"""


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items())
def test_doubles_are_written_as_in_the_rfcs_appendix(bits: str, text: str) -> None:
    assert canonicalize(struct.unpack(">d", bytes.fromhex(bits))[0]) == text


def test_the_rfcs_object_is_written_as_in_the_rfc() -> None:
    assert canonicalize(parse_json(OBJECT)) == CANONICAL


def test_keys_are_sorted_by_utf16_units() -> None:
    assert [value.split()[0] for value in json.loads(canonicalize(parse_json(KEYS))).values()] == ORDER


def test_ecmascript_writes_the_same() -> None:
    """Node is the reference: its JSON.stringify is what the RFC is written around."""
    chance = random.Random(8785)  # noqa: S311 - the same numbers each time
    doubles = [struct.unpack(">d", chance.randbytes(8))[0] for _ in range(4000)]
    doubles += [chance.randrange(10 ** chance.randrange(1, 18)) / 10 ** chance.randrange(25) for _ in range(4000)]
    values: list[Any] = [{"b": [one, None], "\U0001f600": "\x7f\x01\u2028", "\ufb33": 2**53} for one in doubles]
    finite = [value for value in values if abs(value["b"][0]) < float("inf")]
    lines = "\n".join(map(json.dumps, finite))
    done = subprocess.run([NODE, "-e", PROGRAM], input=lines, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().split("\n") == [canonicalize(value) for value in finite]


def test_integers_that_no_double_holds_keep_their_digits() -> None:
    one, other = 2**53 + 1, 2**53 + 2
    assert float(one) != one
    assert canonicalize({"id": one, "f": 0.5}) == '{"f":0.5,"id":9007199254740993}'
    assert digest_of(canonicalize({"id": one})) != digest_of(canonicalize({"id": other}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [0.5, float("-inf")]])
def test_what_is_not_finite_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonicalize(value)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_canonical_text_means_the_same_value_and_is_its_own_canonical_form(value: Any) -> None:
    text = canonicalize(value)
    assert json.loads(text, parse_int=float) == value
    assert canonicalize(json.loads(text)) == text


@given(st.dictionaries(st.text(max_size=3), VALUES, min_size=2, max_size=5))
def test_the_order_in_which_members_came_does_not_matter(value: dict[str, Any]) -> None:
    assert canonicalize(value) == canonicalize(dict(reversed(value.items())))
