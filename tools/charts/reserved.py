"""The keys that the manifests have where values add to a map or a list: Helm refuses a value that repeats one.

Kubernetes would take the last of two variables or labels with the same name, or refuse the whole object. A Deployment
whose pods have another label `app.kubernetes.io/name` selects none of them.
"""

from collections.abc import Sequence
from typing import Any

from tools.charts.bindings import AddsEntries, AddsVariable, Appends
from tools.charts.leaves import Group, Leaf
from tools.charts.sources import Manifest


def reserved_keys(leaf: Leaf, values: Group, objects: Sequence[Manifest]) -> frozenset[str]:
    """Return the keys that a value may not have: those of the manifests, and variables that other values set."""
    found: set[str] = set()
    for binding in leaf.bindings:
        if not isinstance(binding, AddsEntries | Appends):
            continue
        for manifest in filter(binding.applies_to, objects):
            found |= binding.taken(manifest)
            found |= {
                other.name
                for one in values.leaves()
                for other in one.bindings
                if isinstance(other, AddsVariable) and other.path == binding.path and other.applies_to(manifest)
            }
    return frozenset(found)


def refuse_reserved_keys(schema: dict[str, Any], values: Group, objects: Sequence[Manifest]) -> None:
    """Put the keys into the schema of values that may not have them.

    Args:
        schema: The schema of all values, which is changed.
        values: The values of the chart.
        objects: The objects of the chart.
    """
    for leaf in values.leaves():
        keys = reserved_keys(leaf, values, objects)
        if not keys:
            continue
        node = node_of(schema, leaf.path)
        appended = next((one for one in leaf.bindings if isinstance(one, Appends)), None)
        if appended is None:  # not by propertyNames, of which Helm names the wrong value in its message
            node["properties"] = dict.fromkeys(sorted(keys), False)
        else:
            refused = {"not": {"enum": sorted(keys)}}
            node["items"] = {"allOf": [node["items"], {"properties": {appended.key: refused}}]}


def node_of(schema: dict[str, Any], path: Sequence[str], *, own: bool = False) -> dict[str, Any]:
    """Return the schema of a value. Groups are in `$defs`, each with a name of its own.

    Args:
        schema: The schema of all values.
        path: The value.
        own: Return the schema of the group itself, and not the reference to it.
    """
    node = schema
    for step in path:
        node = _resolved(schema, node)["properties"][step]
    return _resolved(schema, node) if own else node


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    name = str(node.get("$ref", "")).rpartition("/")[2]
    found: dict[str, Any] = schema["$defs"][name] if name else node
    return found
