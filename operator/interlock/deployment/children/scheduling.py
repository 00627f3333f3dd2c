"""Where a placement's pods run, and with which Secrets the kubelet pulls their images."""

from collections.abc import Mapping
from typing import Any, Final

from interlock.api.pod_policy import PodDefaults
from interlock.api.pod_template import Template
from interlock.api.scheduling import Affinity, TopologySpreadConstraint
from interlock.api.stdio_server import StdioServer
from interlock.deployment.children.user_volumes import dump_part
from interlock.deployment.names import GUARD_POD, selector
from interlock.deployment.placement import Placement
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.names import AGENT_LABEL, APP_COMPONENT_LABEL

SCHEDULING_MEMBERS: Final = (
    "affinity",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "tolerations",
    "topologySpreadConstraints",
)
"""The members of a pod's spec that take effect immediately, in Deployments of all revisions."""


def scheduling_digest(pod: Mapping[str, Any]) -> str:
    """Return the SHA-256 in hex of where a pod runs.

    A Deployment has it as an annotation. Members that a live Deployment has in addition are no drift, since webhooks
    may add some. So without the annotation, one that is removed from a template would stay.

    Args:
        pod: The pod's spec.
    """
    return digest_of(canonicalize({name: pod[name] for name in SCHEDULING_MEMBERS if name in pod}))


def build_scheduling(placement: Placement, component: str) -> dict[str, Any]:
    """Return where the pods of a component run: as the agent's template says, and the policy's defaults.

    A separate guard runs where its agent may run: both are useless without the other one.

    Args:
        placement: The placement.
        component: Its pods.
    """
    template = placement.agent.spec.template
    found: dict[str, Any] = {
        "affinity": None if template.affinity is None else _build_affinity(placement, component, template.affinity),
        "topologySpreadConstraints": [
            _build_spread(placement, component, one) for one in template.topology_spread_constraints
        ],
        "priorityClassName": template.priority_class_name,
    }
    servers = stdio_servers(placement) if component == GUARD_POD or not placement.is_separate else ()
    nodes = build_node_choice(placement.policy.spec.pod_template.default, template, *servers)
    return nodes | {name: value for name, value in found.items() if value}


def stdio_servers(placement: Placement) -> tuple[StdioServer, ...]:
    """Return the stdio servers of a placement, which run in its guards' pods."""
    found = (bound.binding.spec.server.stdio for bound in placement.sources)
    return tuple(one for one in found if one is not None)


def build_node_choice(defaults: PodDefaults, *templates: Template | StdioServer) -> dict[str, Any]:
    """Return the nodes on which a pod may run, whose containers have these templates.

    Labels of nodes that contradict each other are refused before. Those of the policy count in any case.
    """
    selectors = (*(one.node_selector for one in templates), defaults.node_selector)
    tolerations = (*defaults.tolerations, *(toleration for one in templates for toleration in one.tolerations))
    found = {
        "nodeSelector": {key: value for selector in selectors for key, value in selector.items()},
        "tolerations": [dump_part(one) for one in dict.fromkeys(tolerations)],
    }
    return {name: value for name, value in found.items() if value}


def build_pull_secrets(
    installed: tuple[str, ...], defaults: PodDefaults, *templates: Template | StdioServer
) -> dict[str, Any]:
    """Return the Secrets with which the kubelet pulls the images of a pod whose containers have these templates.

    Args:
        installed: The names of those of the installation, which each pod gets.
        defaults: The policy's, which each pod gets.
        templates: The templates.
    """
    secrets = (*defaults.image_pull_secrets, *(one for template in templates for one in template.image_pull_secrets))
    found = dict.fromkeys((*installed, *(one.name for one in secrets)))
    return {"imagePullSecrets": [{"name": name} for name in found]} if found else {}


def _build_affinity(placement: Placement, component: str, affinity: Affinity) -> dict[str, Any]:
    """Return an affinity in which required anti-affinity is that to the agent's own pods of the same component.

    Kubernetes applies it both ways: pods that a required term selects are kept away from these pods too. So an agent
    could otherwise keep the pods of others off its nodes.
    """
    found = dump_part(affinity)
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    own = {AGENT_LABEL: placement.agent.metadata.name, APP_COMPONENT_LABEL: component}
    for term in found.get("podAntiAffinity", {}).get(required, ()):
        selected = term.get("labelSelector", {})
        term["labelSelector"] = {**selected, "matchLabels": {**selected.get("matchLabels", {}), **own}}
    return found


def _build_spread(placement: Placement, component: str, constraint: TopologySpreadConstraint) -> dict[str, Any]:
    found = dump_part(constraint)
    if constraint.label_selector is None:
        own = selector(placement, component)
        found["labelSelector"] = {"matchLabels": own}
        # Kubernetes refuses keys that the selector has too. They have the values of the pod there already.
        keys = [key for key in found.pop("matchLabelKeys", ()) if key not in own]
        found |= {"matchLabelKeys": keys} if keys else {}
    return found
