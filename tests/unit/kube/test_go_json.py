"""Bodies of requests are written as the API server's own encoder writes them, byte by byte."""

import json
from typing import Any

import pytest

from interlock_kube.go_json import to_go_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, True, None], "a": {}}, '{"a":{},"b":[1,true,null]}'),
        ("a < b && c > d", r'"a \u003c b \u0026\u0026 c \u003e d"'),
        ("\u2028\u2029", r'"\u2028\u2029"'),
        ("ä 🦊 \x7f", '"ä 🦊 \x7f"'),
        ('\\ " \n \t \x00', r'"\\ \" \n \t \u0000"'),
        ({"\uffff": 1, "🦊": 2}, '{"\uffff":1,"🦊":2}'),
    ],
)
def test_json_is_written_as_go_writes_it(value: Any, text: str) -> None:
    assert to_go_json(value) == text
    assert json.loads(text) == value


def test_half_a_character_becomes_what_go_makes_of_it() -> None:
    assert to_go_json("a\ud83e").encode() == '"a\ufffd"'.encode()
