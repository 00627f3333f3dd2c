"""The versions of the bundle's schema: what guards of this release and of the one before read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
import pytest
from msgspec import structs

from interlock.deployment.children.config import compile_bundle
from interlock_contract.bundle import Bundle, dump_bundle, parse_bundle
from interlock_contract.bundle_schema import (
    READ_SCHEMAS,
    SCHEMA_VERSION,
    choose_schema,
    newer_field,
    read_schemas,
    since,
    write_schemas,
)
from interlock_contract.strict_fields import BundleInvalid, StrictStruct
from tests.support.builders import a_placement
from tests.support.json_schema import is_valid
from tests.unit.guard.test_bundle import PARSED, WIRE

DATA = Path(__file__).parents[2] / "data"
BEFORE = SCHEMA_VERSION - 1


class Item(StrictStruct, frozen=True):
    name: str
    colour: Annotated[str, since(SCHEMA_VERSION)] = ""


class Sample(StrictStruct, frozen=True):
    items: tuple[Item, ...] = ()
    mode: Annotated[str | None, since(SCHEMA_VERSION)] = None


def test_a_guard_reads_the_version_of_its_release_and_the_one_before() -> None:
    assert READ_SCHEMAS == (BEFORE, SCHEMA_VERSION)
    assert get_args(get_type_hints(Bundle)["schema_version"]) == READ_SCHEMAS
    for version in READ_SCHEMAS:
        assert parse_bundle(json.dumps({**WIRE, "schemaVersion": version})).schema_version == version
    for version in (BEFORE - 1, SCHEMA_VERSION + 1):
        with pytest.raises(BundleInvalid, match=f"schemaVersion: this program reads version {BEFORE} and"):
            parse_bundle(json.dumps({**WIRE, "schemaVersion": version}))


def test_a_guard_of_the_release_before_reads_what_is_written_for_it() -> None:
    """The schema is that of the guard's parser in the release before, which refuses any other document."""
    schema = json.loads((DATA / f"bundle_schema_{BEFORE}.json").read_text())
    placement = replace(a_placement(), bundle_schema=BEFORE)
    for bundle in (structs.replace(PARSED, schema_version=BEFORE), compile_bundle(placement)):
        written = json.loads(dump_bundle(bundle))
        assert is_valid(written, schema, schema["$defs"])

    today = json.loads(dump_bundle(PARSED))
    for refused in (today, {**written, "another": 1}, {**written, "stage": 1}, {"schemaVersion": BEFORE}):
        assert not is_valid(refused, schema, schema["$defs"])


def test_every_field_that_the_release_before_does_not_know_says_so() -> None:
    """Otherwise a bundle in the earlier version could have a field for which an earlier guard refuses all of it."""
    known = json.loads((DATA / f"bundle_schema_{BEFORE}.json").read_text())["$defs"]
    for name, fields in _fields(Bundle).items():
        if name not in known:
            continue  # the field that brought this struct says so
        added = {field for field, version in fields.items() if version < SCHEMA_VERSION} - known[name][
            "properties"
        ].keys()
        assert not added, f"{name} has the fields {added}: mark them with since({SCHEMA_VERSION})"


def _fields(kind: Any) -> dict[str, dict[str, int]]:
    """Return the fields of a struct, and of all structs in it, with the versions that added them."""
    found: dict[str, dict[str, int]] = {}
    pending = [kind]
    while pending:
        one = pending.pop()
        if isinstance(one, type) and issubclass(one, StrictStruct):
            if one.__name__ not in found:
                fields = msgspec.structs.fields(one)
                found[one.__name__] = {
                    field.encode_name: max(
                        ((mark.extra or {}).get("since", 0) for mark in getattr(field.type, "__metadata__", ())),
                        default=0,
                    )
                    for field in fields
                }
                pending += [field.type for field in fields]
        else:
            pending += get_args(one)
    return found


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (None, {4}),
        ("4,5", {4, 5}),
        ("5", {5}),
        ("", set()),
        ("4,", set()),
        ("four", set()),
        ("-4", set()),
        (",".join("4" * 9), set()),
        ("4" * 9, set()),
    ],
)
def test_a_pod_says_what_its_guard_reads(said: str | None, read: set[int]) -> None:
    assert read_schemas(said) == read


def test_the_newest_version_that_all_guards_read_is_written() -> None:
    today = read_schemas(write_schemas())
    assert today == set(READ_SCHEMAS)
    assert choose_schema([]) == SCHEMA_VERSION
    assert choose_schema([today]) == SCHEMA_VERSION
    assert choose_schema([today, read_schemas(None)]) == BEFORE
    assert choose_schema([frozenset({SCHEMA_VERSION, SCHEMA_VERSION + 1})]) == SCHEMA_VERSION
    assert choose_schema([frozenset({SCHEMA_VERSION + 1})]) is None
    assert choose_schema([read_schemas("nonsense")]) is None


@pytest.mark.parametrize(
    ("sample", "path"),
    [
        (Sample(), None),
        (Sample((Item("a"),)), None),
        (Sample((Item("a"), Item("b", "red"))), "items[1].colour"),
        (Sample(mode="new"), "mode"),
    ],
)
def test_a_field_that_a_version_cannot_say_is_found(sample: Sample, path: str | None) -> None:
    assert newer_field(sample, BEFORE) == path
    assert newer_field(sample, SCHEMA_VERSION) is None
