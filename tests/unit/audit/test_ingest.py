import pytest

from interlock_audit.ingest import BatchInvalid, NotYours, read_batch
from interlock_audit.reviewer import Identity, agent_of
from interlock_contract.audit_chain import GuardId, parse_guard
from tests.requirements import requirement
from tests.support.chains import GUARD, NEXT_GUARD, ChainWriter

OF_AGENTS = "system:serviceaccount:agents"
POD = {"authentication.kubernetes.io/pod-name": ("triage-0123456789-abcde",)}
TRIAGE = Identity(f"{OF_AGENTS}:triage-0123456789-guard", "u", (), POD)
LINES = ChainWriter().begin().call(2).lines


def read(lines: list[bytes], identity: Identity = TRIAGE) -> int:
    body = b"".join(line + b"\n" for line in lines)
    return len(read_batch(body, identity, received="now", lost=None).lines)


def test_a_guards_own_lines_are_taken() -> None:
    assert read(LINES) == 5
    assert read(LINES[2:4]) == 2


@requirement("records.authenticated")
@pytest.mark.parametrize(
    "identity",
    [
        Identity("system:serviceaccount:other:triage-0123456789-guard", "u", (), POD),
        Identity("system:serviceaccount:agents:other-0123456789-guard", "u", (), POD),
        Identity("system:serviceaccount:agents:triage", "u", (), POD),
        Identity(f"{OF_AGENTS}:triage-0123456789-guard", "u", (), {}),
        Identity(
            f"{OF_AGENTS}:triage-0123456789-guard",
            "u",
            (),
            {next(iter(POD)): ("triage-0123456789-xxxxx",)},
        ),
        Identity(f"{OF_AGENTS}:triage-guard", "u", (), POD),  # of no placement
        Identity(f"{OF_AGENTS}:triage-9876543210-0123456789-guard", "u", (), POD),  # an agent whose name begins so
        Identity("agents:triage-0123456789-guard", "u", (), POD),
        Identity("", "", (), {}),
    ],
)
def test_lines_of_another_guard_are_not_accepted(identity: Identity) -> None:
    with pytest.raises(NotYours):
        read(LINES, identity)


def test_lines_that_name_another_agent_are_not_taken() -> None:
    with pytest.raises(NotYours, match="another agent than triage"):
        read(ChainWriter(agent="other").begin().lines)


@requirement("records.own-statements")
def test_a_genesis_that_names_the_chain_of_another_pod_is_not_taken() -> None:
    previous = {
        "guard": "tenant-b/x-0/0000000000000001",
        "seq": 2,
        "hash": "f" * 64,
        "time": "2026-03-02T09:00:00.000Z",
    }
    chain = ChainWriter()
    chain.write("genesis", agent="triage", previous=previous)
    with pytest.raises(BatchInvalid, match="another pod"):
        read(chain.lines)


def test_the_agent_of_a_guard_is_what_its_account_says() -> None:
    guard = parse_guard(GUARD)
    assert agent_of(TRIAGE, guard) == "triage"
    assert agent_of(TRIAGE, GuardId("agents", "another-pod", guard.incarnation)) is None


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [LINES[0], b"", LINES[1]],
        [LINES[0], LINES[2]],
        [LINES[1], LINES[0]],
        [LINES[0], LINES[0]],
        [LINES[0], LINES[1].replace(b"Allow", b"Deny ")],
        [*LINES, ChainWriter(NEXT_GUARD).begin().lines[0]],
        [LINES[0], ChainWriter().begin().deny(2).lines[2]],
        [b'{"no": "line"}'],
        [LINES[0] + b"\r"],
    ],
)
def test_what_is_no_piece_of_one_chain_is_refused_whole(lines: list[bytes]) -> None:
    with pytest.raises(BatchInvalid):
        read(lines)


def test_half_a_line_at_the_end_is_refused() -> None:
    with pytest.raises(BatchInvalid):
        read_batch(LINES[0], TRIAGE, received="now", lost=None)
