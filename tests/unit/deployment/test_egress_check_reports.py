from typing import Any

import pytest

from interlock.deployment.observed.egress_check import EgressCheckReport, EgressCheckVerdict, read_egress_check

SAID = "open: 10.96.0.1:443 answered for 10 s\n"


def a_pod(**status: Any) -> dict[str, Any]:
    statuses = [{"name": "another", "state": {"terminated": {"exitCode": 3}}}, {"name": "egress-check", **status}]
    return {"metadata": {}, "status": {"initContainerStatuses": statuses}}


def ended(code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message}}


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ({"state": {"running": {}}}, EgressCheckVerdict.WAITING),
        ({"state": ended(0)}, EgressCheckVerdict.CLOSED),
        ({"state": ended(3, SAID)}, EgressCheckVerdict.OPEN),
        ({"state": ended(0, SAID)}, EgressCheckVerdict.OPEN),
        ({"state": {"waiting": {}}, "lastState": ended(3, SAID)}, EgressCheckVerdict.OPEN),
        ({"state": {"running": {}}, "lastState": ended(3, SAID)}, EgressCheckVerdict.OPEN),
        ({"state": ended(0), "lastState": ended(3, SAID)}, EgressCheckVerdict.CLOSED),
        ({"state": ended(4)}, EgressCheckVerdict.WAITING),
        ({"state": ended(137), "lastState": ended(0)}, EgressCheckVerdict.WAITING),
        ({}, EgressCheckVerdict.WAITING),
    ],
)
def test_the_last_report_of_an_egress_check_holds(status: dict[str, Any], verdict: EgressCheckVerdict) -> None:
    message = "10.96.0.1:443 answered for 10 s" if verdict is EgressCheckVerdict.OPEN else ""

    assert read_egress_check(a_pod(**status)) == EgressCheckReport(verdict, message)


def test_what_rows_open_and_does_not_answer_is_told_of_a_closed_network() -> None:
    report = read_egress_check(a_pod(state=ended(0, "unanswered: 10.20.0.8:5432")))

    assert report == EgressCheckReport(EgressCheckVerdict.CLOSED, "10.20.0.8:5432")


@pytest.mark.parametrize("unanswered", ["", "10.20.0.8:5432"])
def test_a_node_that_the_network_does_not_close_is_told_of_a_closed_network(unanswered: str) -> None:
    before = f"unanswered: {unanswered}\n" if unanswered else ""

    report = read_egress_check(a_pod(state=ended(0, f"{before}node: 10.0.0.3:10250")))

    assert report == EgressCheckReport(EgressCheckVerdict.CLOSED, unanswered, node="10.0.0.3:10250")


def test_a_pod_that_has_no_status_yet_has_said_nothing() -> None:
    assert read_egress_check({"metadata": {}}).verdict is EgressCheckVerdict.WAITING
