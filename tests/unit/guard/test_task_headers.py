import pytest
from multidict import CIMultiDict

from interlock_guard.tasks.headers import Trace, read_trace, to_agent, to_caller
from tests.requirements import requirement

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FRESH = "a" * 32 + "b" * 16


@requirement("tasks.trace")
def test_a_valid_trace_is_passed_on_as_it_is() -> None:
    trace = read_trace([PARENT], FRESH)
    assert (trace.parent, trace.id, trace.is_new) == (PARENT, "0af7651916cd43dd8448eb211c80319c", False)


@requirement("tasks.trace")
@pytest.mark.parametrize(
    "parents",
    [
        [],
        [PARENT, PARENT],
        [""],
        [PARENT.upper()],
        [PARENT + "-more"],
        ["ff" + PARENT[2:]],
        ["00-" + "0" * 32 + PARENT[35:]],
        [PARENT[:36] + "0" * 16 + "-01"],
        [PARENT + "\n"],
    ],
)
def test_without_a_valid_one_a_trace_is_made(parents: list[str]) -> None:
    trace = read_trace(parents, FRESH)
    assert (trace.parent, trace.is_new) == (f"00-{'a' * 32}-{'b' * 16}-01", True)


def test_a_later_version_of_the_header_may_say_more() -> None:
    later = "01" + PARENT[2:] + "-what-is-to-come"
    assert read_trace([later], FRESH).parent == later


@pytest.mark.parametrize("name", ["Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade"])
def test_what_belongs_to_one_connection_stays_there(name: str) -> None:
    sent = CIMultiDict({name: "x", "X-Kept": "1"})
    assert dict(to_agent(sent, "t", Trace(PARENT))) == {
        "X-Kept": "1",
        "traceparent": PARENT,
        "Interlock-Task": "t",
    }
    assert name not in to_caller(sent, "t")


@pytest.mark.parametrize("name", ["Interlock_Task", "interlock.task", "Content_Length"])
def test_a_header_that_could_be_taken_for_another_reaches_neither_side(name: str) -> None:
    sent = CIMultiDict({name: "x", "X_Kept": "1"})
    assert name not in to_agent(sent, "t", Trace(PARENT))
    answered = to_caller(sent, "t")
    assert name not in answered
    assert answered["X_Kept"] == "1"


def test_so_does_what_connection_names_but_for_what_says_where_a_message_ends() -> None:
    sent = CIMultiDict(
        [("Connection", "close, X-One"), ("connection", "Content-Length,host,Interlock-Task,traceparent, x-two")]
    )
    for name in ("X-One", "X-Two", "Content-Length", "Host", "traceparent"):
        sent[name] = "1"
    assert dict(to_agent(sent, "t", Trace(PARENT))) == {
        "Content-Length": "1",
        "Host": "1",
        "traceparent": PARENT,
        "Interlock-Task": "t",
    }


def test_only_the_guard_speaks_in_the_guards_name() -> None:
    forged = CIMultiDict({"Interlock-Task": "forged", "interlock-more": "forged"})
    assert "forged" not in to_agent(forged, "t", Trace(PARENT)).values()
    assert "forged" not in to_caller(forged, "t").values()


def test_headers_that_repeat_go_on_repeating() -> None:
    answer = to_caller(CIMultiDict([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]), "t")
    assert answer.getall("Set-Cookie") == ["a=1", "b=2"]


def test_the_state_of_a_trace_goes_with_its_trace() -> None:
    sent = CIMultiDict({"tracestate": "vendor=1"})
    assert to_agent(sent, "t", Trace(PARENT))["tracestate"] == "vendor=1"
    assert "tracestate" not in to_agent(sent, "t", Trace(PARENT, is_new=True))
