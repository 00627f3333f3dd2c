from typing import Any

import pytest

from interlock.deployment.gate import GateReport, GateVerdict, read_gate

LABELS = {"interlock.dev/stage": "staging", "interlock.dev/revision": "0123456789"}
SAID = "open: 10.96.0.1:443 answered for 10 s\n"


def a_pod(**gate: Any) -> dict[str, Any]:
    statuses = [{"name": "another", "state": {"terminated": {"exitCode": 3}}}, {"name": "gate", **gate}]
    return {"metadata": {"labels": LABELS}, "status": {"initContainerStatuses": statuses}}


def ended(code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message}}


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [
        ({"state": {"running": {}}}, GateVerdict.WAITING),
        ({"state": ended(0)}, GateVerdict.CLOSED),
        ({"state": ended(3, SAID)}, GateVerdict.OPEN),
        ({"state": ended(0, SAID)}, GateVerdict.OPEN),
        ({"state": {"waiting": {}}, "lastState": ended(3, SAID)}, GateVerdict.OPEN),
        ({"state": {"running": {}}, "lastState": ended(3, SAID)}, GateVerdict.OPEN),
        ({"state": ended(0), "lastState": ended(3, SAID)}, GateVerdict.CLOSED),
        ({"state": ended(4)}, GateVerdict.WAITING),
        ({"state": ended(137), "lastState": ended(0)}, GateVerdict.WAITING),
        ({}, GateVerdict.WAITING),
    ],
)
def test_the_last_word_of_a_gate_holds(gate: dict[str, Any], verdict: GateVerdict) -> None:
    message = "10.96.0.1:443 answered for 10 s" if verdict is GateVerdict.OPEN else ""

    assert read_gate(a_pod(**gate)) == GateReport("staging", "0123456789", verdict, message)


def test_a_pod_that_has_no_status_yet_has_said_nothing() -> None:
    assert read_gate({"metadata": {"labels": LABELS}}).verdict is GateVerdict.WAITING
