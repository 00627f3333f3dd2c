"""The versions of the bundle's schema: which of them a guard reads, and which one the operator writes for it.

A guard reads the version of its own release and the one before. Its pod says which (`BUNDLE_SCHEMAS`). The operator
writes the newest version that all guards of a placement read, so that an update of the operator, or a way back, changes
nothing for guards that run:

    operator   guards that run   bundle
    4, 5       4                 4        before the update of the guards
    4, 5       4 and 4, 5        4        while their pods are replaced
    4, 5       4, 5              5
    4, 5       5, 6              5        the operator went back by one release
    4, 5       6, 7              5        no guard reads it: they refuse everything until they are replaced

A release that changes the document raises both numbers by one, and marks each new field with `since`.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final, get_args

import msgspec
from msgspec import Meta

from interlock_contract.strict_fields import StrictStruct

SCHEMA_VERSION: Final = 5
"""The version that this release adds. Its documents differ from those of version 4 in the number alone."""
READ_SCHEMAS: Final = (4, SCHEMA_VERSION)
"""The versions that guards of this release read."""
_UNSTATED: Final = frozenset({4})
"""What guards read whose pods do not say it: they are from before version 5."""
_MOST: Final = 8
"""Most versions that a pod's statement may have."""


def since(version: int) -> Meta:
    """Return the mark of a field that a version has added. A document of an earlier version must have its default."""
    return Meta(extra={"since": version})


def write_schemas() -> str:
    """Return what pods with a guard of this release say."""
    return ",".join(map(str, READ_SCHEMAS))


def read_schemas(text: str | None) -> frozenset[int]:
    """Return the versions that a guard reads.

    Args:
        text: What its pod says, None if it says nothing. A text that cannot be read stands for no version.
    """
    if text is None:
        return _UNSTATED
    parts = text.split(",")
    is_list = len(parts) <= _MOST and all(one.isascii() and one.isdigit() and len(one) < _MOST for one in parts)
    return frozenset(map(int, parts)) if is_list else frozenset()


def choose_schema(guards: Iterable[frozenset[int]]) -> int | None:
    """Return the newest version that this release writes and that all guards read; None if there is none.

    Args:
        guards: The versions that each guard reads.
    """
    common = frozenset(READ_SCHEMAS).intersection(*guards)
    return max(common, default=None)


def newer_field(document: StrictStruct, version: int) -> str | None:
    """Return the path of the first field with a value that a version of the schema cannot say; None if there is none.

    An example: `sources[0].mode`.
    """
    if _newest(type(document)) <= version:
        return None
    found = next(_newer_fields(document, version, ""), None)
    return None if found is None else found.removeprefix(".")


def _newer_fields(struct: StrictStruct, version: int, path: str) -> Iterator[str]:
    for field in msgspec.structs.fields(type(struct)):
        value, where = getattr(struct, field.name), f"{path}.{field.encode_name}"
        if _since(field.type) > version and value != _default(field):
            yield where
        else:
            yield from _within(value, version, where)


def _within(value: Any, version: int, path: str) -> Iterator[str]:
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _within(item, version, f"{path}[{index}]")
    elif isinstance(value, StrictStruct):
        yield from _newer_fields(value, version, path)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _since(kind: Any) -> int:
    """Return the version that added a field of this type, 0 if it is older than all that are read."""
    marks = (one.extra for one in getattr(kind, "__metadata__", ()) if isinstance(one, Meta))
    return max((int(mark.get("since", 0)) for mark in marks if isinstance(mark, Mapping)), default=0)


@cache
def _newest(kind: type[StrictStruct]) -> int:
    """Return the newest version that added a field to a struct, or to a struct in it."""
    fields = msgspec.structs.fields(kind)
    return max((max(_since(one.type), *map(_newest, _structs(one.type)), 0) for one in fields), default=0)


def _structs(kind: Any) -> tuple[type[StrictStruct], ...]:
    if isinstance(kind, type) and issubclass(kind, StrictStruct):
        return (kind,)
    return tuple(found for one in get_args(kind) for found in _structs(one))
