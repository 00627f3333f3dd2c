"""Metadata that anyone may have written is parsed without what is large or deep in it."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from interlock_kube.metadata import drop_managed_fields, parse_metadata

TEXT = st.text(alphabet='ab"[]{}\\\n,:é', max_size=12)
FIELDS = st.recursive(TEXT | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=6)
METADATA = st.fixed_dictionaries(
    {"name": TEXT, "annotations": st.dictionaries(TEXT, TEXT), "managedFields": st.lists(FIELDS)}
)


def as_sent(value: Any) -> bytes:
    """Return JSON as an API server writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def test_the_list_is_cut_out_and_the_rest_stays() -> None:
    text = b'{"managedFields":[{"fieldsV1":{"f:x":[]}}],"name":"a"}'

    assert drop_managed_fields(text) == b'{"managedFields":[],"name":"a"}'


@settings(max_examples=40)
@given(st.lists(METADATA, max_size=3))
def test_everything_else_is_parsed_as_it_is(listed: list[dict[str, Any]]) -> None:
    without = [found | {"managedFields": []} for found in listed]

    assert parse_metadata(as_sent({"items": listed})) == {"items": without}


def test_a_value_that_looks_like_the_key_is_left() -> None:
    value = {"annotations": {"a": '"managedFields":[', "b": "]"}, "managedFields": [1], "name": "x"}

    assert parse_metadata(as_sent(value)) == value | {"managedFields": []}


def test_no_depth_of_the_list_matters() -> None:
    depth = 200_000
    text = b'{"items":[{"managedFields":[' + b"[" * depth + b"]" * depth + b'],"name":"a"}]}'

    assert parse_metadata(text) == {"items": [{"managedFields": [], "name": "a"}]}


def test_text_that_ends_in_the_middle_is_no_json() -> None:
    text = b'{"managedFields":[{"a":["b"'

    assert drop_managed_fields(text) == text
