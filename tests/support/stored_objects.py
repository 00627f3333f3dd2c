"""Hypothesis strategies for objects as an API server may store them.

They have the types and bounds of the CRDs, or those of other versions, in which a field may be missing or of any type.
"""

import copy
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

CRDS = Path(__file__).parents[2] / "crds"
Json = dict[str, Any]
Path_ = tuple[str | int, ...]

_SHALLOW = 2
"""Fields of so many parts are those that everything reads: `spec.bindings`, `status.stage`."""
TIMES = (
    "2026-03-02T08:00:00Z",
    "2026-03-02T08:00:00.123456Z",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00",
)
WORDS = ("", "a", "crm", "triage", "*", "0", "24h", "-1s", "1e400", "SomethingNew", "a.b/c", "é\u202e", "x" * 70, "{}")
QUANTITIES = (0, 1, "100m", "128Mi", "1e3", "x")


@functools.cache
def schema_of(kind: str) -> Json:
    """Return the structural schema of a kind's only version."""
    for file in sorted(CRDS.glob("*.yaml")):
        crd = yaml.safe_load(file.read_text(encoding="utf-8"))
        if crd.get("kind") == "CustomResourceDefinition" and crd["spec"]["names"]["kind"] == kind:
            schema: Json = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            return schema
    raise LookupError(kind)


def fields_of(schema: Json, path: Path_ = ()) -> Iterator[tuple[Path_, Json]]:
    """Yield every field below a schema with its own schema; of lists the first item stands for all."""
    for name, below in schema.get("properties", {}).items():
        yield (*path, name), below
        yield from fields_of(below, (*path, name))
    if "items" in schema:
        yield (*path, 0), schema["items"]
        yield from fields_of(schema["items"], (*path, 0))


def admitted(schema: Json) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one for each type
    """Values of a schema's types and bounds; its CEL rules are not followed."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.sampled_from(QUANTITIES)
    kind = schema.get("type")
    if kind == "string":
        words = TIMES if schema.get("format") == "date-time" else WORDS
        least, most = schema.get("minLength", 0), schema.get("maxLength", 1024)
        return st.sampled_from([word for word in words if least <= len(word) <= most] or ["a" * least])
    if kind == "integer":
        return st.integers(schema.get("minimum", -1), schema.get("maximum", 2**31 - 1))
    if kind == "boolean":
        return st.booleans()
    if kind == "array":
        return st.lists(admitted(schema["items"]), min_size=schema.get("minItems", 0), max_size=3)
    if "additionalProperties" in schema:
        return st.dictionaries(st.sampled_from(WORDS), admitted(schema["additionalProperties"]), max_size=3)
    required = set(schema.get("required", ()))
    members = {name: admitted(below) for name, below in schema.get("properties", {}).items()}
    return st.fixed_dictionaries(
        {name: found for name, found in members.items() if name in required},
        optional={name: found for name, found in members.items() if name not in required},
    )


def retyped(base: Json, *, deep_types: int = 3) -> Iterator[tuple[Path_, Json]]:
    """Yield a valid object once for each of its fields and each of some other types that the field has in it.

    Args:
        base: The valid object.
        deep_types: How many other types a field below the shallow ones has, at most 3. With fewer, neighbours differ.
    """
    others: tuple[Any, ...] = (None, 5, "text", [], [None], [1, [2]], {}, {"name": 5}, [{}])
    for number, (path, _) in enumerate(_below_spec_and_status(base["kind"])):
        of_deep = (others[-3:] * 2)[number % 3 :][:deep_types]
        for value in others if len(path) <= _SHALLOW else of_deep:
            raw = copy.deepcopy(base)
            _put(raw, path, copy.deepcopy(value), is_forced=True)
            yield path, raw


@functools.cache
def _below_spec_and_status(kind: str) -> tuple[tuple[Path_, Json], ...]:
    return tuple((path, below) for path, below in fields_of(schema_of(kind)) if path[0] in ("spec", "status"))


@functools.cache
def _admitted_at(kind: str, path: Path_) -> st.SearchStrategy[Any]:
    """Return the values of a field, built once: a template has hundreds of fields."""
    return admitted(dict(_below_spec_and_status(kind))[path])


def deep(levels: int) -> Any:
    """Return an object of so many levels."""
    value: Any = 1
    for _ in range(levels):
        value = {"f:a": value}
    return value


OTHER_TYPES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -7, 2**70, 1.5, "", "text", [], [None], [1, [2]], ["a", "a"], {}, {"": None}, {"name": 5}, [{}]]
) | st.sampled_from([90, 98]).map(deep)
"""Values that a field of another version may have. The parser cuts what is nested deeper."""


@st.composite
def stored(draw: st.DrawFn, base: Json, *, is_admitted: bool) -> Json:
    """Draw an object that differs from a valid one in some fields.

    Args:
        draw: Hypothesis' own.
        base: The valid object.
        is_admitted: Whether the fields have the types and bounds of the schema; else they may have any.
    """
    raw = copy.deepcopy(base)
    fields = _below_spec_and_status(raw["kind"])
    shallow = [(path, below) for path, below in fields if len(path) <= _SHALLOW]
    chosen = st.sampled_from(shallow) | st.sampled_from(fields)
    for path, _ in draw(st.lists(chosen, min_size=1, max_size=4)):
        found = _admitted_at(raw["kind"], path)
        value = draw(found if is_admitted else OTHER_TYPES | found)
        _put(raw, path, value, is_forced=not is_admitted)
    if not is_admitted:
        for path, _ in draw(st.lists(st.sampled_from(fields), max_size=2)):
            _remove(raw, path)
    raw["metadata"] |= draw(metadata())
    return raw


def metadata() -> st.SearchStrategy[Json]:
    """Parts of metadata that any user may write."""
    texts = st.sampled_from([*WORDS, *TIMES, "[" * 2000, '{"a":' * 2000, "off", "stop"])
    keys = st.sampled_from(
        ["interlock.dev/kill-switch", "interlock.dev/accept-drift", "interlock.dev/needs-review", "x"]
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "labels": st.dictionaries(st.sampled_from(["team", "interlock.dev/agent"]), st.sampled_from(WORDS)),
            "annotations": st.dictionaries(keys, texts),
            "managedFields": st.sampled_from([1, 90]).map(lambda levels: [{"manager": "x", "fieldsV1": deep(levels)}]),
            "finalizers": st.just(["example.com/own"]),
            "ownerReferences": st.just([{"kind": "Agent", "name": "other", "uid": "x", "apiVersion": "v1"}]),
            "generation": st.integers(0, 2**40),
        },
    )


def _put(raw: Json, path: Path_, value: Any, *, is_forced: bool) -> None:
    """Set a field; where what holds it is missing it is made, and nothing is done where it has another type."""
    node: Any = raw
    for part, following in itertools.pairwise(path):
        empty: Any = [] if following == 0 else {}
        if isinstance(node, dict):
            node = node.setdefault(part, empty)
        elif isinstance(node, list):
            if not node:
                node.append(empty)
            node = node[0]
        else:
            return
    last = path[-1]
    if isinstance(node, dict) and isinstance(last, str):
        node[last] = value
    elif isinstance(node, list) and last == 0:
        node[:1] = [value]
    elif is_forced and isinstance(node, list):
        node.append(value)


def _remove(raw: Json, path: Path_) -> None:
    node: Any = raw
    for part in path[:-1]:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and node and part == 0:
            node = node[0]
        else:
            return
    if isinstance(node, dict):
        node.pop(path[-1], None)
