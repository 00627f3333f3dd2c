"""Health of the operator: a dead watch is reported, an API server that is away is waited for."""

import os
from pathlib import Path

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import eventually
from tests.integration.operator.conftest import Operators, a_cluster, a_sandbox, operators_of
from tests.integration.operator.fault_proxy import Call, FaultProxy
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

LATE_SECONDS = "3"
BACK_SECONDS = 60.0


def is_watch_of_kopf(call: Call) -> bool:
    """A watch of Agents as kopf asks for it."""
    return "/agents?" in call.path and "watch=true" in call.path


def is_watch_of_kill_path(call: Call) -> bool:
    return "/agents?" in call.path and "watch=1" in call.path


@pytest.fixture
def impatient(proxy: FaultProxy, operators: Operators) -> OperatorProcess:
    """An operator behind the proxy that waits 3 s for a late watch."""
    return operators.use(proxy.url, INTERLOCK_WATCH_LATE_SECONDS=LATE_SECONDS)


def test_an_idle_operator_is_healthy(operator: OperatorProcess) -> None:
    assert operator.health() == (200, "ok\n")


@requirement("operator.liveness")
def test_a_frozen_watch_of_the_handlers_makes_it_unhealthy_after_a_missed_change(
    impatient: OperatorProcess, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    # On a busy machine a change may have come as late as it waits for.
    eventually(lambda: impatient.health() == (200, "ok\n"), lambda: f"it is healthy: {impatient.health()}")
    with proxy.freezing(is_watch_of_kopf):
        sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"labels": {"changed": "yes"}}})
        eventually(lambda: impatient.health()[0] == 503, "it says that it is unhealthy")
        assert "the handlers did not see a change of" in impatient.health()[1]
    eventually(lambda: impatient.health()[0] == 200, "it is well again once the change has come")


def test_a_frozen_watch_of_the_kill_path_makes_it_unhealthy_after_a_missed_change(
    impatient: OperatorProcess, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    with proxy.freezing(is_watch_of_kill_path):
        sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"labels": {"changed": "yes"}}})
        eventually(lambda: impatient.health()[0] == 503, "it says that it is unhealthy")
        assert "the second watch did not see a change of" in impatient.health()[1]


def test_an_api_server_that_was_away_is_taken_up_again(
    proxied: OperatorProcess, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage", "answer")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    seen = len(proxied.messages())
    with proxy.away():
        eventually(lambda: "watch interrupted" in proxied.messages()[seen:], "it notices")
        sandbox.create("answer")
    sandbox.wait_ready("answer", BACK_SECONDS)
    assert proxied.is_running, "it went through this without a restart"
    sandbox.api.delete("agentpolicies", sandbox.namespace, objects.POLICY)
    eventually(lambda: not sandbox.children("triage"), "the refused agents' children are pruned")
    eventually(lambda: proxied.health() == (200, "ok\n"), lambda: f"it is healthy: {proxied.health()}")


@pytest.mark.nightly
def test_an_api_server_that_was_restarted_is_taken_up_again(tmp_path: Path) -> None:
    # A cluster of its own: what simulates pods does not get over a restart of the API server.
    with a_cluster(f"interlock-away-{os.getpid()}") as cluster, operators_of(cluster, tmp_path) as operators:
        operator = operators.use()
        with a_sandbox(operators) as sandbox:
            sandbox.apply_policy_and_bindings("triage", "answer")
            sandbox.create("triage")
            sandbox.wait_ready("triage")
            cluster.kwokctl("stop", "cluster")
            operators.api.close()
            assert operator.is_running
            cluster.kwokctl("start", "cluster", "--wait", "60s")
            operators.api.close()
            eventually(lambda: _is_taken(sandbox, "answer"), "the API server is back", BACK_SECONDS)
            deployed = lambda: sandbox.condition("answer", "Deployed").get("status") == "True"  # noqa: E731
            eventually(deployed, "a new Agent has its children", BACK_SECONDS)
            assert operator.is_running, "it went through this without a restart"
            sandbox.api.delete("agentpolicies", sandbox.namespace, objects.POLICY)
            # Nothing ends the pods any longer, so their NetworkPolicies stay.
            left = lambda: set(sandbox.children("triage")) - {"NetworkPolicy"}  # noqa: E731
            eventually(lambda: not left(), "the refused agents' children are pruned")
            assert operator.health() == (200, "ok\n")


def _is_taken(sandbox: Sandbox, name: str) -> bool:
    try:
        sandbox.create(name)
    except OSError:
        sandbox.api.close()
        return False
    return True
