"""The objects of a policy's notifier."""

from typing import Any

import pytest

from interlock.api.policy import AgentPolicy
from interlock.deployment.children.notifier import build_notifier, build_record, compile_webhooks
from interlock.deployment.names import notifier_name, record_name
from interlock_contract.webhooks import parse_webhooks
from tests.support.builders import API_SERVER, GUARD_IMAGE, a_policy

PRIVATE = {"network": "Private"}
PODS = {"namespaceSelector": {}}


def built(policy: AgentPolicy) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in build_notifier(policy, GUARD_IMAGE, API_SERVER)}


def pod_of(policy: AgentPolicy) -> dict[str, Any]:
    spec: dict[str, Any] = built(policy)["Deployment"]["spec"]["template"]["spec"]
    return spec


def egress_of(policy: AgentPolicy) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = built(policy)["NetworkPolicy"]["spec"]["egress"]
    return rules


def reaches(policy: AgentPolicy, cidr: str) -> bool:
    blocks = [peer["ipBlock"] for rule in egress_of(policy) for peer in rule["to"] if "ipBlock" in peer]
    return any(block["cidr"] == "0.0.0.0/0" and cidr not in block.get("except", ()) for block in blocks)


def test_a_policy_without_webhooks_has_no_notifier() -> None:
    assert built(a_policy().build()) == {}


def test_all_objects_are_the_policys_and_none_is_an_agents() -> None:
    policy = a_policy().notifying("chat").build()
    objects = [*build_notifier(policy, GUARD_IMAGE, API_SERVER), build_record(policy)]

    for one in objects:
        (owner,) = one["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("AgentPolicy", policy.metadata.uid, True)
        assert one["metadata"]["labels"]["interlock.dev/policy"] == "support"
        assert "interlock.dev/agent" not in one["metadata"]["labels"]
    labels = built(policy)["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert "interlock.dev/agent" not in labels  # kills find pods by it


def test_the_role_has_the_ledgers_and_its_own_record_and_nothing_else() -> None:
    role = built(a_policy().notifying("chat").build())["Role"]

    assert role["rules"] == [
        {"apiGroups": ["interlock.dev"], "resources": ["budgetledgers"], "verbs": ["list", "watch"]},
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["support-notify-record"],
            "verbs": ["get", "patch"],
        },
    ]


def test_the_pod_gets_the_policys_defaults() -> None:
    default = {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "agents"},
        "tolerations": [{"key": "agents", "operator": "Exists"}],
    }
    pod = pod_of(a_policy().notifying("chat").with_pod_template(default=default).build())
    assert {name: pod[name] for name in default} == default


def test_two_notifiers_of_one_policy_never_run_at_once() -> None:
    spec = built(a_policy().notifying("chat").build())["Deployment"]["spec"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_plan_of_the_webhooks_holds_files_and_no_name_of_a_secret() -> None:
    policy = (
        a_policy()
        .notifying("chat")
        .notifying("pager", format="Standard", signingKeyFrom={"secretKeyRef": {"name": "webhooks", "key": "sign"}})
        .build()
    )
    (container,) = pod_of(policy)["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}

    plan = parse_webhooks(variables["INTERLOCK_WEBHOOKS"])

    assert plan == compile_webhooks(policy)
    assert [(one.name, one.format, one.key_file is not None) for one in plan.webhooks] == [
        ("chat", "Slack", False),
        ("pager", "Standard", True),
    ]
    assert "webhooks/" not in variables["INTERLOCK_WEBHOOKS"]
    assert variables["INTERLOCK_LEDGERS"] == "interlock.dev/policy=support"


def test_each_webhook_has_a_folder_and_a_key_that_is_missing_keeps_no_other_from_it() -> None:
    policy = a_policy().notifying("chat", "pager").build()
    volume = next(one for one in pod_of(policy)["volumes"] if one["name"] == "server-secrets")

    sources = volume["projected"]["sources"]

    assert [one["secret"]["optional"] for one in sources] == [True, True]
    plan = compile_webhooks(policy)
    assert [one["secret"]["items"] for one in sources] == [
        [{"key": webhook.name, "path": f"{webhook.name}/{webhook.url_file}"}] for webhook in plan.webhooks
    ]


def test_one_key_that_two_settings_name_is_one_file() -> None:
    same = {"secretKeyRef": {"name": "webhooks", "key": "chat"}}
    policy = a_policy().notifying("chat", signingKeyFrom=same).build()
    volume = next(one for one in pod_of(policy)["volumes"] if one["name"] == "server-secrets")

    assert len(volume["projected"]["sources"]) == 1


@pytest.mark.parametrize(("network", "is_open"), [({}, False), (PRIVATE, True)])
def test_private_addresses_are_open_for_private_webhooks_alone(network: dict[str, str], *, is_open: bool) -> None:
    policy = a_policy().notifying("chat", **network).build()

    assert reaches(policy, "10.0.0.0/8") is is_open
    assert not reaches(policy, "169.254.0.0/16")
    assert any(PODS in rule["to"] and "ports" not in rule for rule in egress_of(policy)) is is_open


def test_public_webhooks_are_reached_through_the_egress_proxy_alone() -> None:
    policy = a_policy().notifying("chat").through_proxy("http://10.1.2.3:3128").build()

    assert not reaches(policy, "10.0.0.0/8")
    assert {"ports": [{"port": 3128, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]} in egress_of(
        policy
    )
    assert compile_webhooks(policy).proxy is not None


def test_hosts_that_are_not_proxied_are_reached_directly() -> None:
    policy = a_policy().notifying("chat").through_proxy("http://10.1.2.3:3128", noProxy=["example.com"]).build()

    assert any(peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0" for rule in egress_of(policy) for peer in rule["to"])
    assert compile_webhooks(policy).no_proxy == ("example.com",)


def test_the_authorities_of_the_proxy_are_with_public_webhooks() -> None:
    proxy = {"caFrom": {"configMapKeyRef": {"name": "authorities", "key": "ca.crt"}}}
    policy = (
        a_policy()
        .notifying("chat")
        .notifying("inner", **PRIVATE)
        .through_proxy("https://p.example.com", **proxy)
        .build()
    )
    volume = next(one for one in pod_of(policy)["volumes"] if one["name"] == "server-secrets")
    paths = [item["path"] for one in volume["projected"]["sources"] for item in next(iter(one.values()))["items"]]
    plan = compile_webhooks(policy)

    assert plan.proxy is not None
    assert f"chat/{plan.proxy.ca_file}" in paths
    assert f"inner/{plan.proxy.ca_file}" not in paths


def test_only_metrics_come_in() -> None:
    spec = built(a_policy().notifying("chat").build())["NetworkPolicy"]["spec"]

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"] for rule in spec["ingress"]] == [[{"port": 7411, "protocol": "TCP"}]]


def test_the_pod_is_restricted_and_mounts_no_token_but_its_own() -> None:
    pod = pod_of(a_policy().notifying("chat").build())
    (container,) = pod["containers"]

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {one["mountPath"] for one in container["volumeMounts"]} == {
        "/var/run/secrets/interlock",
        "/run/interlock/secrets",
    }


@pytest.mark.parametrize("policy", ["a", "support", "a.b.c", "p" * 41, "p" * 42, "p" * 253, f"{'p' * 7}.{'q' * 60}"])
def test_names_are_short_and_end_alike(policy: str) -> None:
    assert notifier_name(policy).endswith("-notify")
    assert record_name(policy) == f"{notifier_name(policy)}-record"
    assert len(notifier_name(policy)) <= 48
    assert ".-" not in notifier_name(policy)


def test_two_long_policies_have_two_names() -> None:
    assert notifier_name("p" * 60) != notifier_name("p" * 61)
