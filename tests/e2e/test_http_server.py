"""examples/07-http-server on real pods: a server over HTTP, and its key, which only the guard has."""

import pytest

from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.timeout(300)]

AGENT = "sales-reader"
CANARY = "canary-8152-do-not-leak"
EXPECTED = (
    "tools: create_task, get_contact, list_contacts, list_opportunities",
    "allowed: list_contacts region=eu-west: 2 found",
    "allowed: list_opportunities region=eu-west: 1 found",
    "denied: ArgumentNotAllowed list_contacts region=us-east",
    "denied: ArgumentNotAllowed create_task region=us-east",
    "allowed: get_contact id=eu-1",
    "allowed: read crm://contacts/eu-west",
    "denied: ResourceNotMapped read crm://contacts/us-east",
    "allowed: prepare_call id=eu-1: You are about to call Test Person One",
    "denied: ToolNotMapped export_everything",
    "denied: ToolNotMapped delete_contact",
)


@pytest.fixture(scope="module")
def sales(shared: Live) -> Live:
    objects = example_objects("07-http-server", shared.namespace)
    find(objects, "Secret")["stringData"]["authorization"] = f"Bearer {CANARY}"
    shared.apply(*objects)
    shared.until_ready(AGENT)
    eventually(lambda: EXPECTED[-1] in shared.agent_log(AGENT), 60, lambda: shared.agent_log(AGENT)[-3000:])
    return shared


@requirement("http.on-a-cluster")
def test_globs_rules_resources_and_prompts_hold_on_a_server_over_http(sales: Live) -> None:
    log = sales.agent_log(AGENT)
    assert [line for line in EXPECTED if line not in log] == [], log
    rules = {(one["tool"], one["decision"]): one["rule"] for one in sales.decisions(AGENT)}
    assert rules["list_contacts", "Deny"] == "mcpbinding/sales-crm/tools[list_*]/arguments[0]"
    assert rules["list_opportunities", "Allow"] == "agentpolicy/sales/dataAccess[0]"
    assert rules["export_everything", "Deny"] == "mcpbinding/sales-crm"


@requirement("http.on-a-cluster")
def test_the_key_of_the_server_is_in_the_guard_and_nowhere_that_agents_and_readers_see(sales: Live) -> None:
    sales.assert_only_the_guard_has(
        AGENT, CANARY, "agents,agentpolicies,mcpbindings,configmaps,deployments,pods,events"
    )


def test_without_the_key_the_server_answers_no_one(sales: Live) -> None:
    asks = (
        "import sys, urllib.request, urllib.error\n"
        "try: urllib.request.urlopen(sys.argv[1], data=b'{}', timeout=5)\n"
        "except urllib.error.HTTPError as error: print(error.code)"
    )
    answer = sales.exec(AGENT, "agent", "python", "-c", asks, "http://sales-crm:8000/mcp")
    assert answer.stdout == "401\n", answer.stderr
