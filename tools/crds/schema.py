"""JSON schema of a pydantic model, rewritten to the structural schema that a CRD needs.

What pydantic emits and Kubernetes refuses is rewritten (references, optional fields, constants) or, where
no faithful form exists, refused with the path, so that nothing is lost in silence.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_DROPPED = frozenset({"title", "$defs"})
_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)
_REWRITTEN = frozenset({"$ref", "anyOf", "const", "properties", "additionalProperties", "items"})


class SchemaError(ValueError):
    """A model says something that a structural schema cannot; names the path."""


def structural_schema(model: type[BaseModel]) -> Schema:
    """Return the structural schema of `model`, everything inlined, keys in a fixed order.

    Raises:
        SchemaError: if the model is recursive or uses a keyword that a CRD cannot have.

    """
    root = model.model_json_schema(by_alias=True, mode="validation")
    return _Rewriter(root.get("$defs", {})).rewrite(root, model.__name__, ())


class _Rewriter:
    """One pass over a schema with its definitions at hand."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def rewrite(self, node: Schema, path: str, parents: tuple[str, ...]) -> Schema:
        """Return `node` as Kubernetes wants it; `parents` are the definitions that it stands in."""
        node, parents = self._resolve(node, path, parents)
        unknown = node.keys() - _DROPPED - _REWRITTEN - set(_KEPT)
        if unknown:
            raise SchemaError(f"{path}: a CRD cannot say {', '.join(sorted(unknown))}: choose another type")
        result = {key: node[key] for key in _KEPT if key in node}
        if "type" not in node and not node.get("x-kubernetes-int-or-string"):
            raise SchemaError(f"{path}: no type: say what may stand here")
        if "default" in result:
            result["default"] = _without_nulls(result["default"])
        if _is_empty(result.get("default", ())):
            result.pop("default", None)
        if "const" in node:
            result["enum"] = [node["const"]]
        if result.get("type") == "integer":
            result.setdefault("format", "int64")
        if result.get("type") == "array":
            result.setdefault("x-kubernetes-list-type", "atomic")
            result["items"] = self.rewrite(node["items"], f"{path}[]", parents)
            if "additionalProperties" in node:  # a list that was a map: see `interlock.api.environments`
                result["additionalProperties"] = self.rewrite(node["additionalProperties"], f"{path}.*", parents)
        if result.get("type") == "object":
            result |= self._members(node, path, parents)
        return _in_order(result)

    def _members(self, node: Schema, path: str, parents: tuple[str, ...]) -> Schema:
        if "properties" in node:  # additionalProperties is refused next to it, and unknown fields are pruned anyway
            members = node["properties"].items()
            return {"properties": {name: self.rewrite(member, f"{path}.{name}", parents) for name, member in members}}
        if node.get("x-kubernetes-preserve-unknown-fields"):
            return {}
        if isinstance(values := node.get("additionalProperties"), dict):
            return {"additionalProperties": self.rewrite(values, f"{path}.*", parents)}
        raise SchemaError(f"{path}: an object without properties: give it fields")

    def _resolve(self, node: Schema, path: str, parents: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """Replace a reference or an optional type by what it stands for, the node's own keywords on top."""
        while "$ref" in node or "anyOf" in node:
            outer = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
            if "$ref" in node:
                name = node["$ref"].rpartition("/")[2]
                if name in parents:
                    raise SchemaError(f"{path}: {name} holds itself: a structural schema cannot be recursive")
                parents = (*parents, name)
                inner = self._definitions[name]
            else:
                choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
                if len(choices) != 1:
                    raise SchemaError(f"{path}: several types at once: make an optional field of each")
                inner = choices[0]
            node = _merged(inner, outer)
        return node, parents


def _merged(inner: Schema, outer: Schema) -> Schema:
    rules = [*inner.get("x-kubernetes-validations", []), *outer.get("x-kubernetes-validations", [])]
    merged = {**inner, **outer}
    return {**merged, "x-kubernetes-validations": rules} if rules else merged


def _without_nulls(value: Any) -> Any:
    """Return a default without absent members: the API server takes no null for them."""
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    return value


def _is_empty(default: Any) -> bool:
    """Return True if a default says no more than absence does."""
    if isinstance(default, dict):
        return all(_is_empty(value) for value in default.values())
    return default is None or default in ("", [], ())


def _in_order(node: Schema) -> Schema:
    order = ("description", "type", *_KEPT[2:], "items", "properties", "additionalProperties")
    return {key: node[key] for key in order if key in node}
