"""Mutants of admission policies: each clause of an expression removed, as a policy that warns where this matters.

A mutant is compared with its policy by the API server itself. A validation that holds where both decide alike warns
where they do not, so all mutants are installed at once, and each request is sent once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]
_MACRO: Final = re.compile(r"\.(?:all|exists)\(")
_SECOND_NAME: Final = re.compile(r"\s*[a-z]\w*\s*,")
"""The second variable of a macro with two, up to the comma before its body."""
_STRINGS: Final = re.compile(r"\[\s*'[^']*'(?:\s*,\s*'[^']*')+\s*\]")
_STRING: Final = re.compile(r"'[^']*'")
_PER_POLICY: Final = 8
"""Mutants in one policy, whose cost the API server limits as a whole."""


@dataclass(frozen=True)
class Mutant:
    """A policy without one clause.

    Attributes:
        policy: The name of the policy.
        where: The expression: `validation 1`, `condition reserved` or `variable isRestart`.
        clause: The text that was replaced.
        by: What replaces it.
        text: The whole expression with the replacement.
    """

    policy: str
    where: str
    clause: str
    by: str
    text: str

    def __str__(self) -> str:
        return f"{self.policy}: {self.where}: {' '.join(self.clause.split())} -> {self.by or 'nothing'}"


def mutants_of(policy: Json) -> list[Mutant]:
    """Return a mutant for each validation, each operand of its operators, and each string of its lists."""
    spec, name = policy["spec"], policy["metadata"]["name"].removesuffix(".interlock.dev")
    places = [(f"validation {number}", one["expression"]) for number, one in enumerate(spec["validations"])]
    places += [(f"condition {one['name']}", one["expression"]) for one in spec.get("matchConditions", ())]
    places += [(f"variable {one['name']}", one["expression"]) for one in spec.get("variables", ())]
    found: dict[str, Mutant] = {}
    for where, text in places:
        is_whole_removed = not where.startswith("variable ") and text not in ("true", "false")
        changes = [(0, len(text), "true")] if is_whole_removed else []
        for start, end, by in (*changes, *_changes(text, 0, len(text))):
            mutated = text[:start] + by + text[end:]
            found.setdefault(f"{where} {mutated}", Mutant(name, where, text[start:end], by, mutated))
    return list(found.values())


def _changes(text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """Yield the spans of a boolean expression's clauses, with what takes each one out."""
    start, end = _trimmed(text, start, end)
    branches = _ternary(text, start, end)
    if branches is not None:
        condition, *results = branches
        yield from ((*condition, "true"), (*condition, "false"))
        yield from _changes(text, *condition)
        for branch in results:
            if _is_boolean(text[slice(*branch)]):
                yield from ((*branch, "true"), (*branch, "false"))
            yield from _changes(text, *branch)
        return
    for operator, neutral in (("||", "false"), ("&&", "true")):
        operands = _split(text, start, end, operator)
        if len(operands) > 1:
            for operand in operands:
                yield (*operand, neutral)
                yield from _changes(text, *operand)
            return
    yield from _inside(text, start, end)


def _inside(text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """Yield the changes in an expression without operators: in parentheses, bodies of macros, and lists of strings."""
    if text[start] == "!":
        start, end = _trimmed(text, start + 1, end)
    if text[start] == "(" and _closing(text, start) == end - 1:
        yield from _changes(text, start + 1, end - 1)
        return
    for macro in _MACRO.finditer(text, start, end):
        closing = _closing(text, macro.end() - 1)
        body = text.find(",", macro.end())
        second = _SECOND_NAME.match(text, body + 1)
        body = second.end() - 1 if second else body
        if 0 < body < closing:
            yield from _changes(text, body + 1, closing)
    for strings in _STRINGS.finditer(text, start, end):
        for one in _STRING.finditer(text, *strings.span()):
            after = re.compile(r"\s*,\s*").match(text, one.end())
            before = re.compile(r",\s*$").search(text, strings.start(), one.start())
            yield (
                (one.start(), after.end(), "") if after else (before.start() if before else one.start(), one.end(), "")
            )


def _is_boolean(text: str) -> bool:
    text = text.strip()
    is_flag = re.fullmatch(r"!?variables\.(is|keeps)\w+", text) is not None
    is_choice = _ternary(text, 0, len(text)) is not None
    is_joined = any(text[at] == "+" for at in _outer(text, 0, len(text)))
    return not (is_choice or is_joined) and (
        is_flag or any(one in text for one in ("&&", "||", " == ", " != ", ".exists(", ".all(", ".allowed()"))
    )


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _unquoted(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the positions outside of strings, each with how many brackets are open behind it."""
    depth, quote, position = 0, "", start
    while position < end:
        character = text[position]
        if quote:
            position += character == "\\"
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
            yield position, depth
        position += 1


def _outer(text: str, start: int, end: int) -> Iterator[int]:
    """Yield the positions outside of brackets and strings."""
    return (at for at, depth in _unquoted(text, start, end) if depth == 0 and text[at] not in ")]}")


def _closing(text: str, opening: int) -> int:
    """Return the position of the bracket that closes the one at `opening`."""
    closing = next((at for at, depth in _unquoted(text, opening, len(text)) if depth == 0), None)
    if closing is None:
        raise ValueError(f"no bracket closes the one at {opening}: {text}")
    return closing


def _split(text: str, start: int, end: int, operator: str) -> list[tuple[int, int]]:
    cuts = [position for position in _outer(text, start, end) if text.startswith(operator, position)]
    edges = [start, *(edge for cut in cuts for edge in (cut, cut + 2)), end]
    return [_trimmed(text, *pair) for pair in zip(edges[::2], edges[1::2], strict=True)]


def _ternary(text: str, start: int, end: int) -> tuple[tuple[int, int], ...] | None:
    """Return the spans of condition and results, None where there is no `? :` outside of brackets."""
    outer = list(_outer(text, start, end))
    marks = [at for at in outer if text[at] == ":" or (text[at] == "?" and text[at - 1] != ".")]
    if not marks:
        return None
    depth = 0
    for mark in marks:
        depth += 1 if text[mark] == "?" else -1
        if depth == 0:
            spans = ((start, marks[0]), (marks[0] + 1, mark), (mark + 1, end))
            return tuple(_trimmed(text, *span) for span in spans)
    raise ValueError(f"a ternary without an end: {text[start:end]}")


def comparing(policy: Json, binding: Json, mutants: list[Mutant], label: str) -> list[Json]:
    """Return policies and bindings that warn with a mutant's number where it decides otherwise than its policy.

    Args:
        policy: The policy.
        binding: Its binding.
        mutants: Its mutants.
        label: How their names begin. A short one, since the API server sends at most 4096 characters of warnings.
    """
    made: list[Json] = []
    for first in range(0, len(mutants), _PER_POLICY):
        name = f"{label}-{first}"
        # The original decision is a variable, so that its cost counts once.
        original = {"name": "original", "expression": _allows(policy, None, "")[1]}
        variables, validations = [*policy["spec"].get("variables", ()), original], []
        for number in range(first, min(first + _PER_POLICY, len(mutants))):
            more, mutated = _allows(policy, mutants[number], f"_{number}")
            variables += more
            # The number is in the text too, which is the message where the expression is an error.
            expression = f"'#{number}' != '' && variables.original == ({mutated})"
            validations.append({"expression": expression, "message": f"#{number}"})
        spec = {name: value for name, value in policy["spec"].items() if name != "matchConditions"}
        spec |= {"validations": validations, "variables": variables}
        bound = {**binding["spec"], "policyName": name, "validationActions": ["Warn"]}
        for one, content in ((policy, spec), (binding, bound)):
            made.append(
                {"apiVersion": one["apiVersion"], "kind": one["kind"], "metadata": {"name": name}, "spec": content}
            )
    return made


def _allows(policy: Json, mutant: Mutant | None, suffix: str) -> tuple[list[Json], str]:
    """Return the variables that a mutant needs in addition, and the expression of what it admits."""
    spec = policy["spec"]
    renamed: set[str] = set()
    variables = []

    def text_of(where: str, text: str) -> str:
        text = mutant.text if mutant is not None and mutant.where == where else text
        return re.sub(r"variables\.(\w+)", lambda one: one[0] + (suffix if one[1] in renamed else ""), text)

    for one in spec.get("variables", ()):
        text = text_of(f"variable {one['name']}", one["expression"])
        if text != one["expression"]:
            renamed.add(one["name"])
            variables.append({"name": one["name"] + suffix, "expression": text})
    conditions = [text_of(f"condition {one['name']}", one["expression"]) for one in spec.get("matchConditions", ())]
    validations = [text_of(f"validation {number}", one["expression"]) for number, one in enumerate(spec["validations"])]
    matched = " && ".join(f"({one})" for one in conditions) or "true"
    return variables, f"!({matched}) || ({' && '.join(f'({one})' for one in validations)})"
