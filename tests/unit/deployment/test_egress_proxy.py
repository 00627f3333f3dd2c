"""What an egress proxy of a policy changes: the bundle, the guard's files, NetworkPolicies and verifications."""

import json
from dataclasses import replace
from typing import Any

import pytest

from interlock.api.policy import AgentPolicy, EgressProxy
from interlock.deployment.children.config import compile_bundle
from interlock.deployment.children.egress_rules import guard_egress, verification_egress
from interlock.deployment.children.upstreams import build_secrets_volume
from interlock.deployment.children.verification_job import VerificationTarget, build_job, build_plan, build_support
from interlock.deployment.placement import Placement
from interlock.reconcile.snapshot import Unreadable
from interlock.reconcile.verification_rules import find_proxy, proxy_refusal
from interlock_contract.bundle import parse_bundle
from interlock_contract.http_target import HttpTarget, ProxyTarget
from tests.requirements import requirement
from tests.support.builders import BindingBuilder, PolicyBuilder, a_binding, a_policy, a_separate_placement, an_agent
from tests.unit.deployment.test_egress import POD, PRIVATE, PUBLIC, lets_out

CA = {"configMapKeyRef": {"name": "proxy-ca", "key": "ca.crt"}}
LOCAL = {"name": "local", "url": "https://llm.internal/v1", "network": "Private"}
PROXY = "https://proxy.example.com:3128"
API_SERVER = 2
"""Rules for the API server, which come first."""


def a_proxied(policy: PolicyBuilder, *, models: tuple[str, ...] = ("openai/gpt-4o",)) -> Placement:
    mail = a_binding("mail").serving("mail", "development").over_http()
    wiki = a_binding("wiki").serving("wiki", "development").over_http("https://wiki.example.com/mcp", network="Private")
    for source in ("mail", "wiki"):
        policy = policy.giving("triage", source, read=["contacts"])
    agent = an_agent().using("mail", "wiki").calling(*models)
    allowing = policy.allowing_models("openai/*", "local/*", urls=[LOCAL])
    return a_separate_placement(agent, policy=allowing, bindings=[mail, wiki])


def targets(placement: Placement) -> dict[str, HttpTarget]:
    bundle = compile_bundle(placement)
    assert bundle.models is not None
    found = {source.name: source.http for source in bundle.sources} | {
        provider.name: provider.target for provider in bundle.models.providers
    }
    return {name: target for name, target in found.items() if target is not None}


@requirement("proxy.used")
def test_public_servers_and_providers_have_the_proxy_and_private_and_excepted_ones_do_not() -> None:
    placement = a_proxied(a_policy().through_proxy(), models=("openai/gpt-4o", "local/llama"))
    proxy = ProxyTarget("http://proxy.example.com:3128")
    assert {name: target.proxy for name, target in targets(placement).items()} == {
        "mail": proxy,
        "wiki": None,
        "openai": proxy,
        "local": None,
    }
    excepted = a_proxied(a_policy().through_proxy(noProxy=["api.openai.com", ".example.com"]))
    assert {target.proxy for target in targets(excepted).values()} == {None}
    assert {target.proxy for target in targets(a_proxied(a_policy())).values()} == {None}


@requirement("proxy.used")
def test_the_guard_has_the_proxys_authorities_wherever_it_uses_them() -> None:
    placement = a_proxied(a_policy().through_proxy(PROXY, caFrom=CA))
    (volume,) = build_secrets_volume(placement)
    files = {
        item["path"]
        for source in volume["projected"]["sources"]
        for item in source.get("configMap", {"items": []})["items"]
    }
    found = {name: target.proxy for name, target in targets(placement).items() if target.proxy is not None}
    assert {proxy.url for proxy in found.values()} == {PROXY}
    (file,) = {proxy.ca_file for proxy in found.values()}
    assert files == {f"mail/{file}", f".models/{file}"}
    excepted = a_proxied(a_policy().through_proxy(PROXY, caFrom=CA, noProxy=["api.openai.com", "example.com"]))
    assert "proxy-ca" not in json.dumps(build_secrets_volume(excepted))


@requirement("proxy.closed")
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "http://10.1.2.3:3128",
            {"ports": [{"port": 3128, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]},
        ),
        (
            "http://proxy.egress.svc:3128",
            {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "egress"}}}]},
        ),
        (
            "https://proxy.egress.svc.cluster.local",
            {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "egress"}}}]},
        ),
    ],
)
def test_a_proxy_by_address_or_service_is_all_that_is_opened(url: str, expected: dict[str, Any]) -> None:
    placement = a_separate_placement(
        an_agent().calling("openai/gpt-4o"), policy=a_policy().through_proxy(url).allowing_models("openai/*")
    )
    rules = guard_egress(placement)[API_SERVER:]
    assert rules[0] == expected
    assert not any(lets_out(rules, address) for address in PUBLIC)
    assert lets_out(rules, POD, 53, "UDP")  # a proxy may have a name
    assert len(rules) == 2


@requirement("proxy.closed")
def test_a_proxy_by_name_is_opened_at_its_port_alone() -> None:
    policy = a_policy().through_proxy().allowing_models("openai/*")
    rules = guard_egress(a_separate_placement(an_agent().calling("openai/gpt-4o"), policy=policy))
    assert all(lets_out(rules, address, 3128) for address in (*PUBLIC, *PRIVATE))
    assert not any(lets_out(rules, address, 443) for address in (*PUBLIC, *PRIVATE[1:]))
    assert not lets_out(rules, "169.254.169.254", 3128)


@requirement("proxy.closed")
def test_what_is_excepted_is_opened_as_without_a_proxy() -> None:
    policy = a_policy().through_proxy("http://10.1.2.3:3128", noProxy=["api.openai.com"]).allowing_models("openai/*")
    rules = guard_egress(a_separate_placement(an_agent().calling("openai/gpt-4o"), policy=policy))
    assert all(lets_out(rules, address) for address in PUBLIC)
    assert not lets_out(rules, "10.1.2.3", 3128)


def a_run(binding: BindingBuilder, proxy: EgressProxy | None) -> VerificationTarget:
    return VerificationTarget(binding.build(), 1, "guard:1", proxy)


@requirement("proxy.verified")
def test_a_verification_uses_the_proxy_and_runs_again_with_another_one() -> None:
    mail = a_binding("mail").over_http()
    proxy = EgressProxy.model_validate({"url": PROXY, "caFrom": CA})
    run = a_run(mail, proxy)
    bundle = parse_bundle(build_plan(run)["data"]["bundle.json"])
    assert bundle.sources[0].http is not None
    assert bundle.sources[0].http.proxy is not None
    assert bundle.sources[0].http.proxy.url == PROXY
    assert "proxy-ca" in json.dumps(build_job(run))
    placement = a_proxied(a_policy().through_proxy(PROXY, caFrom=CA))
    (policy,) = [one for one in build_support(run, placement.api_server) if one["kind"] == "NetworkPolicy"]
    assert policy["spec"]["egress"] == verification_egress(run.binding.spec.server, placement.api_server, proxy)
    assert not any(lets_out(policy["spec"]["egress"], address) for address in PUBLIC)
    other = EgressProxy.model_validate({"url": "http://other.example.com:3128"})
    assert len({run.id, a_run(mail, None).id, a_run(mail, other).id}) == 3


@requirement("proxy.verified")
def test_a_verification_that_no_proxy_concerns_keeps_its_run() -> None:
    proxy = EgressProxy.model_validate({"url": PROXY, "noProxy": ["example.com"]})
    private = a_binding("wiki").over_http("https://wiki.example.org/mcp", network="Private")
    for binding in (a_binding(), a_binding("mail").over_http(), private):
        assert a_run(binding, proxy).id == a_run(binding, None).id


@requirement("proxy.verified")
def test_the_proxy_of_a_verification_is_that_of_the_first_policy_with_one_and_a_row_for_the_source() -> None:
    def a_proxied_policy(name: str, source: str = "mail", host: str = "") -> AgentPolicy:
        row = a_policy(name).giving("triage", source, read=["mails"])
        return row.through_proxy(f"http://{host or name}.example.com:3128").build()

    first, second = a_proxied_policy("a"), a_proxied_policy("b")
    without = a_policy("0").giving("triage", "mail", read=["mails"]).build()
    elsewhere, unreadable = a_proxied_policy("0", "wiki"), Unreadable("AgentPolicy", "0", "x")
    found = find_proxy([without, elsewhere, unreadable, first, second], "mail")
    assert found == first.spec.egress_proxy
    assert find_proxy([without, elsewhere], "mail") is None
    assert find_proxy([], "mail") is None


@requirement("proxy.verified")
def test_no_server_is_reached_past_the_proxy_of_a_policy_that_cannot_be_read() -> None:
    proxied = a_policy("a").giving("triage", "mail", read=["mails"]).through_proxy(PROXY).build()
    without = a_policy("b").giving("triage", "mail", read=["mails"]).build()
    unread = Unreadable("AgentPolicy", "a", "spec.budget: is none")
    in_part = replace(unread, rest=proxied)
    other_authority = replace(in_part, left_out=frozenset({"AgentPolicy.spec.egressProxy.caFrom"}))
    mail = a_binding("mail").serving("mail", "development").over_http().build()

    assert find_proxy([in_part, without], "mail") == proxied.spec.egress_proxy
    for policy in (unread, other_authority):
        assert find_proxy([policy, without], "mail") is None
        assert proxy_refusal([without, policy], mail, None) == (
            "AgentPolicy a, which may have the egress proxy through which the server is reached, cannot be read: "
            "spec.budget: is none; fix it, or delete it"
        )
    assert proxy_refusal([unread], mail, proxied.spec.egress_proxy) == "", "another policy has it"
    assert proxy_refusal([replace(unread, rest=without)], mail, None) == "", "it is known to have none"
    private = (
        a_binding("mail")
        .serving("mail", "development")
        .over_http("https://mail.example.org/mcp", network="Private")
        .build()
    )
    for binding in (a_binding().build(), private):
        assert proxy_refusal([unread], binding, None) == "", "no proxy concerns it"
