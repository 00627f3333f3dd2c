import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from interlock_contract.audit_chain import GuardId, Head, Line, open_line
from interlock_contract.bundle import (
    AgentIdentity,
    Bundle,
    BundleAuditPolicy,
    BundleSource,
    BundleTool,
    Grant,
    digest,
    dump_bundle,
)
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_guard.audit.recorder import MAX_ARGUMENTS, Caller, Recorder, RecordFailed, Writer
from interlock_guard.audit.spool import Position, Spool, SpoolLimits
from interlock_guard.decision.decide import Allow, DecisionInput, Deny, DenyReason
from tests.requirements import requirement

GUARD = GuardId("agents", "triage-0123456789-abcde", "0123456789abcdef")
READ = BundleTool("get_contact", "read", "contacts", ())
WRITE = BundleTool("create_task", "write", "tasks", ())
DELETE = BundleTool("delete_task", "delete", "tasks", ())
GRANTS = (Grant("Binding", "b", ("*",), (), ()), Grant("Matrix", "m", ("*",), (), ()))
BUNDLE = Bundle(
    4,
    AgentIdentity("triage", "agents", "u-1", "grace@example.com"),
    "0123456789",
    "staging",
    "staging",
    (),
    (BundleSource("crm", "crm-sandbox", "stdio", (READ, WRITE, DELETE), GRANTS),),
)
DENIED = Deny(DenyReason.TOOL_NOT_MAPPED, "mcpbinding/crm", "This tool is not available to this agent.")


def a_call(**arguments: Any) -> DecisionInput:
    return DecisionInput("crm", "tools/call", "get_contact", arguments)


def allowed(tool: BundleTool = READ) -> Allow:
    return Allow("agentpolicy/support/dataAccess[0]", tool)


class Bench:
    """A recorder, its spool, and a pipe as its standard output."""

    def __init__(self, folder: Path, limits: SpoolLimits | None = None, *, guard: GuardId = GUARD) -> None:
        self.spool = Spool(folder, limits or SpoolLimits(), keeps=True)
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.writing = writing
        clock = lambda: datetime(2026, 3, 2, 9, tzinfo=UTC)  # noqa: E731
        self.recorder = Recorder(Writer("triage", guard), self.spool, clock, writing)

    def stored(self) -> list[Line]:
        lines, position = self.spool.read(Position(), 2**24)
        found = lines.splitlines()
        while lines:
            lines, position = self.spool.read(position, 2**24)
            found += lines.splitlines()
        return [open_line(line) for line in found]

    def written(self) -> bytes:
        return os.read(self.reading, 2**20)

    def close(self) -> None:
        self.spool.close()
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    started: list[Bench] = []

    def begin(limits: SpoolLimits | None = None, *, guard: GuardId = GUARD) -> Bench:
        started.append(Bench(tmp_path, limits, guard=guard))
        return started[-1]

    yield begin
    for one in started:
        one.close()


Start = Callable[..., Bench]


def test_a_decision_has_every_field(start: Start) -> None:
    bench = start()
    seq = bench.recorder.record(BUNDLE, a_call(id="1"), allowed(), Caller("t-1", "a" * 32))
    fields = {
        name: value for name, value in bench.stored()[seq].fields.items() if name not in ("prev", "prevTime", "hash")
    }
    assert fields == {
        "guard": GUARD.text,
        "seq": 1,
        "kind": "decision",
        "time": "2026-03-02T09:00:00.000Z",
        "agent": "triage",
        "namespace": "agents",
        "owner": "grace@example.com",
        "revision": "0123456789",
        "stage": "staging",
        "environment": "staging",
        "task": "t-1",
        "trace": "a" * 32,
        "source": "crm",
        "method": "tools/call",
        "tool": "get_contact",
        "uri": "",
        "prompt": "",
        "operation": "read",
        "resource": "contacts",
        "decision": "Allow",
        "reason": "",
        "rule": "agentpolicy/support/dataAccess[0]",
        "message": "",
        "argumentsDigest": digest_of('{"id":"1"}'),
    }


def test_what_is_on_standard_output_is_what_is_in_the_spool(start: Start) -> None:
    bench = start()
    bench.recorder.record(BUNDLE, a_call(), allowed())
    bench.recorder.record(BUNDLE, a_call(), DENIED)
    assert bench.written() == bench.spool.read(Position(), 2**20)[0]


@requirement("records.chain")
def test_records_are_a_chain_from_the_genesis_on(start: Start) -> None:
    bench = start()
    for _ in range(3):
        bench.recorder.complete(bench.recorder.record(BUNDLE, a_call(), allowed()), "Answered", 0.25)
    head = Head()
    for line in bench.stored():
        assert (line.seq, line.prev) == (head.next, head.hash)
        head = line.head
    assert [line.kind for line in bench.stored()] == ["genesis", *["decision", "outcome"] * 3]
    outcome = bench.stored()[2].fields
    assert (outcome["of"], outcome["outcome"], outcome["latencySeconds"]) == (1, "Answered", 0.25)


def test_the_genesis_names_the_bundle_and_the_chain_of_the_guard_before(start: Start) -> None:
    first = start()
    first.recorder.record(BUNDLE, a_call(), allowed())
    second = start(guard=replace(GUARD, incarnation="f" * 16))
    second.recorder.record(BUNDLE, a_call(), allowed())
    genesis = [line for line in second.stored() if line.kind == "genesis"]
    last = second.stored()[1]
    assert [line.fields["bundle"] for line in genesis] == [digest(dump_bundle(BUNDLE))] * 2
    assert genesis[0].fields["previous"] is None
    assert genesis[1].fields["previous"] == {"guard": GUARD.text, "seq": 1, "hash": last.hash, "time": last.time}


def test_another_bundle_is_recorded_before_the_first_decision_by_it(start: Start) -> None:
    bench = start()
    other = structs.replace(BUNDLE, revision="abcdef0123")
    for bundle in (None, BUNDLE, BUNDLE, other):
        bench.recorder.record(bundle, a_call(), DENIED)
    assert [(line.kind, line.fields.get("bundle")) for line in bench.stored()] == [
        ("genesis", ""),
        ("decision", None),
        ("bundle", digest(dump_bundle(BUNDLE))),
        ("decision", None),
        ("decision", None),
        ("bundle", digest(dump_bundle(other))),
        ("decision", None),
    ]


def test_arguments_are_recorded_by_their_digest_alone(start: Start) -> None:
    bench = start()
    bench.recorder.record(BUNDLE, a_call(email="ada@example.com"), allowed())
    assert "ada@" not in bench.written().decode()
    assert bench.stored()[1].fields["argumentsDigest"] == digest_of(canonicalize({"email": "ada@example.com"}))


@requirement("records.redacted")
def test_a_policy_may_have_them_recorded_without_what_it_redacts(start: Start) -> None:
    bench = start()
    bundle = structs.replace(BUNDLE, audit=BundleAuditPolicy("Redacted", ("/email",)))
    bench.recorder.record(bundle, a_call(id="1", email="ada@example.com"), allowed())
    assert "ada@" not in bench.written().decode()
    assert bench.stored()[1].fields["arguments"] == {"id": "1", "email": "[redacted]"}


def test_large_arguments_are_recorded_by_their_digest_alone(start: Start) -> None:
    bench = start()
    bundle = structs.replace(BUNDLE, audit=BundleAuditPolicy("Redacted"))
    bench.recorder.record(bundle, a_call(text="é" * MAX_ARGUMENTS), allowed())
    assert "arguments" not in bench.stored()[1].fields


def test_a_request_without_arguments_has_no_digest_of_any(start: Start) -> None:
    bench = start()
    bench.recorder.record(BUNDLE, DecisionInput("crm", "tools/list"), Allow("mcpbinding/crm-sandbox"))
    assert bench.stored()[1].fields["argumentsDigest"] == ""


def test_even_the_longest_names_make_a_line_that_can_be_read(start: Start) -> None:
    bench = start()
    bundle = structs.replace(BUNDLE, audit=BundleAuditPolicy("Redacted"))
    arguments = {"t": "\x01" * (MAX_ARGUMENTS // 6 - 10)}
    request = DecisionInput("\x01" * 8000, "\U0001f600" * 128, "\U0001f600" * 1024, arguments)
    denial = Deny(DenyReason.ARGUMENT_NOT_ALLOWED, "\U0001f600" * 2000, "\U0001f600" * 2000)
    bench.recorder.record(bundle, request, denial, Caller("\U0001f600" * 256, "a" * 32))
    assert bench.stored()[1].fields["arguments"] == arguments
    assert bench.stored()[1].fields["source"].endswith("…")


TINY = SpoolLimits(capacity=12_000, reserve=6_000, segment=2_000, memory=1_000)


def until_refused(bench: Bench, tool: BundleTool) -> None:
    for _ in range(100):
        try:
            bench.recorder.record(BUNDLE, a_call(), allowed(tool))
        except RecordFailed:
            return
    raise AssertionError("everything was recorded")


@requirement("records.unavailable")
@pytest.mark.parametrize("tool", [WRITE, DELETE])
def test_with_a_full_spool_writes_are_refused_first_and_reads_go_on_for_a_while(start: Start, tool: BundleTool) -> None:
    bench = start(TINY)
    until_refused(bench, tool)
    refusal = bench.stored()[-1].fields
    assert (refusal["decision"], refusal["reason"], refusal["tool"]) == ("Deny", "AuditUnavailable", "get_contact")
    assert bench.recorder.counts["Deny", "AuditUnavailable", "crm"] == 1
    for _ in range(4):
        bench.recorder.record(BUNDLE, a_call(), allowed())
    until_refused(bench, READ)
    assert bench.spool.used <= TINY.capacity


def test_what_there_is_no_room_for_is_counted(start: Start) -> None:
    bench = start(TINY)
    until_refused(bench, READ)
    before = bench.recorder.unrecorded
    with pytest.raises(RecordFailed):
        bench.recorder.record(BUNDLE, a_call(), Deny(DenyReason.ARGUMENT_NOT_ALLOWED, "mcpbinding/crm", "No. " * 50))
    bench.recorder.complete(1, "Answered", 0.1)
    bench.recorder.complete(1, "Answered", 0.1)
    assert bench.recorder.unrecorded > before


def test_a_record_that_was_refused_leaves_the_chain_whole(start: Start) -> None:
    bench = start(TINY)
    until_refused(bench, WRITE)
    bench.recorder.record(BUNDLE, a_call(), allowed())
    head = Head()
    for line in bench.stored():
        assert (line.seq, line.prev) == (head.next, head.hash)
        head = line.head


def test_a_standard_output_that_takes_nothing_refuses_the_action(start: Start) -> None:
    bench = start()
    os.close(bench.reading)
    with pytest.raises(RecordFailed, match="cannot write a record"):
        bench.recorder.record(BUNDLE, a_call(), allowed())
    bench.reading = os.open("/dev/null", os.O_RDONLY)


@requirement("guard.load")
def test_a_standard_output_that_is_not_read_refuses_the_action_and_holds_nothing_up(start: Start) -> None:
    bench = start()
    call = a_call(text="a")
    with pytest.raises(RecordFailed, match="standard output is not read"):  # noqa: PT012 - the first line that is
        while bench.recorder._output.queued <= bench.recorder._output._capacity:  # noqa: SLF001
            bench.recorder.record(BUNDLE, call, allowed())
    seen = b""
    while bench.recorder._output.queued:  # noqa: SLF001 - what the loop of a guard writes out a moment later
        seen += bench.written()
        bench.recorder._output.has_room(0)  # noqa: SLF001
    seen += bench.written()
    assert [open_line(line).seq for line in seen.splitlines()] == [line.seq for line in bench.stored()]


@requirement("guard.load")
def test_arguments_are_not_digested_for_what_is_denied_before_they_are_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> str:
        raise AssertionError("the arguments were worked on")

    monkeypatch.setattr("interlock_guard.audit.recorder.canonicalize", refuse)
    bench = start()
    bench.recorder.record(BUNDLE, a_call(id="1"), DENIED)
    assert bench.stored()[1].fields["argumentsDigest"] == ""


@requirement("tasks.recorded")
def test_a_task_that_has_ended_is_a_line_of_the_chain_that_says_who_and_in_which_stage(start: Start) -> None:
    bench = start()
    bench.recorder.finish_task(BUNDLE, {"task": "t-1", "outcome": "Answered"})
    genesis, task = bench.stored()
    assert (genesis.kind, task.kind, task.prev) == ("genesis", "task", genesis.hash)
    task_fields = {name: task.fields[name] for name in ("agent", "stage", "revision", "task", "outcome")}
    assert task_fields == {
        "agent": "triage",
        "stage": "staging",
        "revision": "0123456789",
        "task": "t-1",
        "outcome": "Answered",
    }


def test_a_task_without_room_for_its_record_is_counted(start: Start) -> None:
    bench = start(TINY)
    until_refused(bench, READ)
    before = bench.recorder.unrecorded
    for _ in range(10):
        bench.recorder.finish_task(BUNDLE, {"task": "t" * 200})
    assert bench.recorder.unrecorded > before
