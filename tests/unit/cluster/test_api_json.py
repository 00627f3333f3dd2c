"""What the API server sends is read whatever its depth: what lies too deep is null, and the rest is as it was."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.cluster.api_json import MAX_DEPTH, cut_depth, parse_api_json, parse_object
from tests.requirements import requirement

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=30,
)
STORED = 9_990
"""Levels that an API server stored in a test."""
DEEP = {"lists": "[" * STORED + "]" * STORED, "objects": '{"f:a":' * STORED + "{}" + "}" * STORED}


def cut(value: Any, most: int) -> Any:
    """The same by recursion on the value."""
    if not isinstance(value, (dict, list)):
        return value
    if most == 0:
        return None
    if isinstance(value, list):
        return [cut(one, most - 1) for one in value]
    return {name: cut(one, most - 1) for name, one in value.items()}


@given(JSON, st.integers(0, 6), st.sampled_from([None, 2]))
def test_what_lies_deeper_is_null_and_nothing_else_changes(value: Any, most: int, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)

    assert parse_api_json(text) == value
    assert json.loads(cut_depth(text.encode(), most)) == cut(value, most)


@requirement("operator.blast-radius")
@pytest.mark.parametrize("deep", DEEP.values(), ids=DEEP.keys())
def test_the_rest_of_a_deep_object_is_read(deep: str) -> None:
    fields = f'{{"manager":"x","fieldsV1":{deep}}}'
    read = parse_api_json(f'{{"metadata":{{"managedFields":[{fields}],"name":"a]}}\\""}},"spec":{{"b":[1,[2]]}}}}')

    assert read["metadata"]["name"] == 'a]}"'
    assert read["spec"] == {"b": [1, [2]]}
    assert MAX_DEPTH <= depth_of(read) <= MAX_DEPTH + 1


def depth_of(value: Any) -> int:
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, (dict, list))]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


@pytest.mark.parametrize("text", ["", "{", "[" * STORED, '{"a":1}}', "nothing"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own
        parse_api_json(text)


@pytest.mark.parametrize("fields", ["[" * 9_000 + "]" * 9_000, '{"f:a":' * 5_000 + "{}" + "}" * 5_000])
def test_of_managed_fields_the_managers_are_read_whatever_the_depth_of_their_fields(fields: str) -> None:
    item = f'{{"manager":"a]","fieldsV1":{{"f:spec":{fields}}}}}'

    read = parse_object(f'{{"metadata":{{"managedFields":[{item}],"name":"x"}},"spec":{{}}}}'.encode())

    managed = [{"manager": "a]", "fieldsV1": {"f:spec": None}}]
    assert read == {"metadata": {"managedFields": managed, "name": "x"}, "spec": {}}


def test_long_managed_fields_are_not_read() -> None:
    item = json.dumps({"manager": "x" * 65_536})

    read = parse_object(f'{{"metadata":{{"managedFields":[{item}],"name":"x"}}}}'.encode())

    assert read == {"metadata": {"managedFields": [], "name": "x"}}
