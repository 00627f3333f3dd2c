"""`interlock-import suggest`: what it prints of records of mode Audit, and that no server writes into its YAML."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from interlock.api.binding import Tool
from interlock.api.policy import DataAccessRow
from interlock_cli import audit_log
from interlock_cli.audit_log import AuditLog
from interlock_cli.config_json import ImportRefusedError
from interlock_cli.import_servers import main
from interlock_cli.suggest import DECIDE, MOST_ROWS, suggest

BASE = {
    "kind": "decision",
    "decision": "WouldDeny",
    "mode": "Audit",
    "time": "2026-11-30T08:00:00.000Z",
    "namespace": "agents",
    "agent": "triage",
    "environment": "development",
    "source": "crm",
    "binding": "crm-sandbox",
    "matrix": "agentpolicy/support/dataAccess",
}


def unmapped(tool: Any, hint: str = "read", **more: Any) -> dict[str, Any]:
    return {
        **BASE,
        "reason": "ToolNotMapped",
        "tool": tool,
        "hint": hint,
        "operation": "delete",
        "resource": "",
        **more,
    }


def ungranted(operation: str, resource: str, missing: str | None = None, **more: Any) -> dict[str, Any]:
    known = {"operation": operation, "resource": resource, "missing": missing or operation}
    return {**BASE, "reason": "NotGrantedByMatrix", "tool": "mapped", **known, **more}


def log_of(*records: Any) -> AuditLog:
    lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
    log = AuditLog()
    log.read(io.BytesIO("\n".join(lines).encode(errors="surrogatepass")))
    return log


def printed(*records: Any, **options: Any) -> str:
    return suggest(log_of(*records), **options)


def documents(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one]


def decided(text: str) -> str:
    """Return the text as it is once a person has permitted everything."""
    return "".join(line.removeprefix(DECIDE) for line in text.splitlines(keepends=True))


def test_reads_are_ready_and_writes_wait_for_a_person() -> None:
    text = printed(
        unmapped("get_contact"),
        unmapped("get_contact", time="2026-11-30T09:00:00.000Z"),
        unmapped("create_task"),
        unmapped("get_deal", hint="delete"),
        ungranted("read", "notes"),
        ungranted("delete", "notes"),
    )
    binding, policy = documents(text)
    assert (binding["kind"], binding["metadata"]) == ("MCPBinding", {"name": "crm-sandbox", "namespace": "agents"})
    assert binding["spec"] == {
        "source": "crm",
        "tools": [{"name": "get_contact", "operation": "read", "resource": "contact"}],
        "permissions": {"read": ["contact", "notes"]},
    }
    assert (policy["kind"], policy["metadata"]) == ("AgentPolicy", {"name": "support", "namespace": "agents"})
    assert [row["read"] for row in policy["spec"]["dataAccess"]] == [["contact"], ["notes"]]
    assert "get_contact, operation: read, resource: contact}  # seen 2 times, last 2026-11-30T09:00:00.000Z; by" in text
    assert 'by the word "get", but the hints of the server are stricter' in text
    binding, policy = documents(decided(text))
    assert [one["operation"] for one in binding["spec"]["tools"]] == ["write", "read", "delete"]
    assert binding["spec"]["permissions"] == {
        "read": ["contact", "notes"],
        "write": ["task"],
        "delete": ["deal", "notes"],
    }
    rows = policy["spec"]["dataAccess"]
    assert [next(iter(row.keys() - {"agents", "source"})) for row in rows] == [
        "read",
        "read",
        "write",
        "delete",
        "delete",
    ]
    for row in rows:
        DataAccessRow.model_validate(row)
    for tool in binding["spec"]["tools"]:
        Tool.model_validate(tool)


def test_a_tool_whose_annotations_changed_is_one_line_by_the_strictest_of_them() -> None:
    text = printed(unmapped("get_deal"), unmapped("get_deal", hint="delete"), unmapped("get_deal", hint="write"))
    assert [one["spec"] for one in documents(text)] == [{"source": "crm"}, None]
    tools = documents(decided(text))[0]["spec"]["tools"]
    assert tools == [{"name": "get_deal", "operation": "delete", "resource": "deal"}]
    assert "seen 3 times" in text


def test_a_call_that_needs_two_grants_asks_for_both() -> None:
    text = printed(ungranted("write", "tasks", missing="read"))
    assert documents(text)[0]["spec"]["permissions"] == {"read": ["tasks"]}
    assert documents(decided(text))[0]["spec"]["permissions"] == {"read": ["tasks"], "write": ["tasks"]}


def test_where_a_person_decides_on_everything_nothing_takes_part_until_then() -> None:
    text = printed(unmapped("create_task"))
    binding, policy = documents(text)
    assert binding["spec"] == {"source": "crm"}
    assert policy["spec"] is None
    binding, policy = documents(decided(text))
    assert binding["spec"]["permissions"] == {"write": ["task"]}
    assert policy["spec"]["dataAccess"] == [{"agents": ["triage"], "source": "crm", "write": ["task"]}]


def test_a_line_without_its_heading_is_no_yaml_instead_of_another_permission() -> None:
    text = printed(unmapped("create_task"))
    for mark in ("write: [task]", "- {name: create_task"):
        one = "".join(line.removeprefix(DECIDE) if mark in line else line for line in text.splitlines(keepends=True))
        with pytest.raises(yaml.YAMLError):
            documents(one)


def test_the_order_of_records_does_not_matter() -> None:
    records = [
        unmapped("b"),
        unmapped("a"),
        ungranted("read", "z"),
        ungranted("read", "y"),
        unmapped("c", agent="other"),
    ]
    assert printed(*records) == printed(*reversed(records))


def test_objects_of_several_agents_and_namespaces_are_kept_apart() -> None:
    records = [unmapped("get_a"), unmapped("get_b", namespace="other"), unmapped("get_c", agent="writer")]
    found = [(one["kind"], one["metadata"]["namespace"]) for one in documents(printed(*records))]
    assert found == [(kind, place) for kind in ("MCPBinding", "AgentPolicy") for place in ("agents", "other")]
    assert [row["agents"] for row in documents(printed(*records, agent="writer"))[1]["spec"]["dataAccess"]] == [
        ["writer"]
    ]
    assert len(documents(printed(*records, namespace="other"))) == 2


def test_agents_that_narrow_a_source_are_told_so() -> None:
    assert "Agents that narrow this source" in printed(ungranted("read", "x", reason="NotGrantedByAgent"))
    assert "Agents that narrow this source" not in printed(ungranted("read", "x"))


@pytest.mark.parametrize(
    "tool",
    [
        "x\n  - {name: y, operation: read, resource: z}",
        "get_x} # {",
        'get_"x',
        "get_'x",
        "get_x: {a",
        "get_\x1b[2J",
        "get_\u202etxt",
        "get_\u2028x",
        "\ud800get",
        "get_*",
        "!!python/object:x",
        "&a",
        "- x",
        "yes",
        "1e3",
        "#? get",
        "get_" + "x" * 2000,
    ],
)
def test_a_name_that_a_server_chose_is_one_value_or_left_out(tool: str) -> None:
    text = printed(unmapped(tool), unmapped("get_contact"))
    assert all(sign == "\n" or " " <= sign <= "~" for sign in text)
    names = {"get_contact", tool}
    for found in (text, decided(text)):
        binding, policy = documents(found)
        assert {one["name"] for one in binding["spec"]["tools"]} <= names
        assert set(binding["spec"]) == {"source", "tools", "permissions"}
        assert set(policy["spec"]) == {"dataAccess"}


@given(st.text(max_size=60), st.sampled_from(["read", "write", "delete"]))
def test_no_name_adds_a_key_or_an_active_write(tool: str, hint: str) -> None:
    text = printed(unmapped("get_contact"), unmapped(tool or "x", hint))
    binding, policy = documents(text)
    assert set(binding["spec"]) == {"source", "tools", "permissions"}
    assert {one["operation"] for one in binding["spec"]["tools"]} == {"read"}
    assert set(binding["spec"]["permissions"]) == {"read"}
    assert all(set(row) == {"agents", "source", "read"} for row in policy["spec"]["dataAccess"])


@pytest.mark.parametrize(
    "change",
    [
        {"namespace": "a b"},
        {"agent": "x\ny"},
        {"environment": 7},
        {"source": "crm: x"},
        {"binding": "crm\n"},
        {"binding": None},
        {"matrix": "agentpolicy/../x"},
        {"matrix": "agentpolicy/a\nb/dataAccess"},
        {"time": "now # x"},
        {"hint": "none"},
        {"tool": ""},
        {"tool": 7},
        {"reason": "NotGrantedByMatrix", "missing": "read", "resource": "a, b"},
        {"reason": "NotGrantedByMatrix", "missing": "read", "resource": "x" * 64},
        {"reason": "NotGrantedByMatrix", "missing": ["read"], "resource": "x"},
        {"reason": "NotGrantedByMatrix", "missing": "all", "resource": "x"},
    ],
)
def test_a_record_that_no_guard_wrote_is_not_read(change: dict[str, Any]) -> None:
    log = log_of({**unmapped("get_contact"), **change})
    assert (log.calls, log.unread) == ({}, 1)


def test_other_records_and_lines_are_passed_over() -> None:
    log = log_of(
        unmapped("get_contact", decision="Allow"),
        unmapped("get_contact", decision="Deny"),
        {"kind": "outcome", "of": 3},
        "guard: listening",
        '{"a":1,"a":2}',
        "[]",
        "",
        unmapped("get_task"),
    )
    assert [call.tool for call in log.calls] == ["get_task"]
    assert (log.records, log.unread) == (1, 3)


def test_answers_of_the_collector_are_read() -> None:
    answer = {"records": [{"line": json.dumps(unmapped("get_task"))}, {"line": 7}, 7], "next": None}
    log = log_of(answer)
    assert (log.records, log.unread) == (1, 2)


def test_different_calls_and_long_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MOST_CALLS", 3)
    monkeypatch.setattr(audit_log, "LONGEST_LINE", 2048)
    log = log_of(*(unmapped(f"get_{number}") for number in range(5)), "{" * 5000, unmapped("get_0"))
    assert (len(log.calls), log.left_out, log.unread) == (3, 2, 1)
    assert "too many different calls: 2 records" in suggest(log)


def test_no_object_gets_more_than_it_may_have() -> None:
    text = printed(*(unmapped(f"get_thing{number:03}") for number in range(300)))
    binding, policy = documents(text)
    assert len(binding["spec"]["tools"]) == 256
    assert len(binding["spec"]["permissions"]["read"]) == 64
    assert len(policy["spec"]["dataAccess"]) == MOST_ROWS
    assert "at most 256 tools: 44" in text


def test_without_such_records_nothing_is_suggested() -> None:
    with pytest.raises(ImportRefusedError, match="no record is of a call that passed in mode Audit"):
        printed(unmapped("get_task"), agent="other")


def test_the_command_reads_files_and_says_what_it_did_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(f"{json.dumps(unmapped('get_task'))}\nno record\n")
    assert main(["suggest", str(path), "--agent", "triage"]) == 0
    out, err = capsys.readouterr()
    assert documents(out)[0]["spec"]["tools"][0]["name"] == "get_task"
    assert err == "interlock-import: 1 lines are no audit records, or not as a guard writes them: they were not read\n"
    assert main(["suggest", str(tmp_path / "gone")]) == 1
    assert "cannot be read: No such file" in capsys.readouterr().err
