"""The reference page of pod templates: each field with the switch that allows it, its bounds, and the refusals."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from interlock.api import template_messages
from interlock.api.pod_policy import DEFAULT_FEATURES, PodFeature
from interlock.governance.pod_features import feature_of
from tools.crds.__main__ import build_crd
from tools.crds.kinds import AGENT, MCP_BINDING, CrdKind
from tools.reference.pages import GENERATED, described

ROOT: Final = "spec.template"
SERVER: Final = "spec.server.stdio"
_INTRODUCTION: Final = """
The fields of `spec.template` of an Agent, with the names of a PodSpec. The *switch* is the entry of
[`spec.podTemplate.allow`](../spec/v1alpha1/agentpolicy.md) of the AgentPolicy that allows a field. Without a switch the
field is always allowed. An agent that uses what its policy does not allow has no pods: `Governed` is `False` with
reason `TemplateNotAllowed`. What is not in this table does not exist for an agent: host namespaces and ports,
privileges, init containers, Secrets, tokens of ServiceAccounts, hooks, mount propagation.

If agent and guard have separate pods, `nodeSelector`, `tolerations`, `affinity`, `topologySpreadConstraints` and
`priorityClassName` apply to both pods, and everything else to the agent's pod. Pods of tests of a stage get
`nodeSelector`, `tolerations` and `imagePullSecrets`. The policy's `spec.podTemplate.default` is added in each pod.

[Fields of a revision](revisions.md) says which changes go through the stages.
"""
_SERVERS: Final = """
The fields of `spec.server.stdio` of an MCPBinding have the same switches. A server that asks for what the policy of an
agent does not allow keeps that agent from pods: `ActionsBound` is `False` with reason `TemplateNotAllowed`. If several
policies have rows for the source, the server is verified by the first one, by name, that allows what it asks for.

The guard starts a server and checks that it lives, so a server has no startup and liveness probe of its own. Its group
is Interlock's, because the pipes belong to it. `nodeSelector`, `tolerations` and `imagePullSecrets` apply to the pod
that the server runs in: that of the guard, and that of its verification. They are joined with those of the agent.
"""
_KEYS: Final = """
Programs of a cluster obey labels and annotations of pods: they add containers or Secrets to a pod, run commands in it,
keep it, delete it, or connect it to another network. No list of such keys is complete. So a template sets only keys of
`user.interlock.dev`, such as `user.interlock.dev/team`, which no program obeys unless you tell it to.

Any other key needs an entry in `spec.podTemplate.metadataKeys` of the AgentPolicy: the key itself, such as
`example.com/team`, or all keys of a prefix, as `example.com/*`. Before you add one, find out what obeys it.

One annotation needs no entry: `cluster-autoscaler.kubernetes.io/safe-to-evict`. It keeps the Cluster Autoscaler from
removing the node of the pod, or lets it. In separate pods the guard's pod has it, too. Other keys of `kubernetes.io`,
`k8s.io` and `interlock.dev` are refused. So is a key without a prefix, because Services and NetworkPolicies of others
usually select by such keys.
"""
_LIMITS: Final = {
    "maxLength": "{} characters",
    "maxItems": "{} entries",
    "maxProperties": "{} keys",
    "minimum": "from {}",
    "maximum": "to {}",
}


def pod_template_page() -> str:
    """Return docs/reference/pod-template.md."""
    lines = ["# Pod template", "", GENERATED, "", *_INTRODUCTION.strip().splitlines()]
    lines += ["", "## Switches", "", "| switch | allows | default |", "|---|---|---|"]
    for name, meaning in described(PodFeature):
        is_default = "on" if PodFeature(name) in DEFAULT_FEATURES else "off"
        lines.append(f"| `{name}` | {meaning.removesuffix('.')} | {is_default} |")
    lines += ["", "## Fields of an Agent", "", *_table(AGENT, ROOT)]
    lines += ["", "## Fields of a stdio server", "", *_SERVERS.strip().splitlines(), "", *_table(MCP_BINDING, SERVER)]
    lines += ["", "## Keys of labels and annotations", "", *_KEYS.strip().splitlines()]
    lines += ["", "## Refusals", ""]
    lines += [f"* `{text}`" for text in _messages()]
    return "\n".join(lines) + "\n"


def _table(kind: CrdKind, root: str) -> Iterator[str]:
    yield from ("| field | switch | bounds | meaning |", "|---|---|---|---|")
    for path, field in fields_below(kind, root):
        feature = _switch(path.removeprefix(f"{root}."))
        yield f"| `{path}` | {feature} | {_bounds(field)} | {_cell(field.get('description', ''))} |"


def template_fields() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each field below `spec.template` with its schema, in the order of the types."""
    yield from fields_below(AGENT, ROOT)


def fields_below(kind: CrdKind, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each field below a field of a kind, with its path and schema, in the order of the types."""
    (version,) = build_crd(kind)["spec"]["versions"]
    node = version["schema"]["openAPIV3Schema"]
    for name in path.split("."):
        node = node["properties"][name]
    yield from _below(node, path)


def _below(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, member in node.get("properties", {}).items():
        below = f"{path}.{name}" + ("[]" if member.get("type") == "array" else "")
        yield below, member
        yield from _below(member, below)
        yield from _below(member.get("items", {}), below)


def _switch(path: str) -> str:
    """Return the switch of a field; nothing for one whose members have several."""
    try:
        feature = feature_of(path.removesuffix("[]"))
    except KeyError:
        return ""
    return "" if feature is None else f"`{feature}`"


def _bounds(field: Mapping[str, Any]) -> str:
    found = [", ".join(f"`{one}`" for one in field["enum"])] if "enum" in field else []
    found += [text.format(field[key]) for key, text in _LIMITS.items() if key in field]
    return ", ".join(found)


def _messages() -> Iterator[str]:
    for name, text in vars(template_messages).items():
        if name.isupper() and isinstance(text, str):
            yield re.sub(r"\{([a-z]+)\}", r"<\1>", text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
