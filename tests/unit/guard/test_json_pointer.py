from typing import Any

import pytest

from interlock_contract.json_pointer import parse_index, resolve_pointer

# The document and the pointers of RFC 6901, section 5.
DOCUMENT: dict[str, Any] = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", DOCUMENT),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
    ],
)
def test_the_pointers_of_the_rfc_find_what_it_says(pointer: str, found: Any) -> None:
    assert resolve_pointer(DOCUMENT, pointer) == found


@pytest.mark.parametrize(
    "pointer",
    ["/nothing", "/foo/2", "/foo/-", "/foo/00", "/foo/01", "/foo/-1", "/foo/+1", "/foo/\u0661", "/foo/1e0", "//x"],
)
def test_a_pointer_to_nothing_finds_nothing(pointer: str) -> None:
    assert resolve_pointer(DOCUMENT, pointer) is None


def test_an_escaped_tilde_is_not_unescaped_twice() -> None:
    assert resolve_pointer({"~1": "a", "/": "b"}, "/~01") == "a"


def test_digits_beyond_any_list_are_no_index() -> None:
    assert parse_index("9999999999") == 9999999999
    assert parse_index("99999999999") is None
