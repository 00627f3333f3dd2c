import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from interlock_guard.tasks.refusals import MAX_BODY, TaskRefusal
from interlock_guard.tasks.request_checks import METHODS, check_request
from tests.requirements import requirement


def check(
    *headers: tuple[str, str], method: str = "POST", target: str = "/", version: HttpVersion = HttpVersion11
) -> TaskRefusal | None:
    host = [] if any(name == "Host" for name, _ in headers) else [("Host", "triage")]
    return check_request(make_mocked_request(method, target, CIMultiDict([*host, *headers]), version=version))


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("target", ["/", "/a/../b//c?x=%2F&y={1}", "/~!$&'()*+,;=:@"])
def test_an_ordinary_request_passes(method: str, target: str) -> None:
    assert check(method=method, target=target) is None


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Length", "0")],
        [("Content-Length", str(MAX_BODY))],
        [("Transfer-Encoding", "Chunked")],
        [("Expect", "100-Continue"), ("Content-Length", "1")],
        [("Connection", "Upgrade"), ("Upgrade", "h2c")],
        [("X-Two", "1"), ("X-Two", "2")],
        [("X_Mine", "1"), ("Interlock-Task", "dropped later")],
    ],
)
def test_so_does_one_with_a_body_that_is_framed_in_one_way(headers: list[tuple[str, str]]) -> None:
    assert check(*headers) is None


@requirement("tasks.smuggling")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("Content-Length", "4"), ("Transfer-Encoding", "chunked")], 400),
        ([("Content-Length", "4"), ("Content-Length", "4")], 400),
        ([("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], 400),
        ([("Transfer-Encoding", "gzip, chunked")], 501),
        ([("Content-Length", "+4")], 400),
        ([("Content-Length", "4, 4")], 400),
        ([("Content-Length", "")], 400),
        ([("Content-Length", "9" * 19)], 400),
        ([("Host", "a"), ("Host", "b")], 400),
        ([("Host", "")], 400),
        ([("Content-Type", "a/b"), ("Content-Type", "c/d")], 400),
        ([("Authorization", "a"), ("Authorization", "b")], 400),
        ([("Upgrade", "WebSocket")], 501),
        ([("Upgrade", "tcp")], 501),
        ([("Expect", "200-ok")], 417),
        ([("Interlock_Task", "t")], 400),
        ([("interlock.task", "t")], 400),
        ([("Interlock-Task_", "t")], 400),
        ([("Content_Length", "4")], 400),
        ([("Transfer_Encoding", "chunked")], 400),
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(headers: list[tuple[str, str]], status: int) -> None:
    refusal = check(*headers)
    assert refusal is not None
    assert (refusal.status, refusal.reason, refusal.ends_connection) == (status, "BadRequest", True)


@requirement("tasks.smuggling")
@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/", "*", "", "agent:80", "/a#b", "/a b", "/ä", "/a\x7f", "/a\n"]
)
def test_a_target_that_is_no_path_is_refused(target: str) -> None:
    refusal = check(target=target)
    assert refusal is not None
    assert refusal.status == 400


@requirement("tasks.smuggling")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("header", [("Content-Length", "1"), ("Transfer-Encoding", "chunked")])
def test_a_body_of_a_method_without_one_is_refused(method: str, header: tuple[str, str]) -> None:
    refusal = check(header, method=method)
    assert refusal is not None
    assert (refusal.status, refusal.reason, refusal.ends_connection) == (400, "BadRequest", True)
    assert check(("Content-Length", "0"), method=method) is None


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "QUERY"])
def test_other_methods_are_refused(method: str) -> None:
    refusal = check(method=method)
    assert refusal is not None
    assert refusal.status == 405


def test_other_versions_are_refused_and_chunks_in_http_1_0_too() -> None:
    for version in (HttpVersion(0, 9), HttpVersion(2, 0)):
        refusal = check(version=version)
        assert refusal is not None
        assert refusal.status == 505
    assert check(version=HttpVersion10) is None
    refusal = check(("Transfer-Encoding", "chunked"), version=HttpVersion10)
    assert refusal is not None
    assert refusal.status == 501


@requirement("tasks.size")
def test_a_body_beyond_the_bound_is_refused_by_its_length_and_the_connection_may_go_on() -> None:
    refusal = check(("Content-Length", str(MAX_BODY + 1)))
    assert refusal is not None
    assert (refusal.status, refusal.reason, refusal.ends_connection) == (413, "TaskTooLarge", False)
