"""String types of the API: length, pattern, and the message of a refusal."""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field

from interlock.api.markers import Rule, cel_pattern, cel_sentence, kube
from interlock.api.messages import (
    COMMAND_TOO_LARGE,
    CONTENT_HOST_INVALID,
    DOTS_IN_PATH,
    DURATION_INVALID,
    ENVIRONMENT_RESERVED,
    HEADER_INVALID,
    HEADER_OWN,
    HEADER_VALUE_INVALID,
    IMAGE_INVALID,
    MEMBER_INVALID,
    MEMBER_REFUSED,
    MODEL,
    MODEL_GLOB,
    MODEL_GLOB_INVALID,
    MODEL_INVALID,
    MODEL_URL_INVALID,
    MONEY_INVALID,
    NAME,
    NAME_INVALID,
    NO_PROXY_INVALID,
    OWN_PATHS,
    PATH_INVALID,
    PATTERN_INVALID,
    POINTER_INVALID,
    PREFIX_CLIMBS,
    PROMPT_NAME_INVALID,
    PROVIDER_RESERVED,
    PROXY_URL_INVALID,
    RELATIVE_PATH,
    RESOURCE,
    RESOURCE_INVALID,
    TASK_HEADER_INVALID,
    TASK_HEADER_OWN,
    TIME_ZONE_INVALID,
    TIME_ZONE_UNKNOWN,
    TOOL_NAME_INVALID,
    URI_INVALID,
    URL_INVALID,
    VARIABLE,
    VARIABLE_INVALID,
    VARIABLE_RESERVED,
    format_message,
    plain,
    quoted,
)
from interlock_contract import egress_proxy, http_target, model_access
from interlock_contract.budget.ledger_names import TOTAL
from interlock_contract.budget.money import MONEY_PATTERN
from interlock_contract.budget.windows import ZONE_PATTERN, ZoneUnknown, find_zone
from interlock_contract.bundle import TASK_HEADER, TASK_HEADER_RESERVED
from interlock_contract.json_pointer import POINTER
from interlock_contract.patterns import CLIMBING, MAX_PATTERN, PATTERN, URI_GLOB, PatternInvalid, compile_pattern
from interlock_contract.pod import RESERVED_PREFIX

SELF = "'\"' + self + '\"'"
"""CEL: the value itself in quotation marks."""


def text_rule(condition: str, template: str) -> Rule:
    """Return a rule on a string, worded with the string as `{text}`."""
    return Rule(rule=condition, message=plain(template), message_expression=cel_sentence(template, text=SELF))


def _holds(check: Callable[[str], bool], template: str) -> AfterValidator:
    """Make Python refuse what the API server refuses, for text that ends up in names and paths."""

    def validate(text: str) -> str:
        if not check(text):
            raise ValueError(format_message(template, text=quoted(text)))
        return text

    return AfterValidator(validate)


def checked(pattern: str, template: str) -> AfterValidator:
    """Return a check in Python that the whole text matches a pattern which begins with ^ and ends with $."""
    return _holds(lambda text: re.fullmatch(pattern[1:-1], text) is not None, template)


def is_file_path(text: str) -> bool:
    """Whether `text` is a relative path that does not leave its folder."""
    return bool(re.fullmatch(RELATIVE_PATH[1:-1], text)) and not re.search(DOTS_IN_PATH, text)


def is_pattern(text: str) -> bool:
    """Whether the guard can read `text` as a pattern; RE2 lets through what goes backwards, such as [z-a]."""
    try:
        compile_pattern(text)
    except PatternInvalid:
        return False
    return True


COMMAND_FITS = Rule(
    rule="(has(self.command) ? self.command.map(w, size(w)).sum() : 0)"
    " + (has(self.args) ? self.args.map(w, size(w)).sum() : 0)"
    " + (has(self.env) ? self.env.map(v, size(v.name) + (has(v.value) ? size(v.value) : 0)).sum() : 0) <= 32768",
    message=COMMAND_TOO_LARGE,
)
"""A rule on a container: it stays small enough for a spec of some 100 KiB."""

_MATCHES_NAME = f"self.matches({cel_pattern(NAME)})"
_MATCHES_RESOURCE = f"self.matches({cel_pattern(RESOURCE)})"

Name = Annotated[
    str,
    Field(max_length=63, json_schema_extra=kube(text_rule(_MATCHES_NAME, NAME_INVALID))),
    _holds(lambda text: bool(re.fullmatch(NAME[1:-1], text)), NAME_INVALID),
]
"""A source, stage or dimension."""

EnvironmentName = Annotated[
    str,
    Field(
        max_length=63,
        json_schema_extra=kube(
            text_rule(_MATCHES_NAME, NAME_INVALID),
            text_rule(f"self != '{TOTAL}'", ENVIRONMENT_RESERVED),
        ),
    ),
    _holds(lambda text: bool(re.fullmatch(NAME[1:-1], text)), NAME_INVALID),
    _holds(lambda text: text != TOTAL, ENVIRONMENT_RESERVED),
]
"""The environment of a stage: development, staging, production, or one that the AgentPolicy declares."""

Money = Annotated[
    str,
    # Longer than any amount, so that most absurd ones are refused by the rule, whose message says what to write.
    Field(
        max_length=64, json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(MONEY_PATTERN)})", MONEY_INVALID))
    ),
    _holds(lambda text: bool(re.fullmatch(MONEY_PATTERN, text)), MONEY_INVALID),
]
"""US dollars as a decimal string, such as "50" or "0.25", up to 1000000 and in steps of 10^-9."""


def is_time_zone(text: str) -> bool:
    """Whether `text` names a time zone that this machine knows."""
    try:
        find_zone(text)
    except ZoneUnknown:
        return False
    return True


TimeZone = Annotated[
    str,
    Field(
        max_length=64,
        json_schema_extra=kube(
            text_rule(f"self.matches({cel_pattern(f'^{ZONE_PATTERN}$')}) && self != 'Local'", TIME_ZONE_INVALID),
            # The API server says "unknown time zone X evaluating rule: " and the message.
            Rule(rule="timestamp('2000-01-01T00:00:00Z').getHours(self) >= 0", message=TIME_ZONE_UNKNOWN),
        ),
    ),
    _holds(is_time_zone, TIME_ZONE_INVALID),
]
"""The name of a time zone in the IANA database."""

AgentName = Annotated[
    str,
    Field(max_length=52, json_schema_extra=kube(text_rule(_MATCHES_NAME, NAME_INVALID))),
]
"""The name of an Agent; every child's name is made from it."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
"""The name of another object in the same namespace."""

Resource = Annotated[
    str,
    Field(max_length=63, json_schema_extra=kube(text_rule(_MATCHES_RESOURCE, RESOURCE_INVALID))),
]
"""A kind of data inside one source."""

ReadableResource = Annotated[
    str,
    Field(max_length=63, json_schema_extra=kube(text_rule(f"self == '*' || {_MATCHES_RESOURCE}", RESOURCE_INVALID))),
]
"""A kind of data inside one source, or * for all of them."""

ScopeValue = Annotated[str, Field(min_length=1, max_length=63)]
"""A value of a dimension, compared as it stands."""

Duration = Annotated[
    str,
    Field(
        max_length=32,
        json_schema_extra=kube(
            # matches() comes first: a bare duration('7d') prints a conversion error of CEL's own.
            text_rule(
                r"self.matches(r'^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('0s')", DURATION_INVALID
            ),
        ),
    ),
]
"""A duration such as 168h, 90m or 1h30m."""

Image = Annotated[
    str,
    Field(max_length=512, json_schema_extra=kube(text_rule(r"self.matches(r'^[!-~]+$')", IMAGE_INVALID))),
]
"""A container image."""

Argument = Annotated[str, Field(max_length=4096)]
"""One word of a command line."""

FilePath = Annotated[
    str,
    Field(
        max_length=255,
        json_schema_extra=kube(
            text_rule(
                f"self.matches({cel_pattern(RELATIVE_PATH)}) && !self.matches({cel_pattern(DOTS_IN_PATH)})",
                PATH_INVALID,
            ),
        ),
    ),
    _holds(is_file_path, PATH_INVALID),
]
"""A path below INTERLOCK_FILES."""

VariableName = Annotated[
    str,
    Field(
        max_length=256,
        json_schema_extra=kube(
            text_rule(f"self.matches({cel_pattern(VARIABLE)})", VARIABLE_INVALID),
            text_rule(f"!self.startsWith('{RESERVED_PREFIX}')", VARIABLE_RESERVED),
        ),
    ),
    _holds(lambda text: bool(re.fullmatch(VARIABLE[1:-1], text)), VARIABLE_INVALID),
    _holds(lambda text: not text.startswith(RESERVED_PREFIX), VARIABLE_RESERVED),
]
"""The name of an environment variable."""

ServerUrl = Annotated[
    str,
    Field(
        max_length=1024,
        json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(http_target.URL)})", URL_INVALID)),
    ),
    _holds(lambda text: http_target.matches(http_target.URL, text), URL_INVALID),
]
"""The URL of an MCP server."""

ModelUrl = Annotated[
    str,
    Field(
        max_length=1024,
        json_schema_extra=kube(
            text_rule(f"self.matches({cel_pattern(http_target.URL)}) && !self.contains('?')", MODEL_URL_INVALID)
        ),
    ),
    _holds(lambda text: http_target.matches(http_target.URL, text) and "?" not in text, MODEL_URL_INVALID),
]
"""The base URL of a provider of models."""

ProxyUrl = Annotated[
    str,
    Field(
        max_length=253 + 16,
        json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(http_target.PROXY_URL)})", PROXY_URL_INVALID)),
    ),
    _holds(lambda text: http_target.matches(http_target.PROXY_URL, text), PROXY_URL_INVALID),
]
"""The URL of an egress proxy."""

NoProxyHost = Annotated[
    str,
    Field(
        max_length=253,
        json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(egress_proxy.NO_PROXY)})", NO_PROXY_INVALID)),
    ),
    _holds(lambda text: http_target.matches(egress_proxy.NO_PROXY, text), NO_PROXY_INVALID),
]
"""A host or domain that is reached without the egress proxy."""

Provider = Annotated[
    str,
    Field(
        max_length=63,
        json_schema_extra=kube(
            text_rule(_MATCHES_NAME, NAME_INVALID),
            text_rule(f"!(self in {list(OWN_PATHS)})", PROVIDER_RESERVED),
        ),
    ),
    _holds(lambda text: bool(re.fullmatch(NAME[1:-1], text)), NAME_INVALID),
    _holds(lambda text: text not in OWN_PATHS, PROVIDER_RESERVED),
]
"""The name of a provider of models."""

BodyMember = Annotated[
    str,
    Field(
        max_length=63,
        json_schema_extra=kube(
            text_rule(f"self.matches({cel_pattern(model_access.MEMBER)})", MEMBER_INVALID),
            text_rule(f"!(self in {list(model_access.NEVER_MEMBERS)})", MEMBER_REFUSED),
        ),
    ),
    _holds(lambda text: http_target.matches(model_access.MEMBER, text), MEMBER_INVALID),
    _holds(lambda text: text not in model_access.NEVER_MEMBERS, MEMBER_REFUSED),
]
"""A member of a body for a model, or a value of a beta header."""

ContentHost = Annotated[
    str,
    Field(
        max_length=253,
        json_schema_extra=kube(
            text_rule(f"self.matches({cel_pattern(model_access.CONTENT_HOST)})", CONTENT_HOST_INVALID)
        ),
    ),
    _holds(lambda text: http_target.matches(model_access.CONTENT_HOST, text), CONTENT_HOST_INVALID),
]
"""A host from which a provider of models may load content."""

ModelName = Annotated[
    str,
    Field(max_length=192, json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(MODEL)})", MODEL_INVALID))),
    _holds(lambda text: bool(re.fullmatch(MODEL[1:-1], text)), MODEL_INVALID),
]
"""A model, as provider/model."""

ModelGlob = Annotated[
    str,
    Field(
        max_length=192,
        json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(MODEL_GLOB)})", MODEL_GLOB_INVALID)),
    ),
    _holds(lambda text: bool(re.fullmatch(MODEL_GLOB[1:-1], text)), MODEL_GLOB_INVALID),
]
"""Models, as provider/model, where * at the end is whatever follows."""

HeaderName = Annotated[
    str,
    Field(
        max_length=128,
        json_schema_extra=kube(
            text_rule(f"self.matches({cel_pattern(http_target.HEADER_NAME)})", HEADER_INVALID),
            text_rule(f"!self.matches({cel_pattern(http_target.HEADER_RESERVED)})", HEADER_OWN),
        ),
    ),
    _holds(lambda text: http_target.matches(http_target.HEADER_NAME, text), HEADER_INVALID),
    _holds(lambda text: not http_target.matches(http_target.HEADER_RESERVED, text), HEADER_OWN),
]
"""The name of an HTTP header that a binding may set."""

TaskHeader = Annotated[
    str,
    Field(
        max_length=128,
        json_schema_extra=kube(
            text_rule(f"self.matches({cel_pattern(TASK_HEADER)})", TASK_HEADER_INVALID),
            text_rule(f"!self.matches({cel_pattern(TASK_HEADER_RESERVED)})", TASK_HEADER_OWN),
        ),
    ),
    _holds(lambda text: http_target.matches(TASK_HEADER, text), TASK_HEADER_INVALID),
    _holds(lambda text: not http_target.matches(TASK_HEADER_RESERVED, text), TASK_HEADER_OWN),
]
"""The name of an HTTP header in which tasks name values of a dimension."""

HeaderValue = Annotated[
    str,
    Field(
        max_length=4096,
        json_schema_extra=kube(
            Rule(rule=f"self.matches({cel_pattern(http_target.HEADER_VALUE)})", message=HEADER_VALUE_INVALID)
        ),
    ),
    _holds(lambda text: http_target.matches(http_target.HEADER_VALUE, text), HEADER_VALUE_INVALID),
]
"""The value of an HTTP header."""

Pointer = Annotated[
    str,
    Field(max_length=256, json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(POINTER)})", POINTER_INVALID))),
]
"""An RFC 6901 pointer into the arguments of a call."""

ToolName = Annotated[
    str,
    Field(max_length=128, json_schema_extra=kube(text_rule(r"self.matches(r'^[!-~]+$')", TOOL_NAME_INVALID))),
]
"""The name of a tool, or a glob of names."""

PromptName = Annotated[
    str,
    Field(max_length=128, json_schema_extra=kube(text_rule(r"self.matches(r'^[!-~]+$')", PROMPT_NAME_INVALID))),
]
"""The name of a prompt, or a glob of names."""

ResourceUri = Annotated[
    str,
    Field(
        max_length=256,
        json_schema_extra=kube(
            text_rule(
                f"self.matches({cel_pattern(URI_GLOB)}) && !self.matches({cel_pattern(CLIMBING)})",
                URI_INVALID,
            ),
        ),
    ),
    _holds(lambda text: bool(re.fullmatch(URI_GLOB[1:-1], text)) and not re.search(CLIMBING, text), URI_INVALID),
]
"""The URI of a resource, or a glob of URIs."""

ArgumentPrefix = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        json_schema_extra=kube(text_rule(f"!self.matches({cel_pattern(CLIMBING)})", PREFIX_CLIMBS)),
    ),
]
"""What an argument must begin with."""

ArgumentPattern = Annotated[
    str,
    Field(
        max_length=MAX_PATTERN,
        json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(PATTERN)})", PATTERN_INVALID)),
    ),
    _holds(is_pattern, PATTERN_INVALID),
]
"""A pattern of the subset that is matched in linear time; see `interlock_contract.patterns`."""

ArgumentValue = Annotated[str, Field(min_length=1, max_length=256)]
"""A value of an argument, compared as it stands."""

LabelValue = Annotated[str, Field(max_length=63)]
"""The value of a label."""
