"""On a network that enforces nothing: the same cluster, with that part of its network switched off."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e.live import Live, eventually
from tests.e2e.test_isolation import staged
from tests.requirements import requirement
from tests.support.bounds import TOLERANCE, check_promise

pytestmark = [pytest.mark.kind, pytest.mark.exclusive, pytest.mark.nightly, pytest.mark.timeout(600)]

REFUSED_SECONDS = 30.0
AGENT = "first-agent"
ROUTER = ("-n", "kube-system", "daemonset/kube-router")


def enforce(live: Live, *, enforces: bool) -> None:
    """Switch the part of the network that enforces NetworkPolicies on or off."""
    kube = live.within("kube-system")
    [container] = kube.get("daemonset", "kube-router")["spec"]["template"]["spec"]["containers"]
    wanted = f"--run-firewall={str(enforces).lower()}"
    args = [wanted if one.startswith("--run-firewall=") else one for one in container["args"]]
    body = {"spec": {"template": {"spec": {"containers": [{"name": container["name"], "args": args}]}}}}
    kube.kubectl("-n", "kube-system", "patch", "daemonset", "kube-router", "-p", json.dumps(body))
    kube.kubectl("-n", "kube-system", "rollout", "status", "daemonset/kube-router", "--timeout=120s")


@pytest.fixture
def open_network(live: Live) -> Iterator[Live]:
    if not live.within("kube-system").items("daemonsets", "k8s-app=kube-router"):
        pytest.skip("this cluster's network is not kube-router, so there is no known way to switch policies off")
    enforce(live, enforces=False)
    try:
        yield live
    finally:
        enforce(live, enforces=True)


@requirement("isolation.open-on-a-cluster")
def test_staging_and_production_are_refused_with_the_reason_and_development_says_so(open_network: Live) -> None:
    live = open_network
    names = {environment: f"in-{environment}" for environment in ("development", "staging", "production")}
    objects = staged(live.namespace, *names.values())
    policy = next(one for one in objects if one["kind"] == "AgentPolicy")
    policy["spec"]["environments"] = [{"name": "development", "isolation": "Separate"}]
    policy["spec"]["rollout"] = {"minStaging": "0s", "minLimitedScope": "0s", "requireLimitedScope": False}
    for one in objects:
        if one["kind"] == "MCPBinding":
            one["spec"]["environments"] = list(names)
        if one["kind"] == "Agent":
            one["spec"]["environment"] = one["metadata"]["name"].removeprefix("in-")
    began = time.monotonic()
    live.apply(*objects)

    for environment in ("staging", "production"):
        name = names[environment]
        left = TOLERANCE * REFUSED_SECONDS - (time.monotonic() - began)
        eventually(
            lambda name=name: live.condition(name, "Ready")["reason"] == "NetworkOpen",
            left,
            lambda name=name: json.dumps(live.get("agents.interlock.dev", name)["status"]["conditions"], indent=1),
        )
        check_promise(time.monotonic() - began, REFUSED_SECONDS, f"{environment} is refused on an open network")
        for kind, status in (("Ready", "False"), ("Stalled", "True"), ("EgressEnforced", "False")):
            found = live.condition(name, kind)
            assert (found["status"], found["reason"]) == (status, "NetworkOpen"), kind
            assert "the cluster's network enforces no NetworkPolicy: " in found["message"]
            assert f"in {environment} it does not start" in found["message"]
        assert live.agent_log(name) == "", "no process of the agent has started"
    eventually(
        lambda: live.condition(names["development"], "EgressEnforced")["reason"] == "NetworkOpen",
        60,
        lambda: str(live.condition(names["development"], "EgressEnforced")),
    )
    live.until_ready(names["development"])
    assert "in development it runs nevertheless" in live.condition(names["development"], "EgressEnforced")["message"]

    enforce(live, enforces=True)
    for environment in ("staging", "production"):
        live.until_ready(names[environment], 180)
        assert live.condition(names[environment], "EgressEnforced")["status"] == "True"
