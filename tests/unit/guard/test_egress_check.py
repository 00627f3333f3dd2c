"""The egress check of an agent's pod: what counts as closed, as open, and as no answer yet."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from interlock_contract.pod import NETWORK_OPEN
from interlock_guard import egress_check
from interlock_guard.egress_check import (
    NO_GUARD,
    OPEN_SECONDS,
    PASSED,
    ROUNDS,
    WAIT_SECONDS,
    EgressCheckSettingsInvalid,
    EgressJudge,
    ProbedAddress,
    Round,
    read_settings,
)
from tests.requirements import requirement

DOOR = ProbedAddress("10.96.0.1", 443)
CLOSED, SILENT, OPEN = Round(answered=True), Round(answered=False), Round(answered=True, reached=(DOOR,))
ENVIRONMENT = {
    "INTERLOCK_GUARD_URL": "http://guard:7410",
    "INTERLOCK_EGRESS_CHECK_CLOSED": "10.96.0.41:7411",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
}


@requirement("isolation.egress-check")
def test_it_opens_after_rounds_in_a_row_in_which_the_guard_answers_and_all_else_is_closed() -> None:
    judge = EgressJudge(started=0.0)

    assert [judge.take(CLOSED, at) for at in range(ROUNDS)] == [None] * (ROUNDS - 1) + [PASSED]


@requirement("isolation.egress-check")
@pytest.mark.parametrize("between", [OPEN, SILENT], ids=["something was open", "the guard was silent"])
def test_a_round_that_shows_something_else_restarts_the_count(between: Round) -> None:
    judge = EgressJudge(started=0.0)
    for _ in range(ROUNDS - 1):
        judge.take(CLOSED, 1.0)

    assert judge.take(between, 1.0) is None
    assert [judge.take(CLOSED, 1.0) for _ in range(ROUNDS - 1)] == [None] * (ROUNDS - 1)
    assert judge.take(CLOSED, 1.0) == PASSED


@requirement("isolation.open-network")
def test_what_answers_for_as_long_as_no_network_needs_is_an_open_network() -> None:
    judge = EgressJudge(started=0.0)

    assert judge.take(OPEN, 1.0) is None
    assert judge.take(OPEN, 1.0 + OPEN_SECONDS - 0.01) is None
    assert judge.take(OPEN, 1.0 + OPEN_SECONDS) == NETWORK_OPEN
    assert judge.reached == (DOOR,)


def test_an_open_network_is_seen_although_the_guard_is_not_there() -> None:
    judge = EgressJudge(started=0.0)
    seen = Round(answered=False, reached=(DOOR,))

    assert [judge.take(seen, at) for at in (0.0, OPEN_SECONDS)] == [None, NETWORK_OPEN]


def test_a_network_that_closes_late_is_not_an_open_one() -> None:
    judge = EgressJudge(started=0.0)
    judge.take(OPEN, 0.0)
    judge.take(CLOSED, OPEN_SECONDS - 1)

    assert judge.take(OPEN, OPEN_SECONDS + 1) is None


def test_without_a_guard_it_waits_and_then_says_so() -> None:
    judge = EgressJudge(started=5.0)

    assert judge.take(SILENT, 5.0 + WAIT_SECONDS - 0.01) is None
    assert judge.take(SILENT, 5.0 + WAIT_SECONDS) == NO_GUARD


def test_the_configured_targets_and_the_api_server_must_be_closed() -> None:
    settings = read_settings({**ENVIRONMENT, "INTERLOCK_EGRESS_CHECK_CLOSED": "10.96.0.41:7411 [fd00::41]:7411"})

    assert [one.authority for one in settings.closed] == ["10.96.0.41:7411", "[fd00::41]:7411", "10.96.0.1:443"]
    assert settings.requires_closed


def test_an_api_server_in_ipv6_is_read() -> None:
    settings = read_settings({**ENVIRONMENT, "KUBERNETES_SERVICE_HOST": "fd00::1"})

    assert settings.closed[-1] == ProbedAddress("fd00::1", 443)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INTERLOCK_GUARD_URL", ""),
        ("INTERLOCK_GUARD_URL", "https://guard:7410"),
        ("INTERLOCK_GUARD_URL", "http://guard"),
        ("INTERLOCK_EGRESS_CHECK_CLOSED", ""),
        ("INTERLOCK_EGRESS_CHECK_CLOSED", "10.96.0.41"),
        ("INTERLOCK_EGRESS_CHECK_CLOSED", "10.96.0.41:x"),
        ("KUBERNETES_SERVICE_HOST", ""),
        ("KUBERNETES_SERVICE_PORT", ""),
        ("INTERLOCK_EGRESS_CHECK", "Maybe"),
    ],
)
def test_an_egress_check_without_targets_does_not_let_through(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EgressCheckSettingsInvalid, match=name):
        read_settings({**ENVIRONMENT, name: value})
    for known, text in {**ENVIRONMENT, name: value}.items():
        monkeypatch.setenv(known, text)
    assert egress_check.main() == egress_check.SETTINGS_INVALID


# What is tried seldom, and what rows open


@requirement("egress.check")
def test_metadata_services_and_the_dns_must_be_closed_too_and_the_kubelet_is_only_reported() -> None:
    settings = read_settings({**ENVIRONMENT, "INTERLOCK_EGRESS_CHECK_NODE": "172.18.0.3"})

    assert [one.authority for one in settings.sampled] == [
        *("169.254.169.254:80", "168.63.129.16:80", "100.100.100.200:80", "192.0.0.192:80", "[fd00:ec2::254]:80"),
        *("10.96.0.10:53", "10.96.0.10:53/UDP"),
    ]
    assert settings.opened == ()
    assert settings.node == ProbedAddress("172.18.0.3", 10250)


@requirement("egress.check")
@pytest.mark.parametrize(
    ("words", "dns_is_closed", "opened"),
    [
        ("", True, []),
        ("10.20.0.8:5432 [fd00::8]:5432", True, ["10.20.0.8:5432", "[fd00::8]:5432"]),
        ("10.20.0.8:5432 dns", False, ["10.20.0.8:5432", "10.96.0.10:53"]),
        ("dns-untried", False, []),
    ],
)
def test_what_a_row_opens_is_tried_and_need_not_be_closed(words: str, dns_is_closed: object, opened: list[str]) -> None:
    settings = read_settings({**ENVIRONMENT, "INTERLOCK_EGRESS_CHECK_OPEN": words})

    assert (ProbedAddress("10.96.0.10", 53) in settings.sampled) is dns_is_closed
    assert (ProbedAddress("10.96.0.10", 53, is_udp=True) in settings.sampled) is dns_is_closed
    assert [one.authority for one in settings.opened] == opened


@requirement("egress.check")
def test_samples_are_taken_seldom_in_the_last_round_and_in_each_while_something_is_open() -> None:
    judge = EgressJudge(started=0.0)
    sampled = []
    for _ in range(ROUNDS):
        sampled.append(judge.is_sampling)
        judge.take(CLOSED, 0.0)
    assert [number for number, is_sampling in enumerate(sampled, start=1) if is_sampling] == [5, 10]

    judge = EgressJudge(started=0.0)
    judge.take(OPEN, 0.0)
    assert judge.is_sampling
    judge.take(CLOSED, 1.0)
    assert not judge.is_sampling


@requirement("egress.check")
def test_a_sample_that_stays_open_is_an_open_network() -> None:
    """The other targets are closed all the time: what is tried seldom alone must not be forgotten in between."""
    judge, now = EgressJudge(started=0.0), 0.0
    codes = set()
    while now < 2 * OPEN_SECONDS:
        codes.add(judge.take(OPEN if judge.is_sampling else CLOSED, now))
        now += 0.5
    assert codes == {None, NETWORK_OPEN}


# With real sockets


class _Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path == "/ready" and self.headers["Host"] == f"127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
        self.send_response(200 if known else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def a_guard() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ready) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound and does not listen, so that no other process takes it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def settings_for(guard: int, door: int, message: Path, **more: str) -> egress_check.EgressCheckSettings:
    """Return settings without samples, since something may answer there on the machine that runs the tests."""
    settings = read_settings(
        {
            "INTERLOCK_GUARD_URL": f"http://127.0.0.1:{guard}",
            "INTERLOCK_EGRESS_CHECK_CLOSED": f"127.0.0.1:{door}",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(door),
            "INTERLOCK_EGRESS_CHECK_MESSAGE": str(message),
            **more,
        }
    )
    return replace(settings, sampled=())


def test_it_passes_where_the_guard_answers_and_the_rest_refuses(closed_port: int, tmp_path: Path) -> None:
    with a_guard() as guard:
        assert egress_check.watch(settings_for(guard, closed_port, tmp_path / "said")) == PASSED
    assert not (tmp_path / "said").exists()


@pytest.mark.parametrize(("mode", "code"), [("Require", NETWORK_OPEN), ("Report", PASSED)])
def test_an_open_network_is_reported_and_blocks_only_where_closed_is_required(
    mode: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_check, "OPEN_SECONDS", 0.05)
    with a_guard() as guard:
        assert egress_check.watch(settings_for(guard, guard, tmp_path / "said", INTERLOCK_EGRESS_CHECK=mode)) == code
        said = (tmp_path / "said").read_text(encoding="utf-8")
    assert said.startswith(f"open: 127.0.0.1:{guard} and 127.0.0.1:{guard} answered")


def test_without_a_guard_nothing_passes(closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_check, "WAIT_SECONDS", 0.05)

    assert egress_check.watch(settings_for(closed_port, closed_port, tmp_path / "said")) == NO_GUARD


@requirement("egress.check")
@pytest.mark.parametrize("is_up", [True, False])
def test_a_database_that_is_down_keeps_no_agent_from_starting_and_is_reported(
    is_up: object, closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_check, "TRY_SECONDS", 0.05)
    with a_guard() as guard:
        database = f"127.0.0.1:{guard if is_up else closed_port}"
        settings = settings_for(guard, closed_port, tmp_path / "said", INTERLOCK_EGRESS_CHECK_OPEN=database)

        assert egress_check.watch(settings) == PASSED

    said = (tmp_path / "said").read_text(encoding="utf-8") if (tmp_path / "said").exists() else ""
    assert said == ("" if is_up else f"unanswered: {database}")


@requirement("egress.check")
@pytest.mark.parametrize("is_closed", [True, False])
def test_a_node_that_the_network_does_not_close_keeps_no_agent_from_starting_and_is_reported(
    is_closed: object, closed_port: int, tmp_path: Path
) -> None:
    with a_guard() as guard:
        kubelet = ProbedAddress("127.0.0.1", closed_port if is_closed else guard)
        settings = replace(settings_for(guard, closed_port, tmp_path / "said"), node=kubelet)

        assert egress_check.watch(settings) == PASSED

    said = (tmp_path / "said").read_text(encoding="utf-8") if (tmp_path / "said").exists() else ""
    assert said == ("" if is_closed else f"node: 127.0.0.1:{guard}")


@requirement("egress.check")
def test_a_sample_that_answers_keeps_the_agent_from_starting(
    closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_check, "OPEN_SECONDS", 0.05)
    with a_guard() as guard:
        settings = replace(
            settings_for(guard, closed_port, tmp_path / "said"), sampled=(ProbedAddress("127.0.0.1", guard),)
        )

        assert egress_check.watch(settings) == NETWORK_OPEN

    assert f"127.0.0.1:{guard} answered" in (tmp_path / "said").read_text(encoding="utf-8")


@requirement("egress.check")
@pytest.mark.parametrize("answers", [True, False])
def test_a_dns_that_answers_over_udp_alone_is_open(monkeypatch: pytest.MonkeyPatch, *, answers: bool) -> None:
    monkeypatch.setattr(egress_check, "CONNECT_SECONDS", 5.0 if answers else 0.05)

    def answer(dns: socket.socket) -> None:
        query, client = dns.recvfrom(512)
        if answers:
            dns.sendto(query[:2] + b"\x81\x85" + query[4:], client)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dns:
        dns.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=answer, args=(dns,))
        thread.start()

        found = egress_check.is_open(ProbedAddress("127.0.0.1", dns.getsockname()[1], is_udp=True))
        thread.join()

    assert found is answers


def test_a_dns_that_refuses_over_udp_is_closed(closed_port: int) -> None:
    assert not egress_check.is_open(ProbedAddress("127.0.0.1", closed_port, is_udp=True))
