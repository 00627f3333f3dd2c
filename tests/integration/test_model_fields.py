"""Fields about models on a real API server: what Python refuses it refuses too, in the same words."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from interlock.api.agent import Agent
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import model_refusals
from interlock.deployment.children.workload import build_workloads
from tests.integration.kubectl import AGENT, POLICY, Api, Kubectl, edited
from tests.requirements import requirement
from tests.support.builders import a_placement, a_policy, an_agent

pytestmark = pytest.mark.api

KEY = {"secretKeyRef": {"name": "models", "key": "key"}}
CA = {"configMapKeyRef": {"name": "company-ca", "key": "ca.crt"}}
LOCAL = {"name": "local", "url": "https://llm.example.com/v1"}


def agent(*names: str, **edits: Any) -> dict[str, Any]:
    return edited(AGENT, spec__models=[{"name": name, "apiKeyFrom": KEY} for name in names], **edits)


def policy(*allow: str, **upstream: Any) -> dict[str, Any]:
    return edited(POLICY, spec__models={"allow": list(allow), "urls": [{**LOCAL, **upstream}]})


def proxied(url: str = "http://proxy.example.com:3128", **members: Any) -> dict[str, Any]:
    return edited(POLICY, spec__egressProxy={"url": url, **members})


GOOD = (
    agent("openai/gpt-4o-mini", "local/meta-llama/Llama-3.1:8b", "openai/ft:gpt-4o:org::id"),
    agent(spec__template__env=[{"name": "OPENAI_API_KEY", "value": "of no model"}]),
    policy("openai/gpt-4o*", "local/*"),
    policy(url="http://llm.llm.svc:8080/v1", network="Private"),
    policy(name="openai", caFrom=CA),
    policy(extraMembers=["top_k", "context-1m-2027-01-01", "assistants=v2"]),
    policy(contentHosts=["images.example.com", "cdn", "*"]),
    proxied(),
    proxied("https://10.1.2.3", caFrom=CA, noProxy=["example.com", ".internal.example.com", "192.0.2.7"]),
    proxied("http://proxy.egress.svc:3128/"),
)
BAD = {
    "a model without a provider": agent("gpt-4o"),
    "a model with a space": agent("openai/gpt 4"),
    "a provider in capitals": agent("OpenAI/gpt-4o"),
    "a model of nothing": agent("openai/"),
    "a model that is a glob": agent("openai/gpt-*"),
    "a glob of providers": policy("*/gpt-4o"),
    "a glob that goes on": policy("openai/gpt-*-mini"),
    "two stars": policy("openai/**"),
    "a star alone": policy("*"),
    "a glob with a bracket": policy("openai/gpt-[45]"),
    "a provider at a path of the guard's": policy(name="mcp"),
    "another one": policy(name="ready"),
    "a provider with a dot": policy(name="a.b"),
    "a URL with a query": policy(url="https://llm.example.com/v1?key=x"),
    "a URL with a user": policy(url="https://ada:x@llm.example.com/v1"),
    "no TLS in public": policy(url="http://llm.example.com/v1"),
    "a member with a space": policy(extraMembers=["top k"]),
    "a member of several lines": policy(extraMembers=["top\nk"]),
    "work that outlives a kill": policy(extraMembers=["top_k", "background"]),
    "tools of every kind": policy(extraMembers=["type"]),
    "a host with a scheme": policy(contentHosts=["https://images.example.com"]),
    "a host with a port": policy(contentHosts=["images.example.com:443"]),
    "a host in capitals": policy(contentHosts=["Images.example.com"]),
    "a glob of hosts": policy(contentHosts=["*.example.com"]),
    "a proxy with a user": proxied("http://ada:x@proxy.example.com:3128"),
    "a proxy with a path": proxied("http://proxy.example.com:3128/x"),
    "a proxy of another kind": proxied("socks5://proxy.example.com:1080"),
    "a proxy without a scheme": proxied("proxy.example.com:3128"),
    "authorities of a proxy without TLS": proxied(caFrom=CA),
    "a star that needs no proxy": proxied(noProxy=["*.example.com"]),
    "a port that needs no proxy": proxied(noProxy=["example.com:443"]),
    "a range that needs no proxy": proxied(noProxy=["10.0.0.0/8"]),
    "authorities without TLS": policy(url="http://llm.llm.svc/v1", network="Private", caFrom=CA),
}


@pytest.fixture(scope="module")
def namespace(server: Api) -> Iterator[str]:
    with server.namespace() as name:
        assert server.create(POLICY, name).ok
        yield name


def messages(manifest: dict[str, Any]) -> list[str]:
    model = Agent if manifest["kind"] == "Agent" else AgentPolicy
    try:
        model.model_validate(manifest)
    except ValidationError as error:
        return [one["msg"].removeprefix("Value error, ") for one in error.errors()]
    return []


@pytest.mark.parametrize("manifest", GOOD, ids=[str(number) for number in range(len(GOOD))])
def test_what_python_reads_the_api_server_takes(server: Api, namespace: str, manifest: dict[str, Any]) -> None:
    assert messages(manifest) == []
    named = edited(manifest, metadata__name="another")
    assert (answer := server.try_create(named, namespace)).ok, answer.text


@requirement("models.governed")
@pytest.mark.parametrize("manifest", BAD.values(), ids=list(BAD))
def test_what_python_refuses_the_api_server_refuses_in_the_same_words(
    server: Api, namespace: str, manifest: dict[str, Any]
) -> None:
    expected = messages(manifest)
    assert expected
    answer = server.try_create(edited(manifest, metadata__name="another"), namespace)
    assert not answer.ok
    assert expected[0] in answer.text


@requirement("models.governed")
def test_a_variable_that_models_set_is_refused_in_the_template(server: Api, namespace: str) -> None:
    manifest = agent("openai/gpt-4o", spec__template__env=[{"name": "OPENAI_BASE_URL", "value": "http://elsewhere"}])
    allowed = edited(policy("openai/*"), spec__models__secretNames=["models"])
    required = AgentPolicy.model_validate(allowed)
    (expected,) = model_refusals(Agent.model_validate(manifest).spec, "support", required.spec)
    answer = server.try_create(edited(manifest, metadata__name="another"), namespace)
    assert not answer.ok
    assert expected in answer.text


@requirement("models.compiled")
def test_the_api_server_takes_the_pod_of_an_agent_with_models(kubectl: Kubectl, namespace: str) -> None:
    local = {**LOCAL, "caFrom": CA}
    built = a_policy().allowing_models("openai/*", "local/*", urls=[local])
    caller = an_agent().in_namespace(namespace).calling("openai/gpt-4o", "openai/gpt-4o-mini", "local/llama")
    manifest = build_workloads(a_placement(caller, policy=built))[0]
    answer = kubectl.run("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(manifest))
    assert answer.ok, answer.text
    volumes = answer.json()["spec"]["template"]["spec"]["volumes"]
    (found,) = [volume["projected"]["sources"] for volume in volumes if volume["name"] == "server-secrets"]
    assert [next(iter(source.values()))["name"] for source in found] == ["openai", "local", "company-ca"]
