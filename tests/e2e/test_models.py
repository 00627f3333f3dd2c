"""examples/09-models on real pods: only the guard has the provider's key, in a shared and in a separate pod."""

from typing import Any

import pytest

from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(300)]

AGENT, APART = "writer", "writer-apart"
CANARY = "canary-4417-do-not-leak"
EXPECTED = (
    "allowed: chat: You said: good morning",
    "allowed: stream: You said: good morning (in 4 parts)",
    "denied: ModelNotAllowed another model",
    "denied: HostedToolNotAllowed a search by the provider",
    "denied: MethodNotAllowed files",
    "denied: ModelKeyRefused a key that the image brought along",
)


def in_a_pod_of_its_own(agent: dict[str, Any]) -> dict[str, Any]:
    """Return the agent in staging, where it and its guard have a pod each."""
    return {
        **agent,
        "metadata": {**agent["metadata"], "name": APART},
        "spec": {**agent["spec"], "environment": "staging"},
    }


@pytest.fixture(scope="module")
def models(shared: Live) -> Live:
    objects = example_objects("09-models", shared.namespace)
    find(objects, "Secret")["stringData"]["key"] = CANARY
    shared.apply(*objects, in_a_pod_of_its_own(find(objects, "Agent")))
    for agent in (AGENT, APART):
        shared.until_ready(agent, 120)
        eventually(
            lambda agent=agent: missing(shared, agent) == [], 60, lambda agent=agent: shared.agent_log(agent)[-3000:]
        )
    return shared


def missing(live: Live, agent: str) -> list[str]:
    log = live.agent_log(agent)
    return [line for line in EXPECTED if line not in log]


@requirement("models.on-a-cluster")
@pytest.mark.parametrize("agent", [AGENT, APART])
def test_calls_pass_with_the_guards_key_and_what_is_refused_reaches_no_provider(models: Live, agent: str) -> None:
    recorded = {(one["tool"], one["method"], one["decision"]) for one in models.decisions(agent)}
    assert ("openai/gpt-4o-mini", "chat/completions", "Allow") in recorded
    assert ("openai/gpt-4o", "chat/completions", "Deny") in recorded
    assert {one["source"] for one in models.decisions(agent)} == {"models"}
    provider = models.kubectl("-n", models.namespace, "logs", "deployment/models")
    assert set(provider.splitlines()) == {"asked: gpt-4o-mini"}


@requirement("models.on-a-cluster")
@pytest.mark.parametrize("agent", [AGENT, APART])
def test_the_key_of_the_provider_is_in_the_guard_and_nowhere_that_agents_and_readers_see(
    models: Live, agent: str
) -> None:
    models.assert_only_the_guard_has(agent, CANARY, "agents,agentpolicies,configmaps,deployments,pods,events")


ASK = (
    "import json, sys, urllib.request, urllib.error\n"
    "try: print(urllib.request.urlopen(sys.argv[1], data=b'{}', timeout=5).status)\n"
    "except urllib.error.HTTPError as error: print(error.code)\n"
    "except OSError: print('closed')\n"
)


@requirement("models.on-a-cluster")
def test_round_its_guard_an_agent_gets_no_answer_of_the_provider(models: Live) -> None:
    address = models.get("service", "models")["spec"]["clusterIP"]
    asked = ("python", "-c", ASK, f"http://{address}:8000/v1/chat/completions")
    assert models.exec(AGENT, "agent", *asked).stdout == "401\n", "it has no key, and shares the guard's network"
    assert models.exec(APART, "agent", *asked).stdout == "closed\n"
