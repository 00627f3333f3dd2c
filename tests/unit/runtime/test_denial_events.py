"""Repeated denials that guards report become one Event a rule, also where several guards report them often."""

import copy
from dataclasses import replace
from datetime import timedelta

from interlock_contract.names import DENIALS_PREFIX
from interlock_contract.selftest_report import RepeatedDenials, dump_denials
from interlock_kube.resource_types import AGENT
from tests.requirements import requirement
from tests.support.builders import NOW, a_binding, a_policy, an_agent
from tests.support.small_operator import SmallOperator

TRIAGE = ("agents", "triage")
DENIED = RepeatedDenials("ToolNotMapped", "crm", "mcpbinding/crm", 10, NOW)


async def an_operator() -> SmallOperator:
    operator = SmallOperator()
    operator.put(a_policy().to_kubernetes())
    operator.put(a_binding().to_kubernetes())
    operator.put(an_agent().to_kubernetes())
    assert await operator.turn(AGENT, TRIAGE)
    return operator


async def report(operator: SmallOperator, *denials: RepeatedDenials, pod: str = "triage-0") -> None:
    (path,) = operator.client.of_kind("Lease")
    lease = copy.deepcopy(operator.client.objects[path])
    lease["metadata"].setdefault("annotations", {})[f"{DENIALS_PREFIX}{pod}"] = dump_denials(denials)
    operator.client.put(path, lease)
    operator.watch_children()
    assert await operator.turn(AGENT, TRIAGE)


def notes(operator: SmallOperator) -> list[str]:
    events = operator.client.of_kind("Event").values()
    return [event["note"] for event in events if event["reason"] == "RequestsDenied"]


@requirement("status.denials")
async def test_one_rule_that_several_guards_report_is_one_event_with_rule_and_count() -> None:
    operator = await an_operator()
    await report(operator, DENIED)
    await report(operator, DENIED, pod="triage-1")
    await report(operator, RepeatedDenials("ToolNotMapped", "crm", "mcpbinding/crm", 10, NOW + timedelta(seconds=30)))
    command = "kubectl -n agents logs -l interlock.dev/guard=triage -c guard"
    about = "reason ToolNotMapped, source crm, rule mcpbinding/crm"
    assert notes(operator) == [f"10 requests denied within a minute: {about}; run: {command}"]


@requirement("status.denials")
async def test_the_event_of_a_report_has_the_same_name_after_a_restart() -> None:
    operators = [await an_operator() for _ in range(2)]
    for operator in operators:
        await report(operator, DENIED)
    first, second = ([path for path in one.client.of_kind("Event") if "triage." in path] for one in operators)
    assert set(first) & set(second)


@requirement("status.denials")
async def test_reports_that_are_old_or_ahead_and_more_rules_than_are_remembered_post_nothing() -> None:
    operator = await an_operator()
    for at in (NOW - timedelta(minutes=6), NOW + timedelta(minutes=2)):
        await report(operator, RepeatedDenials("OutOfScope", "crm", "x", 10, at))
    assert notes(operator) == []
    for number in range(100):
        await report(operator, RepeatedDenials("OutOfScope", "crm", f"row {number}", 10, NOW))
    assert len(notes(operator)) == 64


async def test_requests_that_passed_in_mode_audit_are_another_event_than_denials_of_the_same_rule() -> None:
    operator = await an_operator()
    await report(operator, DENIED, replace(DENIED, is_audit=True), replace(DENIED, is_audit=True))
    await report(operator, replace(DENIED, is_audit=True), pod="triage-1")
    events = operator.client.of_kind("Event").values()
    (note,) = (event["note"] for event in events if event["reason"] == "RequestsWouldBeDenied")
    assert note.startswith("10 requests within a minute passed in mode Audit, which would have been denied: reason")
