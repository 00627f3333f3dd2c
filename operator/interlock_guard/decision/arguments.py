"""What a tool's map demands of the arguments of a call: each rule must hold, and what is missing holds nothing."""

import re
from collections.abc import Sequence
from typing import Any, Final

from interlock_guard.bundle.document import ArgumentRule
from interlock_guard.bundle.patterns import compile_pattern
from interlock_guard.decision.mapping import climbs
from interlock_guard.decision.scope import resolve_pointer

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")
_HIDDEN_STEP: Final = re.compile(r"%(2e|2f|5c|25|00)", re.IGNORECASE)


def find_broken_rule(rules: Sequence[ArgumentRule], arguments: Any) -> int | None:
    """Return the index of the first rule that the arguments break, None when they keep all.

    A list keeps a rule if it has something in it and all of that keeps the rule: tools take one path or several.
    """
    broken = (index for index, rule in enumerate(rules) if not keeps(rule, resolve_pointer(arguments, rule.pointer)))
    return next(broken, None)


def keeps(rule: ArgumentRule, value: Any) -> bool:
    """Say whether what stands at the rule's pointer keeps it; nothing, and a list with nothing in it, do not."""
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(_holds(rule, item) for item in values)


def _holds(rule: ArgumentRule, value: Any) -> bool:
    """Say whether one value keeps a rule: `maximum` wants a number, the others want a string."""
    if rule.maximum is not None:
        # Less than nothing is how many servers spell "no limit".
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= rule.maximum
    if not isinstance(value, str):
        return False
    if rule.enum is not None:
        return value in rule.enum
    if rule.prefix is not None:
        return _begins(value, rule.prefix)
    return rule.pattern is not None and compile_pattern(rule.pattern).matches(value)


def describe(rule: ArgumentRule) -> str:
    """Return what a rule demands, as the end of a sentence."""
    if rule.maximum is not None:
        return f"must be a number from 0 to {rule.maximum}"
    if rule.enum is not None:
        return f"must be one of {', '.join(rule.enum)}"
    if rule.prefix is not None:
        return f"must begin with {rule.prefix!r} and climb nowhere"
    return f"must match {rule.pattern!r}"


def _begins(value: str, prefix: str) -> bool:
    """Say whether a value lies below a prefix; `/data/` holds `/data` as well, and neither holds `/data/../etc`."""
    if climbs(value) or _UNPRINTABLE.search(value) is not None or _HIDDEN_STEP.search(value) is not None:
        return False
    return value.startswith(prefix) or (prefix.endswith("/") and value == prefix[:-1] != "")
