"""The markers of API fields for the CRDs: CEL rules, list types, defaults and formats, next to their fields."""

from dataclasses import dataclass
from typing import Any

from pydantic.config import JsonDict


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One CEL rule that the API server checks.

    `message_expression` is worded with the value; the API server falls back to `message` when it
    yields a line break, so both are needed.
    """

    rule: str
    message: str
    message_expression: str | None = None
    field_path: str | None = None

    def to_kubernetes(self) -> JsonDict:
        """Return the entry of `x-kubernetes-validations`."""
        entry: JsonDict = {"rule": self.rule, "message": self.message}
        if self.message_expression is not None:
            entry["messageExpression"] = self.message_expression
        if self.field_path is not None:
            entry["fieldPath"] = self.field_path
        return entry


def kube(*rules: Rule, keys: tuple[str, ...] = (), **keywords: Any) -> JsonDict:
    """Return what pydantic adds to the schema of a field or class.

    Args:
        rules: CEL rules on the value.
        keys: makes a list of objects a map with these keys: unique, and merged by server-side apply.
        keywords: schema keywords as they stand, such as `default` or `format`.

    """
    extra: JsonDict = dict(keywords)
    if rules:
        extra["x-kubernetes-validations"] = [rule.to_kubernetes() for rule in rules]
    if keys:
        extra["x-kubernetes-list-type"] = "map"
        extra["x-kubernetes-list-map-keys"] = list(keys)
    return extra


def one_of(*members: str, message: str) -> Rule:
    """Return a rule on an object: exactly one of its members is set.

    Args:
        members: Their names in Kubernetes.
        message: What is refused, and what to write.
    """
    given = ", ".join(f"has(self.{member})" for member in members)
    return Rule(rule=f"[{given}].filter(is_set, is_set).size() == 1", message=message)


def cel_text(text: str) -> str:
    """Return `text` as a CEL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def cel_pattern(pattern: str) -> str:
    """Return a regular expression, valid in RE2 and Python, as a raw CEL literal.

    Raises:
        ValueError: if it holds a double quote, which a raw literal cannot.

    """
    if '"' in pattern:
        raise ValueError(f"{pattern!r} holds a double quote")
    return f'r"{pattern}"'


def cel_sentence(template: str, **parts: str) -> str:
    """Return a CEL expression for `template`, in which `{name}` stands for the CEL expression `parts[name]`."""
    pieces = [template]
    for name, expression in parts.items():
        marker = "{" + name + "}"
        split: list[str] = []
        for piece in pieces:
            first, *others = piece.split(marker) if not piece.startswith("\0") else [piece]
            split.append(first)
            for other in others:
                split += ["\0" + expression, other]
        pieces = split
    return " + ".join(piece[1:] if piece.startswith("\0") else cel_text(piece) for piece in pieces if piece)
