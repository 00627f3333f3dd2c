"""The way out where a ResourceQuota or a LimitRange of the namespace refuses pods, by the API server's own words.

    pods "a-6c" is forbidden: exceeded quota: small, requested: limits.cpu=1, used: limits.cpu=1, limited: limits.cpu=1
    pods "a-6c" is forbidden: failed quota: small: must specify limits.cpu for: agent
    pods "a-6c" is forbidden: maximum cpu usage per Container is 500m, but limit is 1

The words name a ResourceQuota, and no LimitRange.
"""

import re
from typing import Final

_NAME = r"([a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)"
_EXCEEDED: Final = re.compile(rf"\bis forbidden: .{{0,64}}?\bexceeded quota: {_NAME}, requested: ")
_UNSTATED: Final = re.compile(rf"\bis forbidden: .{{0,64}}?\bfailed quota: {_NAME}: must specify ")
_LIMIT_RANGE: Final = re.compile(
    r"\bis forbidden: \[?(?:(?:minimum|maximum) \S{1,64} usage|\S{1,64} max limit to request ratio)"
    r" per (?:Container|Pod) is "
)
_STATED: Final = "spec.template.resources of the Agent, spec.server.stdio.resources of MCPBindings"


def find_way_out(message: str, namespace: str) -> str:
    """Return which object refuses a pod and what to do; empty where the message is no such refusal.

    Args:
        message: Of the API server, as the condition of a Deployment or an Event has it.
        namespace: The namespace of the pod.
    """
    if found := _EXCEEDED.search(message):
        return (
            f"ResourceQuota {found[1]} has no room for the pod: raise it, or lower replicas, {_STATED} or "
            f"spec.podTemplate.guardResources of the AgentPolicy; run: kubectl -n {namespace} describe "
            f"resourcequotas {found[1]}"
        )
    if found := _UNSTATED.search(message):
        return (
            f"ResourceQuota {found[1]} needs amounts that containers of the pod do not state: state them in {_STATED} "
            "or spec.resources of the AgentPolicy, or add a LimitRange with defaults"
        )
    if _LIMIT_RANGE.search(message):
        return (
            f"a LimitRange of namespace {namespace} does not allow what a container of the pod states: change it, or "
            f"state other amounts in {_STATED} or spec.podTemplate.guardResources of the AgentPolicy; "
            f"run: kubectl -n {namespace} describe limitranges"
        )
    return ""
