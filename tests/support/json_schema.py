"""Validation by the part of JSON Schema that msgspec writes for a strict document: a parser of an earlier release."""

import re
from typing import Any, Final

_TYPES: Final[dict[str, Any]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
}


def is_valid(value: Any, schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    """Return True if a JSON value satisfies a schema.

    Args:
        value: The value.
        schema: The schema. A keyword that msgspec does not write is an error of the test.
        defs: The schemas that `$ref` names.
    """
    words = sorted(schema.keys() - {"$defs"}, key=lambda word: word != "type")  # the others rely on the type
    return all(_KEYWORDS[word](value, schema[word], schema, defs) for word in words)


def _has_type(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _are_properties(value: Any, members: dict[str, Any], _schema: Any, defs: dict[str, Any]) -> bool:
    return all(is_valid(value[name], one, defs) for name, one in members.items() if name in value)


_KEYWORDS: Final[dict[str, Any]] = {
    "$ref": lambda value, name, _schema, defs: is_valid(value, defs[name.removeprefix("#/$defs/")], defs),
    "type": lambda value, kind, _schema, _defs: _has_type(value, kind),
    "enum": lambda value, known, _schema, _defs: value in known and not isinstance(value, bool),
    "anyOf": lambda value, each, _schema, defs: any(is_valid(value, one, defs) for one in each),
    "properties": _are_properties,
    "required": lambda value, names, _schema, _defs: set(names) <= value.keys(),
    "additionalProperties": lambda value, _is_open, schema, _defs: value.keys() <= schema["properties"].keys(),
    "items": lambda value, one, _schema, defs: all(is_valid(item, one, defs) for item in value),
    "minItems": lambda value, least, _schema, _defs: len(value) >= least,
    "maxItems": lambda value, most, _schema, _defs: len(value) <= most,
    "minLength": lambda value, least, _schema, _defs: len(value) >= least,
    "maxLength": lambda value, most, _schema, _defs: len(value) <= most,
    "minimum": lambda value, least, _schema, _defs: value >= least,
    "maximum": lambda value, most, _schema, _defs: value <= most,
    "pattern": lambda value, pattern, _schema, _defs: re.search(pattern, value) is not None,
}
