"""The part of an object that this version can read, without fields whose values the revisions that run have themselves.

The API server does not check every rule, and an earlier version may have stored what this one refuses. Such an object
begins nothing new. But a revision that runs keeps the values of fields of class Staged, so it needs none of today's:

    what cannot be read                             class        what runs
    Agent.spec.template.volumes                     Staged       its own volumes
    Agent.spec.template.affinity                    Immediate    what its Deployment has, see `kept_members`
    AgentPolicy.spec.podTemplate.guardResources     Immediate    what its Deployment has, see `kept_members`
    MCPBinding.spec.tools[].arguments               Narrower     all but this tool, which is denied, see `unread_rows`
    AgentPolicy.spec.environments[].dailyBudget     Immediate    nothing: no one knows what holds today
    AgentPolicy.spec.dataAccess[].read              Narrower     nothing: no one knows what is granted today

The classes are those of `field_classes`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from interlock.action.unread_rows import KEYS, deny_row
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
GUARD_RESOURCES: Final = "AgentPolicy.spec.podTemplate.guardResources"
"""What Interlock's own containers request, and their limits."""
_WITHOUT_EFFECT: Final = ("MCPBinding.spec.verify", GUARD_RESOURCES)
"""What agents that run do not depend on: a verification, and amounts that their Deployments have."""
_MOST_ATTEMPTS: Final = 8
"""Rules on several fields are checked only once each of the fields can be read."""

Location = tuple[int | str, ...]
"""Where a value is in the JSON of an object."""


class ReadablePart(NamedTuple):
    """What can be read of an object.

    Attributes:
        found: The object without some fields, which have their defaults.
        left_out: The paths of these fields in the table of classes, such as `Agent.spec.template.affinity`.
        denied: The rows of a map that deny what they are about, such as `tools[get_contact]`.
    """

    found: Readable
    left_out: frozenset[str] = frozenset()
    denied: tuple[str, ...] = ()


def read_part(kind: str, raw: Mapping[str, Any], error: ValidationError) -> ReadablePart | None:
    """Return what can be read of an object; None if what runs depends on a field that cannot be.

    Args:
        kind: Agent, AgentPolicy or MCPBinding.
        raw: The object, without its status.
        error: Why it cannot be read as a whole.
    """
    left_out: set[str] = set()
    denied: dict[str, None] = {}
    for _ in range(_MOST_ATTEMPTS):
        places = {tuple(one["loc"]) for one in error.errors(include_url=False, include_input=False)}
        rows = {place[:_OF_A_ROW] for place in places if _is_in_row(kind, place)}
        for place in sorted(rows, key=str):
            denied_row = _denied_row(raw, place)
            if denied_row is None:
                return None
            raw, name = denied_row
            denied[name] = None
        for place in sorted((one for one in places if one[:_OF_A_ROW] not in rows), key=str):
            fields = tuple(_fields_to_leave_out(kind, raw, place))
            if not fields:
                return None
            for field, path in fields:
                raw = _without(raw, field)
                left_out.add(path)
        try:
            return ReadablePart(_TYPES[kind].model_validate(raw), frozenset(left_out), tuple(denied))
        except ValidationError as found:
            error = found
    return None


def kept_pod_members(left_out: Iterable[str]) -> frozenset[str]:
    """Return the members of a pod's spec that depend on fields which were left out, such as `affinity`."""
    return frozenset(path.rpartition(".")[2].removesuffix("[]") for path in left_out if _says_where_pods_run(path))


_OF_A_ROW: Final = 3
"""The length of the place of a row: `spec`, the map and the number of the row."""


def _is_in_row(kind: str, place: Location) -> bool:
    """Return True for the place of a row in a map of an MCPBinding, or of a value below it."""
    is_row = len(place) >= _OF_A_ROW and place[0] == "spec" and isinstance(place[2], int)
    return kind == "MCPBinding" and is_row and place[1] in KEYS


def _denied_row(raw: Mapping[str, Any], place: Location) -> tuple[Mapping[str, Any], str] | None:
    """Return an MCPBinding whose row at a place denies what it is about, and the name of the row.

    None if what it is about cannot be read either: then no one knows what must be denied.
    """
    spec, (_, member, number) = raw["spec"], place
    rows, key = spec[member], KEYS[str(member)]
    row = deny_row(rows[number], key, spec.get("permissions"))
    if row is None:
        return None
    changed = [row if index == number else one for index, one in enumerate(rows)]
    return {**raw, "spec": {**spec, str(member): changed}}, f"{member}[{row[key]}]"


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
