import hashlib
import json
from typing import Any

import pytest

from interlock.api.shared_types import SecretKeyRef
from interlock.deployment.children.config import compile_bundle
from interlock.deployment.children.upstreams import model_variables
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.placement import Placement
from interlock.deployment.plan import desired_children
from interlock_contract.bundle import dump_bundle, parse_bundle
from interlock_contract.http_target import HttpTarget
from tests.requirements import requirement
from tests.support.builders import a_placement, a_policy, an_agent

MIB = 1024 * 1024
LOCAL = {
    "name": "local",
    "url": "https://llm.example.com/v1",
    "network": "Private",
    "caFrom": {"configMapKeyRef": {"name": "company-ca", "key": "ca.crt"}},
}


def a_placement_calling(*models: str, urls: list[dict[str, object]] | None = None) -> Placement:
    return a_placement(an_agent().calling(*models), policy=a_policy().allowing_models("openai/*", urls=urls))


@requirement("models.compiled")
def test_the_bundle_has_the_agents_models_with_their_providers() -> None:
    placement = a_placement_calling("openai/gpt-4o-mini", "local/meta/llama", "openai/gpt-4o", urls=[LOCAL])
    models = compile_bundle(placement).models
    assert models is not None
    openai, local = models.providers
    assert (openai.name, openai.shape, [model.name for model in openai.models]) == (
        *("openai", "OpenAI"),
        ["gpt-4o-mini", "gpt-4o"],
    )
    assert openai.target == HttpTarget("https://api.openai.com/v1", "Public", (), None)
    assert (local.target.url, local.target.network, local.models[0].name) == (LOCAL["url"], "Private", "meta/llama")
    assert compile_bundle(placement).agent_key_digest == hashlib.sha256(placement.agent_key.encode()).hexdigest()
    text = dump_bundle(compile_bundle(placement))
    assert parse_bundle(text) == compile_bundle(placement)
    assert placement.agent_key not in text


def test_a_provider_that_the_policy_names_counts_instead_of_the_usual_one() -> None:
    url = {"name": "anthropic", "url": "https://gateway.example.com/v1"}
    models = compile_bundle(a_placement_calling("anthropic/claude-x", urls=[url])).models
    assert models is not None
    assert (models.providers[0].target.url, models.providers[0].shape) == (url["url"], "Anthropic")


@requirement("models.compiled")
@requirement("models.compiled")
@pytest.mark.parametrize(
    ("settings", "member", "asks"),
    [
        ({}, None, None),
        ({"outputLimitMember": "max_tokens", "streamUsage": "Never"}, "max_tokens", False),
        ({"streamUsage": "Ask"}, None, True),
    ],
)
def test_the_bundle_says_how_a_provider_limits_output_and_tells_usage(
    settings: dict[str, str], member: str | None, *, asks: bool | None
) -> None:
    placement = a_placement_calling("local/meta/llama", urls=[{**LOCAL, **settings}])
    models = compile_bundle(placement).models
    assert models is not None
    assert (models.providers[0].limit_member, models.providers[0].takes_usage_option) == (member, asks)


@requirement("budget.price-missing")
def test_no_bundle_has_a_model_without_a_price_or_models_without_a_budget() -> None:
    bundle = compile_bundle(a_placement_calling("openai/gpt-4o-mini", "local/meta/llama", urls=[LOCAL]))
    assert bundle.models is not None
    assert bundle.budget is not None
    assert all(model.price is not None for provider in bundle.models.providers for model in provider.models)


def test_a_guard_that_spends_knows_the_uid_of_its_pod() -> None:
    def variables(placement: Placement) -> list[str]:
        pod = build_workloads(placement)[0]["spec"]["template"]["spec"]
        return [one["name"] for one in pod["initContainers"][0]["env"]]

    assert "INTERLOCK_POD_UID" in variables(a_placement_calling("openai/gpt-4o-mini"))
    assert "INTERLOCK_POD_UID" not in variables(a_placement())


def test_only_the_guard_mounts_keys_and_each_once() -> None:
    pod = build_workloads(a_placement_calling("openai/a", "openai/b", "local/c", urls=[LOCAL]))[0]["spec"]["template"][
        "spec"
    ]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "server-secrets"]
    projected = volume["projected"]["sources"]
    assert [next(iter(one.values()))["name"] for one in projected] == ["openai", "local", "company-ca"]
    assert all(next(iter(one.values()))["items"][0]["path"].startswith(".models/") for one in projected)
    containers = [*pod["initContainers"], *pod["containers"]]
    mounting = [
        one["name"] for one in containers if "server-secrets" in [mount["name"] for mount in one["volumeMounts"]]
    ]
    assert mounting == ["guard"]
    (agent,) = pod["containers"]
    keys = [one["valueFrom"]["secretKeyRef"] for one in agent["env"] if "valueFrom" in one]
    assert {one["key"] for one in keys} == {"key"}, "of its own Secret, and no provider's key"
    assert {one["name"] for one in keys} & {"openai", "local"} == set()


@requirement("models.compiled")
def test_the_agent_gets_its_models_address_and_a_key_that_is_valid_nowhere_else() -> None:
    def variables(*models: str) -> dict[str, str]:
        placement = a_placement_calling(*models, urls=[LOCAL])
        key = SecretKeyRef(name="triage-key", key="key")
        found = model_variables(placement, "http://guard:7410", key)
        return {one["name"]: one.get("value") or json.dumps(one["valueFrom"]) for one in found}

    both = variables("openai/gpt-4o-mini", "anthropic/claude-x")
    assert (both["OPENAI_BASE_URL"], both["ANTHROPIC_BASE_URL"]) == (
        "http://guard:7410/openai/v1",
        "http://guard:7410/anthropic",
    )
    assert both["OPENAI_API_KEY"] == both["ANTHROPIC_API_KEY"]
    assert json.loads(both["OPENAI_API_KEY"]) == {"secretKeyRef": {"name": "triage-key", "key": "key"}}
    assert set(variables("anthropic/claude-x")) == {"ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"}
    assert variables("local/llama")["OPENAI_BASE_URL"] == "http://guard:7410/local/v1"
    assert variables("local/llama", "openai/gpt-4o")["OPENAI_BASE_URL"] == "http://guard:7410/openai/v1"


def test_the_agents_container_has_the_variables() -> None:
    pod = build_workloads(a_placement_calling("openai/gpt-4o-mini"))[0]["spec"]["template"]["spec"]
    env = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert env["OPENAI_BASE_URL"] == "http://127.0.0.1:7410/openai/v1"


def test_an_agent_without_models_has_nothing_of_them() -> None:
    text = json.dumps(desired_children(a_placement()))
    assert not [word for word in ("OPENAI", "ANTHROPIC", ".models") if word in text]


@requirement("models.large")
@pytest.mark.parametrize(
    ("size", "limit"), [(None, "288Mi"), (32 * MIB, "288Mi"), (4 * MIB, "148Mi"), (65_536, "133Mi")]
)
def test_the_guards_memory_follows_the_size_of_requests_to_models(size: int | None, limit: str) -> None:
    more = {} if size is None else {"requestBytes": size}
    policy = a_policy().allowing_models("openai/*", **more)
    guard = guard_of(a_placement(an_agent().calling("openai/gpt-4o-mini"), policy=policy))
    assert guard["resources"]["limits"]["memory"] == limit
    assert {"name": "INTERLOCK_MODEL_REQUEST_BYTES", "value": str(size or 32 * MIB)} in guard["env"]
    without = guard_of(a_placement(policy=policy))
    assert without["resources"]["limits"]["memory"] == "128Mi"
    assert "INTERLOCK_MODEL_REQUEST_BYTES" not in [variable["name"] for variable in without["env"]]


def guard_of(placement: Placement) -> dict[str, Any]:
    (guard,) = [
        container
        for workload in build_workloads(placement)
        for container in workload["spec"]["template"]["spec"]["initContainers"]
        if container["name"] == "guard"
    ]
    found: dict[str, Any] = guard
    return found
