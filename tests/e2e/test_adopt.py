"""examples/12-adopt on real pods: from mode Audit, by the suggestion, to Enforce."""

import io

import pytest
import yaml

from interlock_cli.audit_log import AuditLog
from interlock_cli.suggest import suggest
from tests.e2e.live import Live, eventually
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(300)]

AGENT = "newcomer"
READS = {"get_contact", "list_contacts", "list_opportunities"}
TOOLS = READS | {"create_task", "export_everything", "delete_contact"}


def test_an_agent_that_works_already_is_recorded_suggested_and_enforced(shared: Live) -> None:
    live = shared
    live.apply(*example_objects("12-adopt", live.namespace))
    live.until_ready(AGENT)
    live.until_said(AGENT, "allowed: list_contacts", "allowed: export_everything", "allowed: delete_contact")
    eventually(
        lambda: (
            live.condition(AGENT, "PolicyEnforced").get("reason") == "Audit"
            and "; 0 calls of tools" not in live.condition(AGENT, "PolicyEnforced")["message"]
        ),
        60,
        lambda: str(live.condition(AGENT, "PolicyEnforced")),
    )
    calls = [one for one in live.decisions(AGENT) if one["tool"] in TOOLS]
    assert {one["tool"] for one in calls} == TOOLS
    assert {(one["decision"], one["reason"]) for one in calls} == {("WouldDeny", "ToolNotMapped")}

    log = AuditLog()
    log.read(io.BytesIO("\n".join(live.records(AGENT)).encode()))
    binding, policy = (one for one in yaml.safe_load_all(suggest(log)) if one)
    assert {tool["name"] for tool in binding["spec"]["tools"]} == READS
    assert [row["read"] for row in policy["spec"]["dataAccess"]] == [["contact"], ["contacts"], ["opportunities"]]

    applied = example_objects("12-adopt", live.namespace, "1-policy.yaml", "2-binding.yaml")
    own, rules = find(applied, "MCPBinding"), find(applied, "AgentPolicy")
    own["spec"] |= {"tools": binding["spec"]["tools"], "permissions": binding["spec"]["permissions"]}
    rules["spec"] = {"dataAccess": policy["spec"]["dataAccess"]}
    live.apply(own, rules)
    live.until_condition(AGENT, "PolicyEnforced", "True")
    live.only_pod(AGENT, "guard")
    live.until_said(
        AGENT,
        "allowed: list_contacts",
        "denied: ToolNotMapped create_task",
        "denied: ToolNotMapped export_everything",
        "denied: ToolNotMapped delete_contact",
    )
