"""The notifier of a policy with webhooks, at a real API server with admission policies."""

from typing import Any

import pytest

from tests.integration.operator.api import Json, eventually
from tests.integration.operator.sandbox import REFUSED_SECONDS, Sandbox
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

NAME = "support-notify"
OBJECTS = {
    "configmaps": f"{NAME}-record",
    "deployments": NAME,
    "networkpolicies": NAME,
    "roles": NAME,
    "rolebindings": NAME,
    "serviceaccounts": NAME,
}
TARGETS = [{"name": "chat", "webhook": {"urlFrom": {"secretKeyRef": {"name": "webhooks", "key": "slack"}}}}]


def notifying(*targets: Json) -> Json:
    metadata = {"name": "support"}
    spec = {"rollout": {"minStaging": "0s"}, "notify": list(targets)}
    return {"apiVersion": "interlock.dev/v1alpha1", "kind": "AgentPolicy", "metadata": metadata, "spec": spec}


def there(sandbox: Sandbox) -> list[str]:
    return [plural for plural, name in OBJECTS.items() if sandbox.api.find(plural, sandbox.namespace, name) is not None]


def notifying_condition(sandbox: Sandbox) -> Any:
    found = sandbox.api.get("agentpolicies", sandbox.namespace, "support").get("status") or {}
    return next((one for one in found.get("conditions", []) if one["type"] == "Notifying"), None)


def test_a_notifier_begins_is_repaired_and_ends_with_its_webhooks(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.api.apply(notifying(*TARGETS), sandbox.namespace)
    eventually(lambda: there(sandbox) == list(OBJECTS), "the notifier is there", REFUSED_SECONDS)
    eventually(lambda: notifying_condition(sandbox) is not None, "the policy says so", REFUSED_SECONDS)

    before = sandbox.api.get("roles", sandbox.namespace, NAME)["rules"]
    more = [{"op": "add", "path": "/rules/-", "value": {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}}]
    sandbox.api.patch("roles", sandbox.namespace, NAME, more)
    eventually(
        lambda: sandbox.api.get("roles", sandbox.namespace, NAME)["rules"] == before,
        "the Role is healed",
        REFUSED_SECONDS,
    )

    sandbox.api.apply(notifying(), sandbox.namespace)
    eventually(lambda: there(sandbox) == [], "the notifier is gone", REFUSED_SECONDS)


def test_a_notifier_ends_with_its_policy(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.api.apply(notifying(*TARGETS), sandbox.namespace)
    eventually(lambda: there(sandbox) == list(OBJECTS), "the notifier is there", REFUSED_SECONDS)

    sandbox.api.delete("agentpolicies", sandbox.namespace, "support")
    eventually(lambda: there(sandbox) == [], "the notifier is gone", REFUSED_SECONDS)
