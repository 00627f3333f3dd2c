"""Kube-API-style lint of the CRDs: what reviewers of Kubernetes APIs ask for, and traps of our own.

See the API conventions of Kubernetes (sig-architecture) for the former.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

BOOLEANS: Mapping[str, str] = {
    "MCPBinding.spec.prompts[].scope[].inject": "as of tools",
    "MCPBinding.spec.tools[].scope[].inject": "a value that is there is never replaced",
    "Agent.spec.template.volumeMounts[].readOnly": "as in a PodSpec",
    "Agent.spec.template.volumes[].persistentVolumeClaim.readOnly": "as in a PodSpec",
    "MCPBinding.spec.server.stdio.volumeMounts[].readOnly": "as in a PodSpec",
    "AgentPolicy.spec.rollout.requireLimitedScope": "a requirement exists or not; the durations hold the degrees",
    "Agent.status.rollout.wasReady": "it was Ready or was not; since when it is, has a field of its own",
    "Agent.status.rollout.approved[].isVouched": "the API server wrote the name or did not",
    "Agent.status.rollout.approved[].mayOverrideGates": "the user holds the right or does not",
    **dict.fromkeys(
        (
            f"{container}.{reference}.optional"
            for container in ("Agent.spec.template", "MCPBinding.spec.server.stdio")
            for reference in (
                "env[].valueFrom.configMapKeyRef",
                "envFrom[].configMapRef",
                "volumes[].configMap",
                "volumes[].projected.sources[].configMap",
            )
        ),
        "Kubernetes' own: something may be missing or not",
    ),
}
"""Fields that may be boolean, each with the reason why it can never need a third value."""

MAX_CRD_BYTES = 160 * 1024
"""Of JSON: a client-side apply copies a CRD into an annotation, and all annotations have 256 KiB."""

_FIELD_NAME = re.compile(r"[a-z][a-zA-Z0-9]*")
_COLUMN_NAME = re.compile(r"[A-Z][A-Za-z]*(-[A-Z][A-Za-z]*)*")
_METADATA = frozenset({"apiVersion", "kind", "metadata"})


def lint_crds(crds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one sentence for everything in `crds` that should not be so."""
    names = [name for crd in crds for name in crd["spec"]["names"].get("shortNames", [])]
    twice = sorted({name for name in names if names.count(name) > 1})
    return [f"short name {name} is used twice" for name in twice] + [line for crd in crds for line in lint_crd(crd)]


def lint_crd(crd: Mapping[str, Any]) -> list[str]:
    """Return one sentence for everything in `crd` that should not be so."""
    kind = crd["spec"]["names"]["kind"]
    findings = [] if crd["spec"]["names"].get("categories") else [f"{kind}: no category"]
    for version in crd["spec"]["versions"]:
        root = version["schema"]["openAPIV3Schema"]
        findings += _lint_version(kind, version, root)
        findings += [finding for path, node in _walk(kind, root) for finding in _lint_field(path, node)]
    return findings


def _lint_version(kind: str, version: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[str]:
    if root.get("x-kubernetes-validations"):
        yield f"{kind}: a rule at the root is not ratcheted and would refuse the kill annotation"
    if "spec" not in root.get("required", []):
        yield f"{kind}: spec is not required"
    if ("status" in root["properties"]) != ("status" in version.get("subresources", {})):
        yield f"{kind}: a status needs the status subresource, and the subresource a status"
    for column in version.get("additionalPrinterColumns", []):
        if not _COLUMN_NAME.fullmatch(column["name"]):
            yield f"{kind}: column {column['name']} is not written like Min-Staging"
        if not column.get("description"):
            yield f"{kind}: column {column['name']} has no description"


def _walk(path: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every field below the root with its path; those that all of Kubernetes has are left out."""
    is_root = "." not in path
    for name, member in node.get("properties", {}).items():
        if is_root and name in _METADATA:
            continue
        yield f"{path}.{name}", member
        yield from _walk(f"{path}.{name}", member)
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(member := node.get(key), dict):
            yield f"{path}{suffix}", member
            yield from _walk(f"{path}{suffix}", member)


def _lint_field(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    name = path.rpartition(".")[2]
    is_element = name.endswith(("[]", "*"))
    if not is_element and not _FIELD_NAME.fullmatch(name):
        yield f"{path}: the name is not camelCase"
    if name == "phase":
        yield f"{path}: conditions say more than a phase"
    if not is_element and not node.get("description"):
        yield f"{path}: no description"
    # The API server bounds neither the size nor the depth of a field that takes any JSON.
    if "x-kubernetes-preserve-unknown-fields" in node or node.get("nullable"):
        yield f"{path}: say what may stand here"
    yield from _lint_type(path, node)
    yield from _lint_rules(path, node)


def _lint_type(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    kind = "int-or-string" if node.get("x-kubernetes-int-or-string") else node.get("type")
    if kind in {"string", "int-or-string"}:
        if "maxLength" not in node and "enum" not in node and node.get("format") != "date-time":
            yield f"{path}: a string without maxLength"
    elif kind == "integer":
        if "minimum" not in node or "format" not in node:
            yield f"{path}: an integer without minimum and format"
    elif kind == "boolean":
        if path not in BOOLEANS:
            yield f"{path}: a boolean can never get a third value: make it an enum, or write the reason into BOOLEANS"
    elif kind == "array":
        yield from _lint_list(path, node)
    elif kind == "object":
        yield from _lint_map(path, node)
    else:
        yield f"{path}: type {kind} has no exact form: use a string or an integer"


def _lint_map(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    values = node.get("additionalProperties")
    if values is not None and values.get("type") == "object":
        yield f"{path}: a map of objects: make it a list with a key"
    if values is not None and "maxProperties" not in node:
        yield f"{path}: a map without maxProperties"


def _lint_list(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    list_type, item = node.get("x-kubernetes-list-type"), node["items"]
    if "maxItems" not in node:
        yield f"{path}: a list without maxItems"
    if list_type == "set":
        yield f"{path}: a second field manager would widen a set in silence: make it atomic"
    elif list_type not in {"atomic", "map"}:
        yield f"{path}: a list without x-kubernetes-list-type"
    missing = set(node.get("x-kubernetes-list-map-keys", [])) - set(item.get("required", []))
    if missing:
        yield f"{path}: key {', '.join(sorted(missing))} is not required"
    if path.endswith(".conditions") and node.get("x-kubernetes-list-map-keys") != ["type"]:
        yield f"{path}: conditions are a map with key type"


def _lint_rules(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    for rule in node.get("x-kubernetes-validations", []):
        if not rule.get("message"):
            yield f"{path}: a rule without a message prints CEL to the user"
        if re.search(r"\boldSelf\b", rule["rule"]):
            yield f"{path}: a rule with oldSelf is not ratcheted and would refuse the kill annotation"
