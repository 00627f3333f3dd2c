"""The part of an object that this version can read, without fields whose values the revisions that run have themselves.

The API server does not check every rule, and an earlier version may have stored what this one refuses. Such an object
begins nothing new. But a revision that runs keeps the values of fields of class Staged, so it needs none of today's:

    what cannot be read                             class        what runs
    Agent.spec.template.volumes                     Staged       its own volumes
    Agent.spec.template.affinity                    Immediate    what its Deployment has, see `kept_scheduling`
    AgentPolicy.spec.environments[].dailyBudget     Immediate    nothing: no one knows what holds today
    MCPBinding.spec.tools[].arguments               Narrower     nothing: no one knows what is denied today

The classes are those of `field_classes`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import ApiModel
from interlock.deployment.field_classes import KINDS, child_path, classes_at, inner_type
from interlock.deployment.field_groups import FieldClass

Readable = Agent | AgentPolicy | MCPBinding
_TYPES: Final[Mapping[str, type[Readable]]] = {"Agent": Agent, "AgentPolicy": AgentPolicy, "MCPBinding": MCPBinding}
_GOVERNING: Final = "Agent.spec.policyRef"
"""It is of class Staged, and names what governs all revisions today."""
_OF_PODS: Final = ("Agent.spec.template.", "MCPBinding.spec.server.stdio.", "AgentPolicy.spec.podTemplate.default.")
"""Below these, fields of class Immediate say where pods run. They have the names that they have in a pod."""
_WITHOUT_EFFECT: Final = ("MCPBinding.spec.verify", "AgentPolicy.spec.podTemplate.guardResources")
"""What agents do not depend on: a verification, and amounts for which the installation has others."""
_MOST_ATTEMPTS: Final = 8
"""Rules on several fields are checked only once each of the fields can be read."""

Location = tuple[int | str, ...]
"""Where a value is in the JSON of an object."""


class ReadablePart(NamedTuple):
    """What can be read of an object.

    Attributes:
        found: The object without some fields, which have their defaults.
        left_out: The paths of these fields in the table of classes, such as `Agent.spec.template.affinity`.
    """

    found: Readable
    left_out: frozenset[str]


def read_part(kind: str, raw: Mapping[str, Any], error: ValidationError) -> ReadablePart | None:
    """Return what can be read of an object; None if what runs depends on a field that cannot be.

    Args:
        kind: Agent, AgentPolicy or MCPBinding.
        raw: The object, without its status.
        error: Why it cannot be read as a whole.
    """
    left_out: set[str] = set()
    for _ in range(_MOST_ATTEMPTS):
        places = {tuple(one["loc"]) for one in error.errors(include_url=False, include_input=False)}
        for place in sorted(places, key=str):
            fields = tuple(_fields_to_leave_out(kind, raw, place))
            if not fields:
                return None
            for field, path in fields:
                raw = _without(raw, field)
                left_out.add(path)
        try:
            return ReadablePart(_TYPES[kind].model_validate(raw), frozenset(left_out))
        except ValidationError as found:
            error = found
    return None


def kept_pod_members(left_out: Iterable[str]) -> frozenset[str]:
    """Return the members of a pod's spec that depend on fields which were left out, such as `affinity`."""
    return frozenset(path.rpartition(".")[2].removesuffix("[]") for path in left_out if _says_where_pods_run(path))


def _fields_to_leave_out(kind: str, raw: Mapping[str, Any], place: Location) -> Iterator[tuple[Location, str]]:
    """Yield the fields without which a value may be readable, each with its path in the table of classes.

    That is the outermost field around the value that may be left out. If a rule on a whole part is broken, it is each
    such field of the part.
    """
    if len(place) <= 1 or place[0] != "spec":
        return
    model, path = KINDS[kind], f"{kind}.spec"
    for index, name in enumerate(place[1:], start=1):
        if isinstance(name, int):
            continue
        member = _member(model, name)
        if member is None:
            return
        path = child_path(path, model, member)
        if _may_be_left_out(path) and not model.model_fields[member].is_required():
            yield place[: index + 1], path
            return
        inner = inner_type(model.model_fields[member].annotation)[0]
        if not (isinstance(inner, type) and issubclass(inner, ApiModel)):
            return
        model = inner
    given = _value_at(raw, place)
    for member, field in model.model_fields.items():
        below, name = child_path(path, model, member), field.alias or member
        if name in given and not field.is_required() and classes_at(below) == {FieldClass.STAGED}:
            yield (*place, name), below


def _member(model: type[ApiModel], alias: str) -> str | None:
    return next((name for name, field in model.model_fields.items() if alias in (field.alias, name)), None)


def _may_be_left_out(path: str) -> bool:
    if path == _GOVERNING:
        return False
    return classes_at(path) == {FieldClass.STAGED} or path in _WITHOUT_EFFECT or _says_where_pods_run(path)


def _says_where_pods_run(path: str) -> bool:
    return path.startswith(_OF_PODS) and classes_at(path) == {FieldClass.IMMEDIATE}


def _value_at(raw: Any, place: Location) -> Mapping[str, Any]:
    """Return the object at a place, an empty one if it is missing or something else."""
    for name in place:
        if isinstance(name, int):
            raw = raw[name] if isinstance(raw, list) else None
        else:
            raw = raw.get(name) if isinstance(raw, Mapping) else None
    return raw if isinstance(raw, Mapping) else {}


def _without(raw: Any, place: Location) -> Any:
    """Return an object without the member at a place. One that is not there is left out already."""
    name, *below = place
    if isinstance(raw, list) and isinstance(name, int):
        return [_without(one, tuple(below)) if index == name else one for index, one in enumerate(raw)]
    if not isinstance(raw, Mapping) or name not in raw:
        return raw
    if not below:
        return {key: value for key, value in raw.items() if key != name}
    return {**raw, name: _without(raw[str(name)], tuple(below))}
