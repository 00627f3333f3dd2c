"""The values of a chart as a flat list: each with its path, type, default and bindings."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tools.charts.bindings import MISSING, Binding, Of, OfObject, ReadBy
from tools.charts.sources import Manifest, SourceError


@dataclass(frozen=True)
class Leaf:
    """A value that is no group.

    Attributes:
        path: Its path in values.yaml, such as `("audit", "keepDays")`.
        field: Its field in the table.
        default: Its default.
        bindings: What it sets. Those of a group count for each of its values.
    """

    path: tuple[str, ...]
    field: FieldInfo
    default: Any
    bindings: tuple[Binding | ReadBy, ...]

    @property
    def name(self) -> str:
        """The path with dots."""
        return ".".join(self.path)

    @property
    def example(self) -> Any:
        """A value that is not the default, None if the table has no example."""
        return self.field.examples[0] if self.field.examples else None


@dataclass(frozen=True)
class Group:
    """A group of values.

    Attributes:
        path: Its path in values.yaml, empty for all values.
        field: Its field in the table, None for all values.
        bindings: What its values set together.
        members: Its values and groups, in their order.
    """

    path: tuple[str, ...]
    field: FieldInfo | None
    bindings: tuple[Binding | ReadBy, ...]
    members: tuple["Leaf | Group", ...]

    def leaves(self) -> Iterator[Leaf]:
        """Yield each value of the group and its groups."""
        for one in self.members:
            yield from one.leaves() if isinstance(one, Group) else (one,)

    def effects(self) -> Iterator[tuple[tuple[str, ...], Binding]]:
        """Yield each binding with the path of its value or group."""
        for one in (self, *self.members):
            if isinstance(one, Group) and one is not self:
                yield from one.effects()
            else:
                own = one.bindings if one is self else one.bindings[len(self.bindings) :]
                yield from ((one.path, binding) for binding in own if isinstance(binding, Binding))


def read_values(model: type[BaseModel], objects: Sequence[Manifest]) -> Group:
    """Return the values of a chart.

    Args:
        model: The table of its values.
        objects: The objects of the chart, which have defaults.

    Raises:
        SourceError: A value has no default, sets nothing, or names no object.
    """
    return _read_group(model, objects, path=(), field=None, target="", given={})


def _read_group(
    model: type[BaseModel],
    objects: Sequence[Manifest],
    *,
    path: tuple[str, ...],
    field: FieldInfo | None,
    target: str,
    given: dict[str, Any],
) -> Group:
    own = () if field is None else tuple(_bindings(field, target, path))
    members: list[Leaf | Group] = []
    for name, member in model.model_fields.items():
        here = (*path, member.alias or name)
        bindings = tuple(_bindings(member, target, here))
        if is_group(member):
            inner = next((one.target for one in member.metadata if isinstance(one, Of)), target)
            found = _default(member, bindings, objects, {}, here) if bindings else {}
            kind: Any = member.annotation
            members.append(_read_group(kind, objects, path=here, field=member, target=inner, given=found))
        elif not (*own, *bindings):
            raise SourceError(f"value {'.'.join(here)} sets nothing")
        else:
            default = _default(member, bindings, objects, given, here)
            members.append(Leaf(here, member, default, (*own, *bindings)))
    return Group(path, field, own, tuple(members))


def is_group(field: FieldInfo) -> bool:
    """Return True for a group whose members are values of their own, False for one that is set as a whole."""
    found = field.annotation
    is_model = isinstance(found, type) and issubclass(found, BaseModel)
    return is_model and field.examples is None


def _bindings(field: FieldInfo, target: str, path: tuple[str, ...]) -> Iterable[Binding | ReadBy]:
    for one in field.metadata:
        if isinstance(one, OfObject) and not one.target:
            if not target:
                raise SourceError(f"value {'.'.join(path)} names no object")
            yield replace(one, target=target)
        elif isinstance(one, Binding | ReadBy):
            yield one


def _default(
    field: FieldInfo,
    bindings: Iterable[Binding | ReadBy],
    objects: Sequence[Manifest],
    given: dict[str, Any],
    path: tuple[str, ...],
) -> Any:
    """Return the default that the table has, or else that of the group, or else that of the manifests."""
    if field.default is not PydanticUndefined:
        return field.default
    if field.alias in given:
        return given[field.alias]
    found: list[Any] = []
    for binding in bindings:
        if isinstance(binding, Binding):
            said = [binding.default(one) for one in objects if binding.applies_to(one)]
            if not said:
                raise SourceError(f"value {'.'.join(path)} sets nothing: no object is one of {binding}")
            found += [one for one in said if one is not MISSING]
    if not found or any(one != found[0] for one in found):
        raise SourceError(f"value {'.'.join(path)} has no default: the manifests say {found}")
    return found[0]
