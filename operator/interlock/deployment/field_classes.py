"""The class of each field of Agent, AgentPolicy and MCPBinding: what a change of it does to an agent that runs.

A field without a class would take effect in a way that no one chose. So the table in `field_groups` names each field by
itself, or all that is below a field of Kubernetes' own by one name that ends in `.*`. A test and
`python -m tools.reference --check` compare it with the types, and docs/reference/revisions.md is printed from it. What
is compared and merged (`content`, `effective`) follows the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from interlock.api.agent import AgentSpec
from interlock.api.binding import MCPBindingSpec
from interlock.api.policy import AgentPolicySpec
from interlock.api.shared_types import ApiModel
from interlock.deployment.field_groups import GROUPS, FieldClass

KINDS: Final[dict[str, type[ApiModel]]] = {
    "Agent": AgentSpec,
    "AgentPolicy": AgentPolicySpec,
    "MCPBinding": MCPBindingSpec,
}
"""The type of `spec` of each kind that a revision is made of."""


@dataclass(frozen=True)
class FieldRule:
    """The class of a field.

    Attributes:
        field_class: The class.
        effect: One sentence for users: what a change does.
    """

    field_class: FieldClass
    effect: str


def _spread() -> Iterator[tuple[str, FieldRule]]:
    for field_class, effect, text in GROUPS:
        root, *paths = text.split()
        for path in paths:
            yield f"{root}.{path}", FieldRule(field_class, effect)


FIELDS: Final[dict[str, FieldRule]] = dict(_spread())
"""The rule of each field by its path, such as `MCPBinding.spec.tools[].name`, or `Agent.spec.template.affinity.*`."""


def inner_type(annotation: Any) -> tuple[Any, bool]:
    """Return the type that a field's annotation wraps, and whether the field is a list of it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return inner_type(arguments[0])
    if origin in (Union, UnionType):
        return inner_type(next(one for one in arguments if one is not type(None)))
    if origin is tuple:
        return inner_type(arguments[0])[0], True
    return annotation, False


@cache
def child_path(path: str, model: type[ApiModel], name: str) -> str:
    """Return the path of a member of a type, with `[]` at its end if it is a list of types of their own."""
    field = model.model_fields[name]
    inner, is_list = inner_type(field.annotation)
    return f"{path}.{field.alias or name}{'[]' if is_list and _is_model(inner) else ''}"


def field_paths(kind: str) -> tuple[str, ...]:
    """Return the paths of all fields of a kind's spec that hold no further fields, in the order of the types.

    Those below a field that the table names as a whole are one path, which ends in `.*`.
    """
    return tuple(_leaves(KINDS[kind], f"{kind}.spec"))


def _leaves(model: type[ApiModel], path: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = inner_type(field.annotation)[0]
        below = child_path(path, model, name)
        if f"{below}.*" in FIELDS:
            yield f"{below}.*"
        elif _is_model(inner):
            yield from _leaves(inner, below)
        else:
            yield below


def _is_model(inner: Any) -> bool:
    return isinstance(inner, type) and issubclass(inner, ApiModel)


def table_faults() -> tuple[str, ...]:
    """Return what is wrong with the table: fields without a class, classes without a field, and fields named twice."""
    known = [path for kind in KINDS for path in field_paths(kind)]
    named = [path for path, _ in _spread()]
    return (
        *(f"{path} has no class: add it to a group of FIELDS" for path in known if path not in FIELDS),
        *(f"{path} has a class, and is no field" for path in FIELDS if path not in known),
        *(f"{path} has two classes" for path in FIELDS if named.count(path) > 1),
    )


@cache
def classes_at(path: str) -> frozenset[FieldClass]:
    """Return the classes of a field, or of all fields below it."""
    beginnings = (f"{path}.", f"{path}[")
    return frozenset(
        rule.field_class for known, rule in FIELDS.items() if known == path or known.startswith(beginnings)
    )
