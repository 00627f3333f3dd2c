import hashlib
import json
import random
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_audit.chain_verifier import Anchor, ChainReport, ChainVerifier, Checkpoint
from interlock_audit.sqlite import open_sqlite
from interlock_audit.stores import Batch, Received
from interlock_audit.verify import FOUND, OK, UNREADABLE, main
from interlock_contract.audit_chain import ORIGIN, Head, LineInvalid, open_line, seal
from tests.requirements import requirement
from tests.support.chains import GUARD, NEXT_GUARD, ChainWriter

TIME = "2026-03-02T09:00:00.000Z"


def a_chain() -> ChainWriter:
    return ChainWriter().begin().call(3).deny(2).call(2)


LINES = a_chain().lines
AFTERWARDS = datetime(2026, 3, 3, tzinfo=UTC)
TEXT = a_chain().text()


def check(lines: list[bytes], **options: Any) -> ChainReport:
    checking = ChainVerifier(**options)
    for number, line in enumerate(lines, start=1):
        checking.add_line(line, f"line {number}")
    return checking.finish()


def kinds(report: ChainReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def test_a_whole_chain_has_no_findings() -> None:
    report = check(LINES)
    assert kinds(report) == []
    assert (report.lines, report.without_outcome) == (13, 0)
    assert report.chains[GUARD].head == a_chain().head


def test_calls_without_an_outcome_are_counted_and_no_finding() -> None:
    chain = ChainWriter().begin().call()
    chain.write("decision", decision="Allow")
    report = check(chain.lines)
    assert (kinds(report), report.without_outcome) == ([], 1)


def test_calls_that_passed_in_mode_audit_have_outcomes_and_denied_ones_have_none() -> None:
    chain = ChainWriter().begin()
    passed = chain.write("decision", decision="WouldDeny")
    chain.write("decision", decision="WouldDeny")
    chain.write("outcome", of=passed, outcome="Answered")
    report = check(chain.lines)
    assert (kinds(report), report.without_outcome) == ([], 1)
    chain.write("outcome", of=chain.write("decision", decision="Deny"), outcome="Answered")
    assert kinds(check(chain.lines)) == ["Broken"]


@requirement("records.verified")
@given(st.integers(0, len(TEXT) - 1), st.integers(1, 255))
def test_any_byte_that_was_changed_is_found(place: int, change: int) -> None:
    mutated = bytearray(TEXT)
    mutated[place] ^= change
    assert kinds(check_text(bytes(mutated))) != []


@requirement("records.verified")
@given(st.integers(0, len(TEXT) - 1), st.integers(1, 400))
def test_any_bytes_that_were_cut_out_are_found(start: int, length: int) -> None:
    if start + length < len(TEXT):  # what is cut off at the end is a matter of anchors
        assert kinds(check_text(TEXT[:start] + TEXT[start + length :])) != []


def check_text(text: bytes) -> ChainReport:
    checking = ChainVerifier([Anchor(GUARD, len(LINES) - 1, a_chain().last.hash, "the test")])
    for number, line in enumerate(text.split(b"\n")[:-1]):
        checking.add_line(line, str(number))
    return checking.finish()


@requirement("records.verified")
@pytest.mark.parametrize("number", range(len(LINES) - 1))
def test_any_missing_line_is_found(number: int) -> None:
    assert "Missing" in kinds(check(LINES[:number] + LINES[number + 1 :]))


@requirement("records.verified")
@given(st.permutations(range(len(LINES))))
def test_any_other_order_is_found(order: list[int]) -> None:
    report = check([LINES[number] for number in order])
    assert (kinds(report) == []) == (order == sorted(order))


@requirement("records.verified")
@pytest.mark.parametrize("number", range(len(LINES)))
def test_a_line_that_is_there_twice_is_found(number: int) -> None:
    assert kinds(check([*LINES, LINES[number]])) == ["Repeated"]


@requirement("records.verified")
@pytest.mark.parametrize("number", range(1, len(LINES)))
def test_a_line_rewritten_with_its_own_hash_is_found(number: int) -> None:
    forged = json.loads(LINES[number]) | {"decision": "Deny"}
    kept = {key: forged[key] for key in ("kind", "time", "decision") if key in forged}
    line, _ = seal(GUARD, Head(number, forged["prev"], forged["prevTime"]), kept)
    report = check([*LINES[:number], line, *LINES[number + 1 :]], anchors=[Anchor(GUARD, 12, a_chain().last.hash, "a")])
    assert kinds(report) != []


def test_a_second_line_of_one_number_is_found() -> None:
    other = ChainWriter().begin().deny()
    assert kinds(check([*LINES, other.lines[1]])) == ["Forked"]


def two_chains() -> tuple[ChainWriter, ChainWriter]:
    first = a_chain()
    return first, ChainWriter(NEXT_GUARD).begin(first.last).call()


def test_two_chains_may_be_interleaved() -> None:
    first, second = two_chains()
    mixed = sorted([*first.lines, *second.lines], key=lambda line: json.loads(line)["time"])
    assert kinds(check(mixed)) == []


@requirement("records.verified")
@pytest.mark.parametrize("count", range(1, len(LINES)))
def test_a_cut_off_end_is_found_where_the_next_chain_shows_it(count: int) -> None:
    first, second = two_chains()
    report = check([*first.lines[:-count], *second.lines])
    assert kinds(report)[-1] == "Truncated"


def test_a_chain_that_is_missing_whole_is_found_where_the_next_one_names_it() -> None:
    _, second = two_chains()
    assert kinds(check(second.lines)) == ["Missing"]
    assert kinds(check(second.lines, is_part=True)) == []


def test_a_rewritten_chain_contradicts_the_next_ones_genesis() -> None:
    _, second = two_chains()
    rewritten = ChainWriter().begin().call(6)
    assert kinds(check([*rewritten.lines, *second.lines])) == ["Contradicted"]


def test_a_part_may_begin_late_but_may_miss_nothing_inside() -> None:
    assert kinds(check(LINES[4:])) == ["Missing"]
    assert kinds(check(LINES[4:], is_part=True)) == []
    assert kinds(check(LINES[4:6] + LINES[7:], is_part=True)) == ["Missing"]


def test_a_chain_that_retention_has_cut_must_follow_on_the_checkpoint() -> None:
    before = json.loads(LINES[4])["hash"]
    assert kinds(check(LINES[5:], checkpoints={GUARD: Checkpoint(5, before)}, kept_since=AFTERWARDS)) == []
    assert kinds(check(LINES[5:], checkpoints={GUARD: Checkpoint(5, "0" * 64)})) == ["Broken"]
    assert kinds(check(LINES[6:], checkpoints={GUARD: Checkpoint(5, before)})) == ["Missing"]
    assert kinds(check(LINES[4:], checkpoints={GUARD: Checkpoint(5, before)})) == ["Broken"]


def test_what_retention_took_out_answers_for_itself_as_far_as_it_can() -> None:
    first, second = two_chains()
    whole = {GUARD: Checkpoint(13, first.last.hash)}
    forged = {GUARD: Checkpoint(13, "0" * 64)}
    assert kinds(check(second.lines, checkpoints=whole, kept_since=AFTERWARDS)) == []
    assert kinds(check(second.lines, checkpoints=forged, kept_since=AFTERWARDS)) == ["Contradicted"]
    assert kinds(check(second.lines, checkpoints={GUARD: Checkpoint(14, "0" * 64)}, kept_since=AFTERWARDS)) == []


@requirement("records.retention-provable")
@pytest.mark.parametrize("time", ["", "9999-99-99T00:00:00.000Z"])
def test_a_time_before_a_beginning_that_is_none_proves_nothing(time: str) -> None:
    first = open_line(LINES[5])
    fields = {name: first.fields[name] for name in ("kind", "time", "agent", "decision") if name in first.fields}
    line, _ = seal(GUARD, Head(5, first.prev, time), fields)
    report = check([line], checkpoints={GUARD: Checkpoint(5, first.prev)}, kept_since=AFTERWARDS)
    assert kinds(report) == ["Removed"]


def test_a_line_that_states_another_time_of_the_line_before_is_found() -> None:
    first = open_line(LINES[0])
    line, _ = seal(
        GUARD, Head(1, first.hash, "2020-01-01T00:00:00.000Z"), {"kind": "decision", "time": "2026-03-02T09:00:00.000Z"}
    )
    assert kinds(check([LINES[0], line])) == ["Broken"]


def test_a_genesis_anywhere_else_and_a_chain_without_one_are_found() -> None:
    late = ChainWriter().begin()
    late.begin()
    assert kinds(check(late.lines)) == ["Broken"]
    assert kinds(check(ChainWriter().call().lines)) == ["Broken"]


def test_a_chain_that_begins_after_nothing_is_found() -> None:
    line, _ = seal(GUARD, Head(0, "f" * 64), {"kind": "genesis", "time": "2026-03-02T09:00:00.000Z", "previous": None})
    assert kinds(check([line])) == ["Broken"]


@pytest.mark.parametrize("previous", [7, {}, {"guard": GUARD, "seq": -1, "hash": "0" * 64}, {"guard": GUARD, "seq": 1}])
def test_a_genesis_that_names_no_chain_is_found(previous: Any) -> None:
    chain = ChainWriter()
    chain.write("genesis", previous=previous)
    assert kinds(check(chain.lines)) == ["Broken"]


@requirement("records.own-statements")
def test_a_genesis_that_names_the_chain_of_another_pod_is_no_statement_on_it() -> None:
    other = ChainWriter("tenant-b/triage-0/0000000000000001").begin().deny(3)
    forger = ChainWriter()
    forger.write("genesis", previous={"guard": other.guard, "seq": 2, "hash": "f" * 64, "time": other.last.time})
    report = check([*other.lines, *forger.lines])
    assert [(one.kind, one.where) for one in report.findings] == [("Broken", "line 5")]


@requirement("records.own-statements")
@pytest.mark.parametrize("name", ["time", "prevTime"])
@pytest.mark.parametrize("time", ["now", "2026-03-02T09:00:00.000", "2026,b,1", "2026\n13 lines", "\x1b[2K", 5, None])
def test_a_line_whose_time_is_none_is_damaged(name: str, time: Any) -> None:
    fields: dict[str, Any] = {"kind": "decision", "time": "2026-03-02T09:00:00.000Z"} | {name: time}
    line, _ = seal(GUARD, Head(1, open_line(LINES[0]).hash, "2026-03-02T09:00:00.000Z"), fields)
    with pytest.raises(LineInvalid, match="no time"):
        open_line(line)


@requirement("records.own-statements")
def test_a_decision_that_is_no_word_is_damaged() -> None:
    line, _ = seal(GUARD, Head(), {"kind": "genesis", "time": "2026-03-02T09:00:00.000Z", "decision": {"Allow": 1}})
    with pytest.raises(LineInvalid, match="decision"):
        open_line(line)


@pytest.mark.parametrize("decision", [0, 1, 3, 99, -1, "1", None])
def test_an_outcome_of_what_was_not_allowed_or_has_one_already_is_found(decision: Any) -> None:
    chain = ChainWriter().begin()
    chain.deny()
    allowed = chain.write("decision", decision="Allow")
    chain.write("outcome", of=allowed)
    chain.write("outcome", of=decision)
    assert kinds(check(chain.lines)) == ["Broken"]


def test_a_number_beyond_all_measure_costs_no_memory() -> None:
    line, _ = seal(GUARD, Head(2**52, "0" * 64), {"kind": "decision", "time": TIME})
    assert kinds(check([*LINES, line])) == ["Missing"]


def test_files_are_read_in_their_order_and_the_exit_code_is_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = (tmp_path / "1", tmp_path / "2")
    parts[0].write_bytes(b"".join(line + b"\n" for line in LINES[:5]))
    parts[1].write_bytes(b"".join(line + b"\n" for line in LINES[5:]))
    assert main([str(part) for part in parts]) == OK
    assert capsys.readouterr().out == "13 lines in 1 chains: complete\n"
    assert main([str(parts[0])]) == OK
    assert main([str(parts[1])]) == FOUND
    assert capsys.readouterr().out.splitlines()[-1] == "8 lines in 1 chains: 1 findings"
    assert main([str(parts[1]), "--log"]) == OK


def test_in_a_log_other_lines_are_passed_over_and_missing_records_found_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    other = b'{"time":"2026-03-02T09:00:00.000+00:00","message":"server of crm: generation 1 begins"}\n'
    path.write_bytes(b"".join(other + line + b"\n" for line in LINES[2:]))
    assert main([str(path)]) == FOUND
    assert main([str(path), "--log"]) == OK
    path.write_bytes(path.read_bytes().replace(b'{"guard":', b'{"Guard":', 3).replace(b'{"Guard":', b'{"guard":', 2))
    capsys.readouterr()
    assert main([str(path), "--log"]) == FOUND
    assert capsys.readouterr().out.startswith("Missing: ")


def test_half_a_line_at_the_end_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "records"
    path.write_bytes(TEXT[:-1])
    assert main([str(path)]) == FOUND
    assert capsys.readouterr().out.startswith(f"Truncated: {path}:13: ")


def test_findings_are_lines_or_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "records"
    path.write_bytes(TEXT.replace(b"Allow", b"Deny ", 1))
    assert main([str(path)]) == FOUND
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"Damaged: {path}:2: the line is not as a guard wrote it: its hash")
    assert second.startswith(f"Missing: {path}:3: lines 1 to 1 of {GUARD}")
    assert last == "13 lines in 1 chains: 2 findings"
    assert main([str(path), "--json"]) == FOUND
    report = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in report["findings"]] == ["Damaged", "Missing"]
    last = a_chain().last
    ends = {"first": 0, "start": ORIGIN, "next": 13, "head": last.hash, "headTime": last.time}
    assert report["chains"] == [{"guard": GUARD, **ends}]


def test_an_earlier_report_shows_what_was_cut_off_or_rewritten_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, report = tmp_path / "records", tmp_path / "report"
    path.write_bytes(TEXT)
    assert main([str(path), "--json"]) == OK
    report.write_text(capsys.readouterr().out)
    path.write_bytes(a_chain().call().text())
    assert main([str(path), "--since", str(report)]) == OK
    path.write_bytes(b"".join(line + b"\n" for line in LINES[:-1]))
    assert main([str(path), "--since", str(report)]) == FOUND
    assert "Truncated" in capsys.readouterr().out
    path.write_bytes(ChainWriter().begin().call(6).text())
    assert main([str(path), "--since", str(report)]) == FOUND
    assert "Contradicted" in capsys.readouterr().out


@requirement("records.retention-provable")
def test_a_report_states_beginnings_that_the_next_check_accepts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Retention has deleted 30 lines of one chain and all of another, and its days were raised afterwards."""
    database, report, text = tmp_path / "records.sqlite", tmp_path / "report", tmp_path / "text"
    chain = ChainWriter().begin().call(20)
    store = open_sqlite(database)
    for lines in (chain.lines, ChainWriter(NEXT_GUARD).begin().call().lines):
        store.append(Batch("agents", "triage", [Received(line.decode(), open_line(line)) for line in lines], "2026"))
    store.close()

    def cut(guard: str, count: int) -> None:
        connection = sqlite3.connect(database)
        last = "SELECT hash FROM records WHERE guard = ? AND seq = ?"
        (before,) = connection.execute(last, (guard, count - 1)).fetchone()
        connection.execute("UPDATE chains SET start = ?, start_hash = ? WHERE guard = ?", (count, before, guard))
        connection.execute("DELETE FROM records WHERE guard = ? AND seq < ?", (guard, count))
        connection.commit()
        connection.close()

    def verify(*more: str) -> tuple[int, str]:
        code = main(["--sqlite", str(database), *more])
        return code, capsys.readouterr().out

    text.write_text(verify("--json", "--keep-days", "0")[1])
    cut(GUARD, 30)
    cut(NEXT_GUARD, 3)
    assert verify()[0] == OK, "184 days have passed since"
    for days in ("0", "36500"):
        code, found = verify("--keep-days", days)
        assert (code, found.split(":")[0]) == (FOUND, "Removed")
    code, found = verify("--keep-days", "36500", "--since", str(text))
    assert (code, [line.split(":")[0] for line in found.splitlines()[:-1]]) == (FOUND, ["Removed", "Removed"])
    report.write_text(verify("--json")[1])
    assert verify("--keep-days", "36500", "--since", str(report))[0] == OK
    cut(GUARD, 31)
    assert verify("--keep-days", "36500", "--since", str(report))[0] == FOUND


@pytest.mark.parametrize("days", ["-1", "nan", "36501", "a year"])
def test_days_that_are_none_are_refused(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["records", "--keep-days", days])
    assert f"--keep-days: '{days}' is not a number from 0 to 36500" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"chains": [{"guard": "x", "next": 1, "head": "0"}]}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report").write_text(text)
    (tmp_path / "records").write_bytes(TEXT)
    assert main([str(tmp_path / "records"), "--since", str(tmp_path / "report")]) == UNREADABLE
    assert "is not a report" in capsys.readouterr().err


def test_what_cannot_be_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "missing")
    assert main([missing]) == UNREADABLE
    assert main(["--sqlite", missing]) == UNREADABLE
    assert main(["--url", "ftp://nowhere"]) == UNREADABLE
    assert main([]) == UNREADABLE
    assert main([missing, "--url", "http://127.0.0.1:1"]) == UNREADABLE
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_random_vandalism_on_a_large_chain_is_found() -> None:
    """Whatever is done to whole lines of a chain that ends in an anchor shows."""
    chance = random.Random(7)  # noqa: S311 - the same vandalism each time
    chain = ChainWriter().begin().call(200)
    digest = hashlib.sha256(chain.text()).digest()
    for _ in range(200):
        lines = list(chain.lines)
        for _ in range(chance.randrange(1, 4)):
            one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
            match chance.randrange(3):
                case 0:
                    del lines[one]
                case 1:
                    lines.insert(other, lines[one])
                case 2:
                    lines[one], lines[other] = lines[other], lines[one]
        same = hashlib.sha256(b"".join(line + b"\n" for line in lines)).digest() == digest
        report = check(lines, anchors=[Anchor(GUARD, chain.last.seq, chain.last.hash, "the test")])
        assert (kinds(report) == []) == same
