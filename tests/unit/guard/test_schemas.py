from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.bundle import BundleArgumentRule
from interlock_guard.decision import constraints
from interlock_guard.decision.constraints import MAX_TEXT, find_unmatchable
from tests.requirements import requirement

FOLDER = BundleArgumentRule("/path", prefix="/data/")
KIND = BundleArgumentRule("/path", enum=("a", "b"))
MOST = BundleArgumentRule("/path", maximum=10)
SHAPE = BundleArgumentRule("/path", pattern="[a-z]+")
NESTED = BundleArgumentRule("/filter/path", prefix="/data/")


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


STRING = {"type": "string"}


def unmatchable(rule: BundleArgumentRule, schema: Any) -> str | None:
    found = find_unmatchable((rule,), schema)
    return None if found is None else found[1]


@pytest.mark.parametrize(
    ("rule", "schema", "why"),
    [
        (FOLDER, closed(file=STRING), "the schema has no argument 'path'"),
        (NESTED, an_object(filter=closed(name=STRING)), "the schema has no argument 'path'"),
        (NESTED, an_object(filter=STRING), "the schema has no object around 'path'"),
        (FOLDER, an_object(path={"type": "integer"}), "the schema allows no string there"),
        (FOLDER, an_object(path={"type": ["integer", "null"]}), "the schema allows no string there"),
        (FOLDER, an_object(path={"type": "array", "items": {"type": "integer"}}), "the schema allows no string there"),
        (MOST, an_object(path=STRING), "the schema allows no number there"),
        (FOLDER, an_object(path=False), "the schema allows nothing there"),
        (
            KIND,
            an_object(path={"type": "string", "enum": ["c", "d"]}),
            "none of the values that the schema allows satisfies",
        ),
        (KIND, an_object(path={"enum": ["c", 1]}), "none of the values that the schema allows satisfies"),
        (SHAPE, an_object(path={"const": "A"}), "none of the values that the schema allows satisfies"),
        (FOLDER, an_object(path={"type": "string", "maxLength": 3}), "the schema allows at most 3 characters"),
        (MOST, an_object(path={"type": "integer", "minimum": 11}), "the schema allows nothing below 11"),
        (FOLDER, {"$ref": "#/$defs/A", "$defs": {"A": closed(file=STRING)}}, "the schema has no argument 'path'"),
        (FOLDER, {"allOf": [{}, closed(file=STRING)]}, "the schema has no argument 'path'"),
        (FOLDER, {"anyOf": [closed(file=STRING), closed()]}, "the schema has no argument 'path'"),
        (FOLDER, {"oneOf": [an_object(path={"type": "null"})]}, "the schema allows no string there"),
    ],
)
@requirement("guard.unmatchable")
def test_a_rule_that_no_allowed_arguments_can_keep_is_found(rule: BundleArgumentRule, schema: Any, why: str) -> None:
    assert (unmatchable(rule, schema) or "").startswith(why)


@pytest.mark.parametrize(
    ("rule", "schema"),
    [
        (FOLDER, closed(path=STRING)),
        (FOLDER, {"type": "object"}),
        (FOLDER, an_object(file=STRING)),
        (FOLDER, {"additionalProperties": False, "patternProperties": {".*": STRING}}),
        (FOLDER, an_object(path={"type": ["string", "null"]})),
        (FOLDER, an_object(path={"type": "array", "items": STRING})),
        (FOLDER, an_object(path={"type": "array"})),
        (FOLDER, an_object(path={"type": ["array", "string"], "items": {"type": "integer"}})),
        (FOLDER, an_object(path=True)),
        (FOLDER, an_object(path={"type": "string", "maxLength": 5})),
        (FOLDER, an_object(path={"anyOf": [STRING, {"type": "null"}]})),
        (FOLDER, {"anyOf": [closed(file=STRING), closed(path=STRING)]}),
        (FOLDER, {"$ref": "https://example.com/schema"}),
        (FOLDER, {"$ref": "#/$defs/missing"}),
        (KIND, an_object(path={"enum": ["b", "c"]})),
        (KIND, an_object(path={"enum": [["a", "b"]]})),
        (MOST, an_object(path={"type": "number", "minimum": 10})),
        (MOST, an_object(path={"type": "integer"})),
        (NESTED, an_object(filter={"type": "array"})),
        (BundleArgumentRule("/paths/0", prefix="/"), closed(paths={"type": "array", "items": STRING})),
        *((FOLDER, schema) for schema in (None, True, [], "x", 1, {"properties": []}, {"type": 5}, {"anyOf": {}})),
    ],
)
@requirement("guard.unmatchable")
def test_nothing_is_claimed_of_a_schema_that_may_allow_it_or_is_not_understood(
    rule: BundleArgumentRule, schema: Any
) -> None:
    assert unmatchable(rule, schema) is None


@requirement("guard.unmatchable")
def test_the_first_rule_that_can_never_hold_is_found() -> None:
    schema = closed(path=STRING)
    assert find_unmatchable((FOLDER, SHAPE), schema) is None
    assert find_unmatchable((FOLDER, MOST, NESTED), schema) == (1, "the schema allows no number there")
    assert find_unmatchable((), schema) is None


def test_schemas_in_circles_and_huge_ones_end() -> None:
    assert unmatchable(FOLDER, {"$ref": "#"}) is None
    assert unmatchable(FOLDER, {"$ref": "#/$defs/A", "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}] * 3}}}) is None
    assert unmatchable(FOLDER, {"anyOf": [{"anyOf": [closed()] * 300}] * 300}) is None


class LongList(list[str]):
    """Types that the walk must not search."""

    def __contains__(self, _: object) -> bool:
        raise AssertionError("the list was searched")


class LongText(str):
    """A reference that the walk must not take apart."""

    __slots__ = ()

    def split(self, *_: Any) -> list[str]:
        raise AssertionError("the text was taken apart")


@requirement("guard.load")
@pytest.mark.parametrize(
    "part",
    [
        {"enum": ["/other/" + "a" * 1000] * 20 + ["/data/"]},
        {"enum": [["/other/"] * 1000] * 20 + ["/data/"]},
        {"const": "/data/" + "a" * (MAX_TEXT - 10)},
        {"type": LongList(["null"] * 8)},
        {"$ref": LongText("#/" + "a/" * 600)},
    ],
    ids=["texts", "lists", "one text", "types", "a reference"],
)
def test_a_schema_costs_a_call_little_however_its_server_repeats_it(part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    satisfies = constraints.satisfies

    def note(rule: BundleArgumentRule, value: Any) -> bool:
        checked.extend(value if isinstance(value, list) else [value])
        return satisfies(rule, value)

    monkeypatch.setattr(constraints, "satisfies", note)
    assert find_unmatchable([FOLDER] * 8, an_object(path={"allOf": [part] * 200})) is None
    assert len(checked) + sum(map(len, checked)) <= MAX_TEXT


SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["string", "object", "array", "#/a", "path"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "additionalProperties",
                    "anyOf",
                    "allOf",
                    "$ref",
                    "items",
                    "enum",
                    "path",
                    "maxLength",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(schema=SCHEMAS, rule=st.sampled_from([FOLDER, KIND, MOST, SHAPE, NESTED]))
@requirement("guard.fuzzed")
def test_no_schema_crashes_the_check(schema: Any, rule: BundleArgumentRule) -> None:
    assert unmatchable(rule, schema) is None or isinstance(unmatchable(rule, schema), str)
