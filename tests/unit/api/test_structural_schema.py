from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, ConfigDict, Field

from interlock.api.markers import Rule, kube
from tools.crds.schema import SchemaError, structural_schema


class Colour(StrEnum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    """A nested model."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra=kube(Rule(rule="has(self.x)", message="x is missing")),
    )

    x: str | None = Field(default=None, max_length=5)
    """An x."""


class Outer(BaseModel):
    """All of it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    inner: Annotated[Inner | None, Field(json_schema_extra=kube(Rule(rule="true", message="outer")))] = None
    """The field's own words."""

    plain: Inner
    colour: Colour = Colour.RED
    fixed: Literal["one"] = "one"
    several: tuple[Inner, ...] = Field(default=(), max_length=3, json_schema_extra=kube(keys=("x",)))
    words: tuple[Annotated[str, Field(max_length=7)], ...] | None = Field(default=None, min_length=1, max_length=2)
    number: int = Field(default=3, ge=0)
    moment: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict, json_schema_extra=kube(maxProperties=4))


SCHEMA = structural_schema(Outer)
FIELDS = SCHEMA["properties"]


def keywords_of(node: Any) -> set[str]:
    if isinstance(node, dict):
        return set(node) | {word for value in node.values() for word in keywords_of(value)}
    if isinstance(node, list):
        return {word for value in node for word in keywords_of(value)}
    return set()


def test_nothing_remains_that_a_crd_cannot_have() -> None:
    assert not keywords_of(SCHEMA) & {"$ref", "$defs", "anyOf", "title", "const", "additionalItems", "nullable"}
    assert "additionalProperties" not in SCHEMA


def test_references_are_inlined_and_the_field_speaks_for_itself() -> None:
    assert FIELDS["inner"]["description"] == "The field's own words."
    assert FIELDS["plain"]["description"] == "A nested model."
    assert FIELDS["inner"]["properties"]["x"] == {"description": "An x.", "type": "string", "maxLength": 5}


def test_rules_of_the_class_and_of_the_field_both_remain() -> None:
    assert [rule["message"] for rule in FIELDS["inner"]["x-kubernetes-validations"]] == ["x is missing", "outer"]
    assert [rule["message"] for rule in FIELDS["plain"]["x-kubernetes-validations"]] == ["x is missing"]


def test_an_optional_field_is_one_that_is_not_required() -> None:
    assert SCHEMA["required"] == ["plain"]
    assert "default" not in FIELDS["inner"]
    assert FIELDS["words"]["minItems"] == 1


def test_constants_and_enums_become_enums() -> None:
    assert FIELDS["fixed"]["enum"] == ["one"]
    assert FIELDS["colour"]["enum"] == ["red", "blue"]


def test_lists_say_how_they_merge() -> None:
    assert FIELDS["words"]["x-kubernetes-list-type"] == "atomic"
    assert FIELDS["several"]["x-kubernetes-list-type"] == "map"
    assert FIELDS["several"]["x-kubernetes-list-map-keys"] == ["x"]


def test_defaults_are_kept_where_they_say_more_than_absence() -> None:
    assert FIELDS["number"]["default"] == 3
    assert FIELDS["colour"]["default"] == "red"
    assert "default" not in FIELDS["several"]


def test_integers_times_and_maps_have_their_kubernetes_form() -> None:
    assert FIELDS["number"]["format"] == "int64"
    assert FIELDS["moment"] == {"type": "string", "format": "date-time"}
    assert FIELDS["labels"]["additionalProperties"] == {"type": "string"}
    assert FIELDS["labels"]["maxProperties"] == 4


class Moved(BaseModel):
    several: tuple[str, ...] = Field(
        default=(), json_schema_extra={"additionalProperties": {"type": "object", "properties": {}}}
    )


def test_a_list_that_was_a_map_keeps_the_schema_of_its_values() -> None:
    field = structural_schema(Moved)["properties"]["several"]
    assert (field["type"], field["items"]) == ("array", {"type": "string"})
    assert field["additionalProperties"] == {"type": "object", "properties": {}}


class Recursive(BaseModel):
    child: Optional["Recursive"] = None


class Union(BaseModel):
    value: int | str


class Positive(BaseModel):
    value: int = Field(gt=0)


class Fixed(BaseModel):
    value: tuple[int, str]


class Unique(BaseModel):
    value: set[int]


class Anything(BaseModel):
    value: object


class Bare(BaseModel):
    value: dict[str, Any]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Recursive, "Recursive.child: Recursive holds itself"),
        (Union, "Union.value: several types at once"),
        (Positive, "Positive.value: a CRD cannot say exclusiveMinimum"),
        (Fixed, "Fixed.value: a CRD cannot say prefixItems"),
        (Unique, "Unique.value: a CRD cannot say uniqueItems"),
        (Anything, "Anything.value: no type"),
        (Bare, "Bare.value: an object without properties"),
    ],
)
def test_what_has_no_faithful_form_is_refused_with_its_path(model: type[BaseModel], words: str) -> None:
    with pytest.raises(SchemaError, match=words.replace(".", r"\.")):
        structural_schema(model)
