"""The notifier of an AgentPolicy with webhooks: one pod, its identity, its network and the record of what it delivered.

It is owned by the policy and has no label of an Agent. So it outlives the Agents of the policy: a kill, a scale to zero
and the deletion of an Agent end none of its pods.
"""

from typing import Any, Final

from interlock.api.binding import CaSource
from interlock.api.policy import AgentPolicy, NotifyTarget
from interlock.api.shared_types import Resources
from interlock.deployment.children.egress_rules import notifier_egress, notifier_ingress
from interlock.deployment.children.identity import build_account
from interlock.deployment.children.pod_parts import (
    LAST_LINES,
    TOKEN_VOLUME,
    build_token_volume,
    container_security,
    pod_security,
)
from interlock.deployment.children.resources import NOTIFIER_NEEDS, build_own_resources
from interlock.deployment.children.scheduling import build_node_choice, build_pull_secrets
from interlock.deployment.children.upstreams import SECRETS_VOLUME, Reference, authorities_of, file_of, project
from interlock.deployment.names import (
    Manifest,
    build_child,
    notifier_labels,
    notifier_name,
    notifier_selector,
    policy_label,
    record_name,
)
from interlock.deployment.placement import ApiServerAddress
from interlock.deployment.pod_users import DEFAULT_USERS, Ids, PodUsers
from interlock_contract.http_target import ProxyTarget
from interlock_contract.names import BUDGET_LEDGERS, GROUP, POLICY_LABEL
from interlock_contract.pod import (
    LEDGERS_VARIABLE,
    NAMESPACE_VARIABLE,
    NOTIFIER_CONTAINER,
    OBSERVE_PORT,
    RECORD_VARIABLE,
    SECRETS_PATH,
    TOKEN_PATH,
    WEBHOOKS_VARIABLE,
)
from interlock_contract.webhooks import Webhook, WebhookPlan, dump_webhooks

_GRACE_SECONDS: Final = 5
"""Enough to record the last delivery."""


def build_notifier(
    policy: AgentPolicy,
    guard_image: str,
    api_server: ApiServerAddress,
    *,
    guard_resources: Resources | None = None,
    pull_secrets: tuple[str, ...] = (),
    users: PodUsers = DEFAULT_USERS,
) -> tuple[Manifest, ...]:
    """Return the objects of the notifier but its record; none without webhooks.

    Args:
        policy: The policy.
        guard_image: Image of the guards, which contains the notifier.
        api_server: The addresses of the API server.
        guard_resources: What the installation states for Interlock's own containers where the policy states nothing.
        pull_secrets: Names of the Secrets with which kubelets pull images, as the installation states them.
        users: The users and groups of the pods of the policy's namespace.
    """
    if not policy.spec.notify:
        return ()
    name, labels = notifier_name(policy.metadata.name), notifier_labels(policy.metadata.name)
    container = _container(policy, guard_image, guard_resources, users.notifier)
    rules = [
        {"apiGroups": [GROUP], "resources": [BUDGET_LEDGERS], "verbs": ["list", "watch"]},
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [record_name(policy.metadata.name)],
            "verbs": ["get", "patch"],
        },
    ]
    return (
        *build_account(policy, name, labels, rules),
        build_child(
            policy,
            "networking.k8s.io/v1",
            "NetworkPolicy",
            name,
            labels,
            spec={
                "podSelector": {"matchLabels": notifier_selector(policy.metadata.name)},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": notifier_ingress(),
                "egress": notifier_egress(policy, api_server),
            },
        ),
        build_child(policy, "apps/v1", "Deployment", name, labels, spec=_deployment(policy, container, pull_secrets)),
    )


def build_record(policy: AgentPolicy) -> Manifest:
    """Return the empty ConfigMap in which the notifier records what it has delivered. Only the notifier writes it."""
    name = policy.metadata.name
    return build_child(policy, "v1", "ConfigMap", record_name(name), notifier_labels(name))


def compile_webhooks(policy: AgentPolicy) -> WebhookPlan:
    """Return the webhooks as the notifier gets them."""
    proxy = policy.spec.egress_proxy
    return WebhookPlan(
        version=1,
        policy=policy.metadata.name,
        webhooks=tuple(_webhook(target) for target in policy.spec.notify),
        proxy=None if proxy is None else ProxyTarget(proxy.url, _authorities_file(proxy.ca_from)),
        no_proxy=() if proxy is None else proxy.no_proxy,
    )


def _webhook(target: NotifyTarget) -> Webhook:
    webhook = target.webhook
    return Webhook(
        name=target.name,
        url_file=file_of(webhook.url_from.secret_key_ref),
        network=webhook.network,
        format=webhook.format,
        key_file=None if webhook.signing_key_from is None else file_of(webhook.signing_key_from.secret_key_ref),
        ca_file=_authorities_file(webhook.ca_from),
    )


def _authorities_file(ca: CaSource | None) -> str | None:
    return None if ca is None else file_of(authorities_of(ca))


def _deployment(policy: AgentPolicy, container: dict[str, Any], pull_secrets: tuple[str, ...]) -> dict[str, Any]:
    name = policy.metadata.name
    return {
        "replicas": 1,
        "revisionHistoryLimit": 1,
        "strategy": {"type": "Recreate"},  # two at once would post alerts twice
        "selector": {"matchLabels": notifier_selector(name)},
        "template": {
            "metadata": {"labels": notifier_labels(name)},
            "spec": {
                "serviceAccountName": notifier_name(name),
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": _GRACE_SECONDS,
                "securityContext": pod_security(),
                **build_node_choice(policy.spec.pod_template.default),
                **build_pull_secrets(pull_secrets, policy.spec.pod_template.default),
                "containers": [container],
                "volumes": [
                    build_token_volume(),
                    {"name": SECRETS_VOLUME, "projected": {"sources": _projections(policy)}},
                ],
            },
        },
    }


def _container(policy: AgentPolicy, guard_image: str, guard_resources: Resources | None, ids: Ids) -> dict[str, Any]:
    name = policy.metadata.name
    variables = {
        NAMESPACE_VARIABLE: policy.metadata.namespace,
        LEDGERS_VARIABLE: f"{POLICY_LABEL}={policy_label(name)}",
        RECORD_VARIABLE: record_name(name),
        WEBHOOKS_VARIABLE: dump_webhooks(compile_webhooks(policy)),
    }
    return {
        "name": NOTIFIER_CONTAINER,
        "image": guard_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/venv/bin/python", "-m", "interlock_notify"],
        "env": [{"name": variable, "value": value} for variable, value in variables.items()],
        "ports": [{"name": "observe", "containerPort": OBSERVE_PORT, "protocol": "TCP"}],
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "resources": build_own_resources(NOTIFIER_NEEDS, policy.spec.pod_template.guard_resources, guard_resources),
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(ids),
        "volumeMounts": [
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True},
            {"name": SECRETS_VOLUME, "mountPath": SECRETS_PATH, "readOnly": True},
        ],
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": OBSERVE_PORT}, "periodSeconds": period, "failureThreshold": failures}


def _projections(policy: AgentPolicy) -> list[dict[str, Any]]:
    """Return the sources of the volume with the files of each webhook, in one folder each.

    A key that is missing keeps the files of no other webhook from being mounted, so all are optional.
    """
    found: list[dict[str, Any]] = []
    for target in policy.spec.notify:
        references = {file_of(one): one for one in _references(policy, target)}
        found += [project(target.name, reference, is_optional=True) for reference in references.values()]
    return found


def _references(policy: AgentPolicy, target: NotifyTarget) -> list[Reference]:
    webhook, proxy = target.webhook, policy.spec.egress_proxy
    found: list[Reference] = [webhook.url_from.secret_key_ref]
    if webhook.signing_key_from is not None:
        found.append(webhook.signing_key_from.secret_key_ref)
    if webhook.ca_from is not None:
        found.append(authorities_of(webhook.ca_from))
    if proxy is not None and proxy.ca_from is not None and webhook.network == "Public":
        found.append(authorities_of(proxy.ca_from))
    return found
