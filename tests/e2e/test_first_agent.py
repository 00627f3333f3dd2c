"""examples/01-first-agent and 03-denied-tool on real pods."""

import hashlib
import json
from typing import Any

import pytest

from tests.e2e.live import Live, eventually
from tests.e2e.probes import AS_THE_AGENT
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.timeout(300)]

AGENT = "first-agent"
CANARY = "canary-4711-do-not-leak"


def _with_a_secret(objects: list[dict[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """Return the example with a key for its server, which stays in the sandbox all the same."""
    reference = {"secretKeyRef": {"name": "crm", "key": "token"}}
    find(objects, "MCPBinding")["spec"]["server"]["stdio"]["env"].append({"name": "CRM_TOKEN", "valueFrom": reference})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "crm", "namespace": namespace}}
    return [secret | {"stringData": {"token": CANARY}}, *objects]


@pytest.fixture(scope="module")
def first(shared: Live) -> Live:
    """An agent for tests that only read, and leave its objects as they are."""
    shared.apply(*_with_a_secret(example_objects("01-first-agent", shared.namespace), shared.namespace))
    shared.until_ready(AGENT)
    return shared


def _decided(live: Live, agent: str, tool: str) -> set[tuple[str, str]]:
    return {(one["decision"], one["reason"]) for one in live.decisions(agent) if one["tool"] == tool}


def _until_decided(live: Live, agent: str, tool: str) -> set[tuple[str, str]]:
    eventually(lambda: bool(_decided(live, agent, tool)), 30, lambda: live.agent_log(agent)[-2000:])
    return _decided(live, agent, tool)


@requirement("guard.on-a-cluster")
def test_an_allowed_call_reaches_the_server_and_an_unmapped_tool_and_a_delete_do_not(first: Live) -> None:
    assert {decision for decision, _ in _until_decided(first, AGENT, "list_contacts")} == {"Allow"}
    assert _until_decided(first, AGENT, "export_everything") == {("Deny", "ToolNotMapped")}
    assert _until_decided(first, AGENT, "delete_contact") == {("Deny", "NotGrantedByBinding")}
    first.until_said(
        AGENT,
        "allowed: list_contacts region=eu-west: 2 found",
        "denied: ToolNotMapped export_everything",
        "denied: NotGrantedByBinding delete_contact",
    )


@requirement("guard.selftest-on-a-cluster")
def test_the_guard_of_a_real_pod_runs_the_self_test_of_each_bundle(first: Live) -> None:
    live = first

    def report() -> Any:
        """Return the digest in PolicyEnforced, if it is that of the current bundle."""
        maps = live.items("configmaps", f"interlock.dev/agent={AGENT},app.kubernetes.io/component=bundle")
        text = str(maps[0]["data"]["bundle.json"])
        said = live.get("agents.interlock.dev", AGENT)["status"].get("enforcement", {}).get("bundleDigest")
        is_true = live.condition(AGENT, "PolicyEnforced").get("status") == "True"
        return said if is_true and said == hashlib.sha256(text.encode()).hexdigest() else None

    eventually(lambda: report() is not None, 30, lambda: str(live.condition(AGENT, "PolicyEnforced")))
    before = report()
    rows = live.get("agentpolicies", "development")["spec"]["dataAccess"]
    rows[0]["read"] = [*rows[0]["read"], "notes"]  # no tool reads them, so no other test sees a difference
    change = json.dumps({"spec": {"dataAccess": rows}})
    live.kubectl("-n", live.namespace, "patch", "agentpolicies", "development", "--type=merge", "-p", change)
    eventually(lambda: report() not in (None, before), 30, lambda: str(live.condition(AGENT, "PolicyEnforced")))
    live.only_pod(AGENT, "guard")  # a policy that grants more begins a revision: what follows reads one pod's records
    live.until_ready(AGENT)


def test_a_decision_record_names_caller_request_and_rule(first: Live) -> None:
    _until_decided(first, AGENT, "create_task")
    record = next(one for one in first.decisions(AGENT) if one["tool"] == "create_task")
    stage = first.stage(AGENT)
    expected = {
        "agent": AGENT,
        "revision": stage["revision"],
        "stage": "development",
        "source": "crm",
        "method": "tools/call",
        "operation": "write",
        "resource": "tasks",
        "decision": "Allow",
        "rule": "agentpolicy/development/dataAccess[0]",
    }
    assert {name: record[name] for name in expected} == expected
    assert record["time"]


def test_the_agent_container_finds_no_token_no_pipe_and_no_secret(first: Live) -> None:
    assert first.places(AGENT, "agent", CANARY) == []
    assert CANARY not in first.agent_log(AGENT)
    kinds = "configmaps,deployments,pods,events,agents.interlock.dev"
    assert CANARY not in first.kubectl("-n", first.namespace, "get", kinds, "-o", "yaml")
    found = first.places(AGENT, "mcp-crm", CANARY)
    assert (
        "/proc/1/environ" in found
    )  # where it belongs: a process that reads this file has the container's variables as well
    assert all(place.endswith("/environ") for place in found)
    for path in ("/var/run/secrets", "/run/interlock"):
        assert first.exec(AGENT, "agent", "ls", path).returncode != 0, path
    variables = first.exec(AGENT, "agent", "env").stdout
    assert "CRM_ACCOUNT" not in variables
    assert f"INTERLOCK_AGENT={AGENT}\n" in variables
    processes = first.exec(AGENT, "agent", "sh", "-c", "cat /proc/[0-9]*/cmdline").stdout
    assert "crm_server" not in processes


def test_a_guard_may_read_its_own_agent_and_bundle_and_nothing_else(first: Live) -> None:
    [bundle] = first.items("configmaps", "app.kubernetes.io/component=bundle")
    account = f"--as=system:serviceaccount:{first.namespace}:{bundle['metadata']['name']}-guard"

    def may(*what: str) -> bool:
        return first.attempt("-n", first.namespace, "auth", "can-i", *what, account).returncode == 0

    assert may("watch", f"agents.interlock.dev/{AGENT}")
    assert may("watch", f"configmaps/{bundle['metadata']['name']}")
    for forbidden in (
        ("list", "agents.interlock.dev"),
        ("get", "agents.interlock.dev/another"),
        ("get", "configmaps/another"),
        ("list", "secrets"),
        ("patch", f"agents.interlock.dev/{AGENT}"),
        ("patch", f"agents.interlock.dev/{AGENT}", "--subresource=status"),
        ("create", "pods"),
    ):
        assert not may(*forbidden), forbidden


@requirement("agent-key.on-a-cluster")
def test_a_server_in_the_agents_pod_is_not_taken_for_the_agent(first: Live) -> None:
    urls = [f"http://127.0.0.1:7410{path}" for path in ("/mcp/crm", "/interlock-guessed/mcp/crm")]
    tries = json.dumps([(url, "127.0.0.1:7410") for url in urls])

    done = first.exec(AGENT, "mcp-crm", "python", "-c", AS_THE_AGENT, tries)
    answers = json.loads(done.stdout)
    assert all(answer.startswith("403 ") and "AgentKeyRefused" in answer for answer in answers), answers
    config = first.exec(AGENT, "agent", "cat", "/etc/interlock/mcp.json").stdout
    key = json.loads(config)["mcpServers"]["crm"]["url"].split("/")[3]
    assert len(first.places(AGENT, "agent", key)) > 0, "where it belongs"
    for container in ("guard", "mcp-crm"):
        assert first.places(AGENT, container, key) == [], container
    assert key not in first.log(AGENT, "guard")
    assert key not in first.log_of("interlock")


def test_another_pod_cannot_reach_the_agents_tools(first: Live) -> None:
    [pod] = first.pods(AGENT)
    reached = first.exec(
        AGENT,
        "mcp-crm",
        "python",
        "-c",
        "import socket,sys; s=socket.socket(); s.settimeout(2); sys.exit(s.connect_ex((sys.argv[1], 7410)) == 0)",
        pod["status"]["podIP"],
    )
    assert reached.returncode == 0, "the guard's MCP port answers on more than loopback"


def test_each_layer_denies_what_it_does_not_give(first: Live) -> None:
    first.apply(*example_objects("03-denied-tool", first.namespace))
    first.until_ready("contact-reader")
    expected = {
        "list_contacts": ("Allow", ""),
        "list_opportunities": ("Deny", "NotGrantedByAgent"),
        "create_task": ("Deny", "NotGrantedByMatrix"),
        "delete_contact": ("Deny", "NotGrantedByBinding"),
        "export_everything": ("Deny", "ToolNotMapped"),
    }
    found: dict[str, Any] = {tool: _until_decided(first, "contact-reader", tool) for tool in expected}
    assert {tool: decision for tool, ((decision, _),) in found.items()} == {
        tool: decision for tool, (decision, _) in expected.items()
    }
    assert {tool: reason for tool, ((decision, reason),) in found.items() if decision == "Deny"} == {
        tool: reason for tool, (decision, reason) in expected.items() if decision == "Deny"
    }
