"""The rules by which genai-prices finds a model, as names and one regular expression: what the operator can read."""

import re
from typing import Any

from genai_prices import types


class RuleUnknown(ValueError):  # noqa: N818 - says what the compiler cannot read
    """A rule is of a kind that this compiler does not know."""


def names_and_pattern(match: Any) -> tuple[tuple[str, ...], str | None]:
    """Return the whole names of a rule, in lower case, and a regular expression for the rest of it.

    Args:
        match: A clause of genai-prices. It matches names in lower case, and compares without regard to case.

    Raises:
        RuleUnknown: The clause is of an unknown kind.
    """
    alternatives = match.or_ if isinstance(match, types.ClauseOr) else [match]
    names = [clause.equals.lower() for clause in alternatives if isinstance(clause, types.ClauseEquals)]
    rest = [_pattern(clause) for clause in alternatives if not isinstance(clause, types.ClauseEquals)]
    return tuple(dict.fromkeys(names)), "|".join(rest) or None


def _pattern(clause: Any) -> str:
    """Return a regular expression that is found in exactly the names that a clause matches."""
    match clause:
        case types.ClauseEquals():
            pattern = rf"\A{re.escape(clause.equals.lower())}\Z"
        case types.ClauseStartsWith():
            pattern = rf"\A{re.escape(clause.starts_with.lower())}"
        case types.ClauseEndsWith():
            pattern = rf"{re.escape(clause.ends_with.lower())}\Z"
        case types.ClauseContains():
            pattern = re.escape(clause.contains.lower())
        case types.ClauseRegex():
            pattern = f"(?:{clause.regex})"
        case types.ClauseOr():
            pattern = f"(?:{'|'.join(map(_pattern, clause.or_))})"
        case types.ClauseAnd():
            pattern = rf"\A{''.join(f'(?=(?s:.*?)(?:{_pattern(part)}))' for part in clause.and_)}"
        case _:
            raise RuleUnknown(f"{type(clause).__name__} is no known rule")
    return pattern
