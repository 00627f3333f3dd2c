import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.deployment.children.identity import build_guard_role
from interlock.deployment.children.verification_job import VerificationTarget, build_support
from interlock.deployment.placement import ApiServerAddress
from interlock_audit.reviewer import READ_VERB
from interlock_contract.names import AUDIT_RECORDS, GROUP
from interlock_kube.resource_types import CHILDREN
from tests.requirements import requirement
from tests.support.builders import GUARD_IMAGE, a_binding, a_placement

ROOT = Path(__file__).parents[2]
Rule = dict[str, Any]

DANGEROUS_VERBS = {"escalate", "bind", "impersonate", "approve", "sign", "*"}
DANGEROUS_RESOURCES = {
    "*",
    "secrets",
    "nodes",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "pods/ephemeralcontainers",
    "nodes/proxy",
    "serviceaccounts/token",
    "certificatesigningrequests",
    "clusterroles",
    "clusterrolebindings",
}


def objects_in(folder: str) -> Iterator[dict[str, Any]]:
    for path in sorted((ROOT / folder).rglob("*.yaml")):
        yield from (found for found in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader) if found)


ROLES = {
    found["metadata"]["name"]: found["rules"]
    for found in objects_in("manifests")
    if found["kind"] in ("ClusterRole", "Role")
}
OPERATOR = ROLES["interlock-operator"]
CREATES_SECRETS = {"interlock-operator": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]}]}
"""The only right on Secrets. Every other verb returns what is in one, an empty patch included."""
LISTS_NODES = {"interlock-operator": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}]}
"""The only right on Nodes, whose addresses no row of egress opens. It writes none, and reaches no kubelet."""


def allows(rules: list[Rule], group: str, resource: str, verb: str) -> bool:
    return any(
        group in rule.get("apiGroups", []) and resource in rule.get("resources", []) and verb in rule["verbs"]
        for rule in rules
    )


@requirement("code.rights")
@pytest.mark.parametrize("name", ROLES)
def test_no_role_of_the_manifests_has_a_wildcard_or_a_way_to_more_rights(name: str) -> None:
    for rule in ROLES[name]:
        assert not DANGEROUS_VERBS & set(rule["verbs"]), rule
        if rule not in CREATES_SECRETS.get(name, ()) and rule not in LISTS_NODES.get(name, ()):
            assert not DANGEROUS_RESOURCES & set(rule.get("resources", [])), rule
        assert "*" not in rule.get("apiGroups", []), rule
        assert "nonResourceURLs" not in rule, rule


def test_the_operator_may_not_change_what_users_apply() -> None:
    for verb in ("create", "update", "patch", "delete", "deletecollection"):
        for resource in ("agents", "agentpolicies", "mcpbindings"):
            assert not allows(OPERATOR, "interlock.dev", resource, verb)


def test_the_operator_may_do_what_it_does_and_nothing_is_missing() -> None:
    for kind in CHILDREN:
        group = "" if kind.prefix == "/api/v1" else kind.prefix.split("/")[2]
        for verb in ("get", "list", "watch", "create", "patch", "delete"):
            assert allows(OPERATOR, group, kind.plural, verb), (kind.kind, verb)
    for verb in ("list", "watch", "patch", "delete", "deletecollection"):
        assert allows(OPERATOR, "", "pods", verb)
    assert allows(OPERATOR, "apps", "replicasets", "deletecollection")
    assert allows(OPERATOR, "interlock.dev", "agents/status", "patch")
    assert allows(OPERATOR, "interlock.dev", "agentpolicies/status", "patch")
    assert allows(OPERATOR, "interlock.dev", "mcpbindings/status", "patch")
    assert allows(OPERATOR, "interlock.dev", "agents", "reconcile")
    assert allows(OPERATOR, "interlock.dev", "mcpbindings", "reconcile")
    assert allows(OPERATOR, "events.k8s.io", "events", "create")


def test_the_collector_may_review_tokens_and_permissions_and_nothing_else() -> None:
    asked = {(group, resource, verb) for rule in ROLES["interlock-audit"] for group, resource, verb in triples(rule)}

    assert asked == {
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("authorization.k8s.io", "subjectaccessreviews", "create"),
    }


def test_the_auditors_role_gives_what_the_collector_asks_for() -> None:
    assert {triple for rule in ROLES["interlock-auditor"] for triple in triples(rule)} == {
        (GROUP, AUDIT_RECORDS, READ_VERB)
    }


def triples(rule: Rule) -> Iterator[tuple[str, str, str]]:
    return itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])


def test_the_operator_may_create_no_pod_by_itself() -> None:
    for verb in ("create", "update"):
        assert not allows(OPERATOR, "", "pods", verb)


def test_what_a_guards_role_grants_the_operator_holds_itself() -> None:
    """Otherwise the API server refuses the Role: without `escalate`, a user grants only the rights that they have."""
    for rule in build_guard_role(a_placement())["rules"]:
        for verb in rule["verbs"]:
            assert allows(OPERATOR, rule["apiGroups"][0], rule["resources"][0], verb)


def test_a_verifiers_role_is_to_write_its_own_result_which_the_operator_holds_itself() -> None:
    support = build_support(VerificationTarget(a_binding().build(), 1, GUARD_IMAGE), ApiServerAddress())
    [role] = [manifest for manifest in support if manifest["kind"] == "Role"]
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["crm-verify-result"], "verbs": ["patch"]}
    ]
    assert allows(OPERATOR, "", "configmaps", "patch")


def test_a_guards_role_names_its_objects_and_writes_to_none_that_it_obeys() -> None:
    rules = build_guard_role(a_placement())["rules"]
    assert all(len(rule["resourceNames"]) == 1 for rule in rules)
    assert {(rule["resources"][0], *rule["verbs"]) for rule in rules} == {
        ("agents", "get", "list", "watch"),
        ("configmaps", "get", "list", "watch"),
        ("leases", "patch"),
    }
