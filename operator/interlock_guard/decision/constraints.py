"""The constraints on the arguments of a request: the binding's rules, and what the tool's own schema allows.

Each rule must be satisfied, and a missing argument satisfies none.
"""

# mypy: disable-error-code="explicit-override"
# Python 3.11 has no `override`, and the guard's image has no typing_extensions.

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from interlock_contract.bundle import BundleArgumentRule
from interlock_contract.json_pointer import resolve_pointer, split_pointer
from interlock_contract.paths import traverses_up
from interlock_contract.patterns import compile_pattern

MAX_VALUES: Final = 1024
"""Values that one rule, or one limit of the scope, is checked on."""
MAX_TEXT: Final = 32 * 1024
"""Characters that one rule is checked on."""
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")
_ENDS_IN_HOST: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]+\Z")
"""A prefix that ends inside of a URL's authority, so that the rest of a value could make another host of it."""
_AFTER_HOST: Final = frozenset({"", "/", "?", "#"})
_HIDDEN_STEP: Final = re.compile(r"%(2e|2f|5c|25|00)", re.IGNORECASE)


def find_broken_rule(rules: Sequence[BundleArgumentRule], arguments: Any) -> int | None:
    """Return the index of the first rule that the arguments break, None if they satisfy all.

    A list satisfies a rule if it is not empty and each of its items does: tools take one path or several.
    """
    broken = (
        index for index, rule in enumerate(rules) if not satisfies(rule, resolve_pointer(arguments, rule.pointer))
    )
    return next(broken, None)


def satisfies(rule: BundleArgumentRule, value: Any) -> bool:
    """Return True if the value at a rule's pointer satisfies the rule.

    None and an empty list do not, nor does what takes long to check: more than `MAX_VALUES` values, or texts of more
    than `MAX_TEXT` characters in all.
    """
    values = value if isinstance(value, list) else [value]
    return bool(values) and not is_too_much(value) and all(_item_satisfies(rule, item) for item in values)


def is_too_much(value: Any) -> bool:
    """Return True if a value is longer than what a rule is checked on."""
    values = value if isinstance(value, list) else [value]
    return len(values) > MAX_VALUES or sum(len(item) for item in values if isinstance(item, str)) > MAX_TEXT


def _item_satisfies(rule: BundleArgumentRule, value: Any) -> bool:
    """Return True if one value satisfies a rule: `maximum` wants a number, the others want a string."""
    if rule.maximum is not None:
        # Many servers read a negative number as "no limit".
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= rule.maximum
    if not isinstance(value, str):
        return False
    if rule.enum is not None:
        return value in rule.enum
    if rule.prefix is not None:
        return _begins(value, rule.prefix)
    # `[^/]+` takes in `..`, and the name before a NUL is what many servers open.
    return (
        rule.pattern is not None
        and compile_pattern(rule.pattern).matches(value)
        and "\0" not in value
        and not traverses_up(value)
    )


def describe(rule: BundleArgumentRule) -> str:
    """Return what a rule requires, as the end of a sentence."""
    if rule.maximum is not None:
        return f"must be a number from 0 to {rule.maximum}"
    if rule.enum is not None:
        return f"must be one of {', '.join(rule.enum)}"
    if rule.prefix is not None:
        whole = ", with no other host," if _ENDS_IN_HOST.match(rule.prefix) else ""
        return f"must begin with {rule.prefix!r}{whole} and have no path traversal"
    return f"must match {rule.pattern!r} and have no path traversal"


def _begins(value: str, prefix: str) -> bool:
    """Return True if a value lies below a prefix.

    Examples:
        /data                        lies below `/data/`
        /data/../etc                 does not
        https://a.example/x          lies below `https://a.example`
        https://a.example.evil/x     does not, and neither does https://a.example@evil/
    """
    if traverses_up(value) or _UNPRINTABLE.search(value) is not None or _HIDDEN_STEP.search(value) is not None:
        return False
    if _ENDS_IN_HOST.match(prefix) and value[len(prefix) : len(prefix) + 1] not in _AFTER_HOST:
        return False
    return value.startswith(prefix) or (prefix.endswith("/") and value == prefix[:-1] != "")


_MAX_STEPS: Final = 256
"""Parts of a schema that are read for one rule; of a larger or a recursive one nothing is claimed."""
_MAX_REFERENCE: Final = 1024
_MAX_TYPES: Final = 7
"""Types that JSON Schema has."""


class _SchemaTooLarge(Exception):  # noqa: N818 - ends the walk through a schema
    """The schema takes more work than one call is worth."""


def find_unmatchable(rules: Sequence[BundleArgumentRule], input_schema: Any) -> tuple[int, str] | None:
    """Return the index of the first rule that no arguments can satisfy and why, None where every one may.

    The server writes the schema, and each call walks through it. So the work for one call is bounded.

    Args:
        rules: The rules of a tool's map.
        input_schema: The tool's `inputSchema` as the server lists it (JSON Schema).
    """
    walk = _SchemaWalk(input_schema)
    reasons = ((index, walk.find(rule)) for index, rule in enumerate(rules))
    return next(((index, why) for index, why in reasons if why is not None), None)


def allows_text(pointer: str, text: str, input_schema: Any) -> bool:
    """Return False if a tool's schema surely does not allow this text at a pointer, through objects alone."""
    return _TextWalk(input_schema).find(BundleArgumentRule(pointer, enum=(text,))) is None


class _SchemaWalk:
    """The walks through one schema for the rules of one tool."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._rule: BundleArgumentRule
        self._steps = 0
        self._text = 0  # of all rules together: to check a rule on a character takes up to a microsecond

    def find(self, rule: BundleArgumentRule) -> str | None:
        self._rule, self._steps = rule, 0
        try:
            return self._below(self._root, split_pointer(rule.pointer))
        except _SchemaTooLarge:
            return None

    def _below(self, schema: Any, tokens: list[str]) -> str | None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise _SchemaTooLarge
        if schema is False:
            return "the schema allows nothing there"
        if not isinstance(schema, Mapping):
            return None
        return self._combined(schema, tokens) or (self._member(schema, tokens) if tokens else self._value(schema))

    def _combined(self, schema: Mapping[str, Any], tokens: list[str]) -> str | None:
        """Follow the schema's references: all of `$ref` and `allOf`, and one of `anyOf` and `oneOf`, must allow it."""
        for part in self._all_of(schema):
            if (why := self._below(part, tokens)) is not None:
                return why
        for word in ("anyOf", "oneOf"):
            choices = schema.get(word)
            if isinstance(choices, list) and choices:
                reasons = [self._below(choice, tokens) for choice in choices]
                if all(reason is not None for reason in reasons):
                    return reasons[0]
        return None

    def _all_of(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/") and len(reference) <= _MAX_REFERENCE:
            yield self._resolve(reference)
        parts = schema.get("allOf")
        if isinstance(parts, list):
            yield from parts

    def _resolve(self, reference: str) -> Any:
        found = self._root
        for token in split_pointer(reference):  # "#/$defs/x": what stands before the first slash is left out
            found = found.get(token) if isinstance(found, Mapping) else None
        return found

    def _member(self, schema: Mapping[str, Any], tokens: list[str]) -> str | None:
        token, *rest = tokens
        if _is_typed(schema) and not _allows(schema, "object", "array"):
            return f"the schema has no object around {token!r}"
        if token.isdigit() or not _allows(schema, "object"):
            return None
        properties = schema.get("properties")
        if isinstance(properties, Mapping) and token in properties:
            return self._below(properties[token], rest)
        if schema.get("additionalProperties") is False and not schema.get("patternProperties"):
            return f"the schema has no argument {token!r}"
        return None

    def _value(self, schema: Mapping[str, Any]) -> str | None:
        wanted = ("number", "integer") if self._rule.maximum is not None else ("string",)
        if _is_typed(schema) and not _allows(schema, *wanted):
            if not _allows(schema, "array"):
                return f"the schema allows no {wanted[0]} there"
            items = schema.get("items")
            return self._value(items) if isinstance(items, Mapping) and _is_typed(items) else None
        allowed = [schema["const"]] if "const" in schema else schema.get("enum")
        if (
            isinstance(allowed, list)
            and len(allowed) <= MAX_VALUES
            and not any(self._satisfies(value) for value in allowed)
        ):
            return "none of the values that the schema allows satisfies it"
        return self._bounds(schema) if not _allows(schema, "array") else None

    def _satisfies(self, value: Any) -> bool:
        values = value if isinstance(value, list) else [value]
        self._text += len(values) + sum(len(item) for item in values if isinstance(item, str))
        if self._text > MAX_TEXT:
            raise _SchemaTooLarge
        return satisfies(self._rule, value)

    def _bounds(self, schema: Mapping[str, Any]) -> str | None:
        least, longest = schema.get("minimum"), schema.get("maxLength")
        if self._rule.maximum is not None and isinstance(least, int | float) and least > self._rule.maximum:
            return f"the schema allows nothing below {least}"
        shortest = min((len(value) for value in self._rule.enum or (self._rule.prefix or "",)), default=0)
        if self._rule.maximum is None and isinstance(longest, int) and longest < shortest - 1:
            return f"the schema allows at most {longest} characters"
        return None


def _is_typed(schema: Mapping[str, Any]) -> bool:
    return isinstance(schema.get("type"), str | list)


def _allows(schema: Mapping[str, Any], *types: str) -> bool:
    """Return True if the schema's `type` may be one of these; a schema without a type allows all."""
    declared = schema.get("type")
    if isinstance(declared, str):
        return declared in types
    return not isinstance(declared, list) or len(declared) > _MAX_TYPES or any(name in declared for name in types)


class _TextWalk(_SchemaWalk):
    """The walk for a text that is itself the value, and no item of a list."""

    def _member(self, schema: Mapping[str, Any], tokens: list[str]) -> str | None:
        if _is_typed(schema) and not _allows(schema, "object"):
            return f"the schema has no object around {tokens[0]!r}"
        return super()._member(schema, tokens)

    def _value(self, schema: Mapping[str, Any]) -> str | None:
        if _is_typed(schema) and not _allows(schema, "string"):
            return "the schema allows no string there"
        return super()._value(schema)
