"""NetworkPolicies of users, judged by whether they open the network that one of ours closes.

NetworkPolicies add up: the operator's policy closes nothing that another one opens for the same pods.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from interlock.deployment.names import Manifest

_ANY_VALUE: Final = ("topology.kubernetes.io/", "pod-template-hash")
"""Beginnings of the other keys of labels that pods of ours have, with values that differ by pod."""
_OF_TEMPLATES: Final = re.compile(r"(?!([^/]*\.)?(kubernetes|k8s)\.io/)[^/]+/")
"""The beginning of a key that the template of an agent may set now or later, and of those of Interlock."""


def gives_egress(found: Manifest, closed: Manifest) -> bool:
    """Return True if a NetworkPolicy gives egress to pods that one of ours closes.

    Args:
        found: A NetworkPolicy of a user.
        closed: The manifest of ours. Its labels, and those that it selects by, are the labels of its pods.
    """
    spec = found.get("spec") or {}
    pods = {**closed["metadata"]["labels"], **closed["spec"]["podSelector"]["matchLabels"]}
    return bool(spec.get("egress")) and _can_select(spec.get("podSelector") or {}, pods)


def _can_select(selector: Mapping[str, Any], pods: Mapping[str, str]) -> bool:
    labels: Mapping[str, str] = selector.get("matchLabels") or {}
    return all(_meets(pods, key, "In", (value,)) for key, value in labels.items()) and all(
        _meets(pods, one["key"], one["operator"], one.get("values") or ())
        for one in selector.get("matchExpressions") or ()
    )


def _meets(pods: Mapping[str, str], key: str, operator: str, values: Any) -> bool:
    """Return True if a pod of ours can meet one requirement."""
    if key not in pods:
        return operator in ("NotIn", "DoesNotExist") or key.startswith(_ANY_VALUE) or bool(_OF_TEMPLATES.match(key))
    if operator in ("In", "NotIn"):
        return (pods[key] in values) == (operator == "In")
    return operator == "Exists"
