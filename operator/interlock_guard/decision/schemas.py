"""Can a rule ever hold? A rule beside the tool's input schema denies every call, and should say so at once.

Schemas come from servers and are read with care: whatever is not understood could match, so nothing is claimed of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from interlock_guard.bundle.document import ArgumentRule
from interlock_guard.decision.arguments import keeps

_MAX_STEPS: Final = 256
"""Parts of a schema that are looked at; beyond, and in circles, nothing is claimed."""


class _TooMuch(Exception):  # noqa: N818 - ends the look at a schema
    """The schema is larger than what is looked at."""


def unmatchable(rule: ArgumentRule, input_schema: Any) -> str | None:
    """Return why no arguments that the schema allows can keep the rule, None where some may.

    Args:
        rule: One rule of a tool's map.
        input_schema: The tool's `inputSchema` as the server lists it (JSON Schema).
    """
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in rule.pointer.split("/")[1:]]
    try:
        return _Look(rule, input_schema).below(input_schema, tokens)
    except _TooMuch:
        return None


def find_unmatchable(rules: Sequence[ArgumentRule], input_schema: Any) -> tuple[int, str] | None:
    """Return the index of the first rule that can never hold and why, None where every one may."""
    reasons = ((index, unmatchable(rule, input_schema)) for index, rule in enumerate(rules))
    return next(((index, why) for index, why in reasons if why is not None), None)


class _Look:
    """One look at one schema for one rule."""

    def __init__(self, rule: ArgumentRule, root: Any) -> None:
        self._rule, self._root = rule, root
        self._steps = 0

    def below(self, schema: Any, tokens: list[str]) -> str | None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise _TooMuch
        if schema is False:
            return "the schema allows nothing there"
        if not isinstance(schema, Mapping):
            return None
        return self._combined(schema, tokens) or (self._member(schema, tokens) if tokens else self._value(schema))

    def _combined(self, schema: Mapping[str, Any], tokens: list[str]) -> str | None:
        """Ask what the schema refers to: all of `$ref` and `allOf`, and one of `anyOf` and `oneOf`, must allow it."""
        for part in self._all_of(schema):
            if (why := self.below(part, tokens)) is not None:
                return why
        for word in ("anyOf", "oneOf"):
            choices = schema.get(word)
            if isinstance(choices, list) and choices:
                reasons = [self.below(choice, tokens) for choice in choices]
                if all(reason is not None for reason in reasons):
                    return reasons[0]
        return None

    def _all_of(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            yield self._resolve(reference)
        parts = schema.get("allOf")
        if isinstance(parts, list):
            yield from parts

    def _resolve(self, reference: str) -> Any:
        found = self._root
        for token in reference.split("/")[1:]:
            found = found.get(token.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        return found

    def _member(self, schema: Mapping[str, Any], tokens: list[str]) -> str | None:
        token, *rest = tokens
        if _is_typed(schema) and not _allows(schema, "object", "array"):
            return f"the schema has no object around {token!r}"
        if token.isdigit() or not _allows(schema, "object"):
            return None
        properties = schema.get("properties")
        if isinstance(properties, Mapping) and token in properties:
            return self.below(properties[token], rest)
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
        if isinstance(allowed, list) and not any(keeps(self._rule, value) for value in allowed):
            return "none of the values that the schema allows keeps it"
        return self._bounds(schema) if not _allows(schema, "array") else None

    def _bounds(self, schema: Mapping[str, Any]) -> str | None:
        least, longest = schema.get("minimum"), schema.get("maxLength")
        if self._rule.maximum is not None and isinstance(least, int | float) and least > self._rule.maximum:
            return f"the schema allows nothing below {least}"
        shortest = min((len(value) for value in self._rule.enum or (self._rule.prefix or "",)), default=0)
        if self._rule.maximum is None and isinstance(longest, int) and longest < shortest - 1:
            return f"the schema allows no more than {longest} characters"
        return None


def _is_typed(schema: Mapping[str, Any]) -> bool:
    return isinstance(schema.get("type"), str | list)


def _allows(schema: Mapping[str, Any], *types: str) -> bool:
    """Say whether the schema's `type` may be one of these; one without a type allows all."""
    declared = schema.get("type")
    if isinstance(declared, str):
        return declared in types
    return not isinstance(declared, list) or any(name in declared for name in types)
