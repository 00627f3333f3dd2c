"""Rows of the map of an MCPBinding of which only the name or URI can be read: what they are about is denied.

Such a row must not be left out. What it names would fall under a glob after it, which may permit more:

    delete_contact   delete contacts, with a rule that cannot be read     denied
    *_contact        write contacts                                       holds for all other names
"""

from collections.abc import Mapping
from typing import Any, Final

from interlock.api.binding import MCPBinding

KEYS: Final[Mapping[str, str]] = {"tools": "name", "resources": "uri", "prompts": "name"}
"""The member that names a row, by map."""
UNREAD_TYPE: Final = "interlock-row-that-cannot-be-read"
"""Beginning of the data type of such rows. It is not in the permissions of its binding."""


def deny_row(row: Any, key: str, permissions: Any) -> dict[str, Any] | None:
    """Return a row that denies all that a row is about; None if it has no name, or is such a row already.

    Args:
        row: The row, as the API server gave it.
        key: The member that names it.
        permissions: `spec.permissions` of its binding, likewise.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get(key), str) or _is_unread_type(row.get("resource")):
        return None
    given = permissions.get("delete") if isinstance(permissions, Mapping) else None
    resource = UNREAD_TYPE
    while isinstance(given, list) and resource in given:
        resource += "-x"
    return {key: row[key], "operation": "delete", "resource": resource}


def has_unread_rows(binding: MCPBinding) -> bool:
    """Return True if a row of a binding's map cannot be read. Mode Audit, which denies no call, ends then."""
    spec = binding.spec
    types = [row.resource for row in spec.tools]
    types += [row.resource for row in spec.resources]
    types += [row.resource for row in spec.prompts]
    return any(map(_is_unread_type, types))


def _is_unread_type(resource: Any) -> bool:
    return isinstance(resource, str) and resource.startswith(UNREAD_TYPE)
