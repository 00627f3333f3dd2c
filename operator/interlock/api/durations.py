"""Durations that lie between two others, for the API server and for Python."""

from typing import Annotated

from pydantic import AfterValidator, Field

from interlock.api.markers import Rule, cel_sentence, kube
from interlock.api.messages import DRAIN_TIMEOUT_INVALID, HISTORY_AGE_INVALID, format_message, plain, quoted
from interlock.api.shared_types import parse_duration
from interlock.api.text import SELF

_DURATION = r"self.matches(r'^([0-9]{1,5}(h|m|s|ms)){1,4}$')"


def bounded_duration(least: str, most: str, template: str) -> tuple[Rule, AfterValidator]:
    """Return the rule that a duration lies between two others, for the API server and for Python.

    Args:
        least: The shortest duration, such as 1m.
        most: The longest one.
        template: The sentence that refuses another one; `text` in it is what was written.
    """

    def check(text: str) -> str:
        try:
            inside = parse_duration(least) <= parse_duration(text) <= parse_duration(most)
        except ValueError:
            inside = False
        if not inside:
            raise ValueError(format_message(template, text=quoted(text)))
        return text

    bounds = f"duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
    # matches() comes first: a bare duration('7d') prints a conversion error of CEL's own.
    rule = Rule(
        rule=f"{_DURATION} && {bounds}",
        message=plain(template),
        message_expression=cel_sentence(template, text=SELF),
    )
    return rule, AfterValidator(check)


_DRAIN_RULE, _check_drain = bounded_duration("1s", "24h", DRAIN_TIMEOUT_INVALID)
DrainTimeout = Annotated[str, Field(max_length=32, json_schema_extra=kube(_DRAIN_RULE)), _check_drain]
"""How long pods that must go may finish their tasks."""

_AGE_RULE, _check_age = bounded_duration("1h", "87600h", HISTORY_AGE_INVALID)
HistoryAge = Annotated[str, Field(max_length=32, json_schema_extra=kube(_AGE_RULE)), _check_age]
"""How old the revisions of a history become."""
