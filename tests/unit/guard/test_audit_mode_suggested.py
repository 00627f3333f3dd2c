"""From mode Audit to Enforce by the suggestion: the same reads pass, and a write once a person has permitted it."""

import io
from typing import Any

import pytest
import yaml
from msgspec import structs

from interlock_cli.audit_log import AuditLog
from interlock_cli.suggest import DECIDE, suggest
from interlock_contract.bundle import Bundle, BundleTool, Grant
from interlock_guard.decision.decide import Deny, decide
from tests.support.pins import pinned
from tests.unit.guard.test_audit_mode import audited, told
from tests.unit.guard.test_decide import ALIVE, NOW, a_bundle, call
from tests.unit.guard.test_records import Start, start

__all__ = ["start"]

MATRIX = Grant("Matrix", "agentpolicy/support/dataAccess", (), (), ())
BINDING = Grant("Binding", "mcpbinding/crm", ("contacts",), (), ())
MAPPED = BundleTool("get_contact", "read", "contacts"), BundleTool("add_note", "write", "notes")
READS, WRITES = ("get_contact", "search_orders", "list_tickets"), ("add_note", "create_ticket", "wipe")


@pytest.fixture
def suggestion(start: Start) -> str:
    """What is suggested by the records of calls of all tools."""
    bundle, bench = audited(a_bundle(BINDING, MATRIX, tools=MAPPED)), start()
    for tool in (*READS, *WRITES):
        decision = decide(bundle, ALIVE, call(tool), NOW)
        assert told(decision)[0] == "WouldDeny"
        bench.recorder.record(bundle, call(tool), decision)
    log = AuditLog()
    log.read(io.BytesIO(bench.written()))
    return suggest(log)


def applied(text: str) -> Bundle:
    """Return the bundle in mode Enforce with the suggestion in it, and every tool verified."""
    binding, policy = ((one["spec"] or {}) for one in yaml.safe_load_all(text) if one)
    tools = (*MAPPED, *(BundleTool(**tool) for tool in binding.get("tools", ())))
    rows = policy.get("dataAccess", ())
    matrix: dict[str, Any] = {
        operation: tuple(name for row in rows for name in row.get(operation, ()))
        for operation in ("read", "write", "delete")
    }
    given = {operation: tuple(names) for operation, names in binding.get("permissions", {}).items()}
    grants = structs.replace(BINDING, **given), structs.replace(MATRIX, **matrix)
    return pinned(a_bundle(*grants, tools=tools))


def passing(bundle: Bundle) -> list[str]:
    decisions = {tool: decide(bundle, ALIVE, call(tool), NOW) for tool in (*READS, *WRITES)}
    return [tool for tool, decision in decisions.items() if not isinstance(decision, Deny)]


def test_with_the_suggestion_the_same_reads_pass_and_no_write_does(suggestion: str) -> None:
    assert passing(applied(suggestion)) == list(READS)


@pytest.mark.parametrize(("tool", "resource"), [("create_ticket", "ticket"), ("add_note", "notes"), ("wipe", "crm")])
def test_a_write_passes_once_a_person_has_permitted_it(suggestion: str, tool: str, resource: str) -> None:
    marks = (f"name: {tool},", f"[{resource}]}}", "    write: [", "    delete: [")
    lines = suggestion.splitlines(keepends=True)
    chosen = [line.removeprefix(DECIDE) if any(mark in line for mark in marks) else line for line in lines]
    assert passing(applied("".join(chosen))) == [one for one in (*READS, *WRITES) if one in READS or one == tool]
