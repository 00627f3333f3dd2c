"""Names, labels and owners of all child objects of Agents, AgentPolicies and MCPBindings.

Every name is short enough for a label (63 characters), and a name that would be longer ends in a digest of itself. No
two owners share a name: each form of name has a prefix or suffix of its own, around the whole name of its owner. A name
that was cut has just the greatest length, and no other name has that. So no user can choose another owner's cut name.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.environments import Isolation
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import ObjectMeta
from interlock.deployment.placement import Placement
from interlock_contract.bundle import BUNDLE_KEY
from interlock_contract.names import (
    AGENT_ACCOUNT_SUFFIX,
    AGENT_LABEL,
    API_VERSION,
    APP_COMPONENT_LABEL,
    APP_INSTANCE_LABEL,
    APP_MANAGED_BY_LABEL,
    APP_NAME,
    APP_NAME_LABEL,
    APP_PART_OF_LABEL,
    BINDING_LABEL,
    ENDPOINT,
    ENDPOINT_LABEL,
    GUARD_ACCOUNT_SUFFIX,
    GUARD_LABEL,
    ISOLATION_LABEL,
    MANAGED_BY,
    NOTIFIER_ACCOUNT_SUFFIX,
    PART_OF,
    PLACEMENT_DIGEST,
    POLICY_LABEL,
    REVISION_LABEL,
    STAGE_LABEL,
    TEST_ACCOUNT_SUFFIX,
)

LABEL_LENGTH = 63
WORKLOAD_LENGTH = 48
"""Longest name of the workload of a binding or policy: the names of pods are made from it."""
_WHOLE_AGENT = 54
AGENT_POD, GUARD_POD = "agent", "guard"
"""Values of the component label on pods: the agent's pod (with the guard, if they share one) and the guard's own."""
POD_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""The annotation by which a ReplicaSet's controller chooses among pods that are alike: the lowest number goes first."""
DELETED_FIRST = "-1000"
"""The cost of a pod that must go before others, which have 0."""
BUNDLE = "bundle"
"""Value of the component label on the ConfigMap with the bundle of a placement."""
STAGE_TEST = "test"
"""Value of the component label on everything of a stage's tests."""
VERIFICATION = "verification"
"""Value of the component label on everything that verifies a binding."""
NOTIFIER = "notifier"
"""Value of the component label on everything that belongs to the notifier of a policy."""


def placement_digest(agent: ObjectMeta, stage: str, revision: str) -> str:
    """Return the SHA-256 in hex that tells a placement from all others."""
    text = json.dumps([agent.namespace, agent.name, agent.uid, stage, revision])
    return hashlib.sha256(text.encode()).hexdigest()


def placement_name(agent: ObjectMeta, stage: str, revision: str, collisions: int) -> str:
    """Return `<agent>-<10 hexadecimal digits>`, at most 63 characters for agents of 52.

    Args:
        agent: The agent.
        stage: Its stage.
        revision: Its revision.
        collisions: How many of the names with smaller numbers are those of another placement.
    """
    text = f"{placement_digest(agent, stage, revision)}/{collisions}"
    return f"{agent.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def name_of(placement: Placement) -> str:
    """Return the name that a placement's own objects share: bundle, Lease, the guard's Role, a shared Deployment."""
    return placement_name(placement.agent.metadata, placement.stage.name, placement.revision, placement.collisions)


def workload_names(base: str, isolation: Isolation) -> tuple[str, ...]:
    """Return the names of a placement's Deployments: one for both, or the agent's and the guard's.

    Args:
        base: The placement's name.
        isolation: Whether agent and guard share a pod.
    """
    if isolation == "Shared":
        return (base,)
    return _label(f"{base}-agent", _WHOLE_AGENT), _label(f"{base}-guard", _WHOLE_AGENT)


def agent_workload(placement: Placement) -> str:
    """Return the name of the Deployment that the agent runs in, and of its NetworkPolicy."""
    return workload_names(name_of(placement), placement.isolation)[0]


def guard_workload(placement: Placement) -> str:
    """Return the name of the Deployment that the guard runs in, and of its NetworkPolicy."""
    return workload_names(name_of(placement), placement.isolation)[-1]


def closed_policy(agent: Agent) -> str:
    """Return the name of the NetworkPolicy that closes every separate pod of the agent."""
    return f"{agent.metadata.name}-closed"


def guard_account(placement: Placement) -> str:
    """Return the name of the ServiceAccount of a placement's guards, from which others read the agent's name."""
    return f"{name_of(placement)}{GUARD_ACCOUNT_SUFFIX}"


def agent_account(placement: Placement) -> str:
    """Return the name of the ServiceAccount of a placement's separate agent pods, which has no rights.

    A kill finds the pods by it, too.
    """
    return f"{name_of(placement)}{AGENT_ACCOUNT_SUFFIX}"


def stage_test_account(placement: Placement) -> str:
    """Return the name of the ServiceAccount of a placement's tests, which has no rights, and of their NetworkPolicy.

    A kill finds their pods by it, too.
    """
    return f"{name_of(placement)}{TEST_ACCOUNT_SUFFIX}"


def stage_test_job(agent: ObjectMeta, stage: str, revision: str, number: int, test: str) -> str:
    """Return the name of the Job of one test, which runs once for each number of a revision in a stage.

    Args:
        agent: The agent.
        stage: The stage that is tested.
        revision: The revision that is tested.
        number: The number of the revision.
        test: Name of the test.
    """
    text = json.dumps([placement_digest(agent, stage, revision), number, test])
    return f"{agent.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def public_service(agent: Agent) -> str:
    """Return the name of the agent's public Service."""
    return f"guard-{agent.metadata.name}"


def stage_service(agent: Agent, stage: str) -> str:
    """Return the name of the Service of one stage, `guard-<agent>--<stage>`.

    No agent's name has two dashes in a row, so the first two tell where it ends: `guard-a-b` would be the public
    Service of an agent `a-b`, too. An agent from before that rule gets a digest, as a long name does.

    Args:
        agent: The agent.
        stage: The name of the stage.
    """
    name = f"{public_service(agent)}--{stage}"
    if "--" not in agent.metadata.name and len(name) < LABEL_LENGTH:
        return name
    digest = hashlib.sha256(json.dumps([agent.metadata.name, stage]).encode()).hexdigest()
    return f"{name[:30]}-{digest}"[:LABEL_LENGTH]


def task_service(placement: Placement) -> str:
    """Return the name of the Service through which the guards of other placements pass tasks on to this one."""
    return _label(f"tasks-{name_of(placement)}")


def guard_service(placement: Placement) -> str:
    """Return the name of the Service through which a separate agent pod reaches its guard.

    Names of Services begin with a letter (RFC 1035), which an agent's name need not, so all of them have a prefix.
    """
    return _label(f"mcp-{name_of(placement)}")


def agent_service(placement: Placement) -> str:
    """Return the name of the headless Service through which a separate guard pod reaches its agent."""
    return _label(f"agent-{name_of(placement)}")


def agent_config(placement: Placement) -> str:
    """Return the name of the ConfigMap that the agent's container mounts."""
    return f"{name_of(placement)}-files"


def config_map_copy(base: str, kept: Iterable[str], source: str) -> str:
    """Return the name of a copy of a ConfigMap: that of its placement or verification, and `-mapa` to `-mapp`.

    The letter is the place of the ConfigMap among those that are kept, so it stays as long as the placement exists. For
    any other ConfigMap it is the name of no object, and no pod starts.

    Args:
        base: The name of the placement, or of the Job of a verification.
        kept: The names of the ConfigMaps that the revision or the verification keeps.
        source: The name of the ConfigMap that the user refers to.
    """
    names = sorted(kept)
    letter = chr(ord("a") + names.index(source)) if source in names else ""
    return f"{base}-map{letter}"


def agent_secret(placement: Placement, digest: str) -> str:
    """Return the name of the Secret that the agent's container gets.

    Args:
        placement: The placement.
        digest: SHA-256 in hex of the Secret's content, which holds a key, so that no author of Agents can choose it.
    """
    return f"{placement.agent.metadata.name}-{digest[:10]}-key"


MCP_CONTAINER_PREFIX: Final = "mcp-"


def mcp_container(source: str) -> str:
    """Return the name of the sidecar that runs a source's MCP server."""
    return _label(f"{MCP_CONTAINER_PREFIX}{source}")


def mcp_volume(source: str) -> str:
    """Return the name of the volume that is the /tmp of a source's MCP server."""
    return _label(f"tmp-mcp-{source}")


def verification_name(binding: str) -> str:
    """Return the name that a binding's verification shares, at most 48 characters: pods' names are made from it."""
    return _workload(binding, "-verify")


def verification_job(binding: str, run: str) -> str:
    """Return the name of the Job of one verification run, at most 63 characters."""
    return f"{verification_name(binding)}-{run[:14]}"


def plan_name(binding: str, run: str) -> str:
    """Return the name of the ConfigMap with the plan of one verification run."""
    return f"{verification_job(binding, run)}-plan"


def result_name(binding: str) -> str:
    """Return the name of the ConfigMap that the verifier writes its result to."""
    return f"{verification_name(binding)}-result"


def pinned_name(binding: str) -> str:
    """Return the name of the ConfigMap that keeps the pinned tools for a later diff."""
    return f"{verification_name(binding)}-pinned"


def notifier_name(policy: str) -> str:
    """Return the name that the objects of a policy's notifier share, at most 48 characters."""
    return _workload(policy, NOTIFIER_ACCOUNT_SUFFIX)


def record_name(policy: str) -> str:
    """Return the name of the ConfigMap in which the notifier records what it has delivered."""
    return f"{notifier_name(policy)}-record"


def _workload(owner: str, suffix: str) -> str:
    """Return the name of an owner with a suffix; a longer one has a digest of the owner's name instead."""
    name = f"{owner}{suffix}"
    if len(name) < WORKLOAD_LENGTH:
        return name
    beginning = owner[:8].replace(".", "-")  # a part between dots must not begin or end with a hyphen
    return f"{beginning}-{_digest(owner)}{suffix}"


def binding_label(binding: str) -> str:
    """Return a binding's name as the value of a label."""
    return _label(binding)


def policy_label(policy: str) -> str:
    """Return an AgentPolicy's name as the value of a label."""
    return _label(policy)


def _label(name: str, kept: int = 30) -> str:
    """Return the name as a DNS label. A longer one ends in its digest, so that two names never become one.

    Users choose names, and would find two with equal short digests. So the digest has 128 bits, except where the
    name's owner is kept whole and `name_collisions` sees to the rest.

    Args:
        name: The name.
        kept: How many characters of a longer name are kept.
    """
    return name if len(name) < LABEL_LENGTH else f"{name[:kept]}-{_digest(name)[: LABEL_LENGTH - 1 - kept]}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def agent_labels(agent: Agent, component: str) -> dict[str, str]:
    """Return the labels of a child that belongs to the agent as a whole.

    `app.kubernetes.io/*` as in the Kubernetes documentation, "Recommended Labels".
    """
    return {
        APP_NAME_LABEL: APP_NAME,
        APP_INSTANCE_LABEL: agent.metadata.name,
        APP_COMPONENT_LABEL: component,
        APP_PART_OF_LABEL: PART_OF,
        APP_MANAGED_BY_LABEL: MANAGED_BY,
        AGENT_LABEL: agent.metadata.name,
    }


def placement_labels(placement: Placement, component: str) -> dict[str, str]:
    """Return the labels of a child that belongs to one placement."""
    return agent_labels(placement.agent, component) | {
        STAGE_LABEL: placement.stage.name,
        REVISION_LABEL: revision_label(placement.revision),
    }


def revision_label(revision: str) -> str:
    """Return a revision as the value of a label, which has room for all of its 64 digits but one."""
    return revision[:LABEL_LENGTH]


def pod_labels(placement: Placement, component: str) -> dict[str, str]:
    """Return the labels of a new pod. A pod that a guard runs in carries `GUARD_LABEL`, and Services lead to it."""
    has_guard = component == GUARD_POD or not placement.is_separate
    return {
        **placement_labels(placement, component),
        ISOLATION_LABEL: placement.isolation,
        **({GUARD_LABEL: placement.agent.metadata.name, ENDPOINT_LABEL: ENDPOINT} if has_guard else {}),
    }


def selector(placement: Placement, component: str = AGENT_POD) -> dict[str, str]:
    """Return the labels that select the pods of one component of this placement and no others.

    The isolation is part of the selector. A Deployment of another isolation must not adopt these pods.
    """
    return {
        AGENT_LABEL: placement.agent.metadata.name,
        STAGE_LABEL: placement.stage.name,
        REVISION_LABEL: revision_label(placement.revision),
        APP_COMPONENT_LABEL: component,
        ISOLATION_LABEL: placement.isolation,
    }


def endpoint_selector(placement: Placement) -> dict[str, str]:
    """Return the labels that select the pods of this placement that take tasks: those with a guard that do not go."""
    return {**selector(placement, GUARD_POD if placement.is_separate else AGENT_POD), ENDPOINT_LABEL: ENDPOINT}


def verification_labels(binding: MCPBinding) -> dict[str, str]:
    """Return the labels of a child that belongs to the verification of a binding."""
    return {
        APP_NAME_LABEL: "interlock-verification",
        APP_INSTANCE_LABEL: binding_label(binding.metadata.name),
        APP_COMPONENT_LABEL: VERIFICATION,
        APP_PART_OF_LABEL: PART_OF,
        APP_MANAGED_BY_LABEL: MANAGED_BY,
        **verification_selector(binding),
    }


def verification_selector(binding: MCPBinding) -> dict[str, str]:
    """Return the labels that select the pods of a binding's verifications."""
    return {BINDING_LABEL: binding_label(binding.metadata.name)}


def notifier_labels(policy: str) -> dict[str, str]:
    """Return the labels of an object of a policy's notifier."""
    return {
        APP_NAME_LABEL: "interlock-notifier",
        APP_INSTANCE_LABEL: policy_label(policy),
        APP_COMPONENT_LABEL: NOTIFIER,
        APP_PART_OF_LABEL: PART_OF,
        APP_MANAGED_BY_LABEL: MANAGED_BY,
        POLICY_LABEL: policy_label(policy),
    }


def notifier_selector(policy: str) -> dict[str, str]:
    """Return the labels that select the pods of a policy's notifier."""
    return {APP_COMPONENT_LABEL: NOTIFIER, POLICY_LABEL: policy_label(policy)}


Manifest = dict[str, Any]


@dataclass(frozen=True, order=True)
class ChildKey:
    """Kind and name of a child; its namespace is the owner's.

    Attributes:
        kind: Such as `Deployment`.
        name: Its `metadata.name`.
    """

    kind: str
    name: str


def key_of(manifest: Manifest) -> ChildKey:
    """Return the key of a manifest."""
    return ChildKey(manifest["kind"], manifest["metadata"]["name"])


def template_metadata(workload: Manifest) -> dict[str, Any]:
    """Return the metadata of a Deployment's pod template; empty where it has none."""
    found: dict[str, Any] = (workload["spec"].get("template") or {}).get("metadata") or {}
    return found


def with_template_annotation(spec: Manifest, name: str, value: str) -> Manifest:
    """Return a Deployment's spec whose pods have one more annotation."""
    template, metadata = spec["template"], spec["template"]["metadata"]
    notes = {**metadata.get("annotations", {}), name: value}
    return {**spec, "template": {**template, "metadata": {**metadata, "annotations": notes}}}


def bundle_text(manifest: Manifest) -> str | None:
    """Return the bundle in an object, None in any other one.

    A bundle is known by its label. Users choose the keys of other ConfigMaps, which may be those of a bundle.
    """
    if manifest["metadata"].get("labels", {}).get(APP_COMPONENT_LABEL) != BUNDLE:
        return None
    text = (manifest.get("data") or {}).get(BUNDLE_KEY)
    return text if isinstance(text, str) else None


def build_child(
    owner: Agent | AgentPolicy | MCPBinding, api_version: str, kind: str, name: str, labels: dict[str, str], **body: Any
) -> Manifest:
    """Return a manifest in the owner's namespace, which Kubernetes deletes together with the owner."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": owner.metadata.namespace,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": owner.kind,
                    "name": owner.metadata.name,
                    "uid": owner.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        **body,
    }


def build_placement_child(
    placement: Placement, api_version: str, kind: str, name: str, component: str, **body: Any
) -> Manifest:
    """Return a manifest that belongs to one placement, with its digest in an annotation."""
    manifest = build_child(placement.agent, api_version, kind, name, placement_labels(placement, component), **body)
    digest = placement_digest(placement.agent.metadata, placement.stage.name, placement.revision)
    manifest["metadata"]["annotations"] = {PLACEMENT_DIGEST: digest}
    return manifest
