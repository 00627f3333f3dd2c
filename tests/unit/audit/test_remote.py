"""Answers that no collector sends do not end a report by a crash, or never."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from interlock_audit.cost_sql import Cost, CostQuery, all_costs
from interlock_audit.remote import Remote
from interlock_audit.stores import StoreUnavailable

QUERY = CostQuery("2026-03-01", "2026-03-02", "2026-03-03", ("agent",))
SUM = {"group": ["agents/triage"], "calls": 1, "nanos": 2, "bound_calls": 0, "bound_nanos": 0, "unreadable": 0}
WHOLE: dict[str, Any] = SUM | {"tokens": [0] * 8}


class Liar(HTTPServer):
    """Answers every request with the same text."""

    text = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def remote(self) -> Remote:
        return Remote(f"http://127.0.0.1:{self.server_port}", None)

    def says(self, value: Any) -> Remote:
        self.text = json.dumps(value).encode()
        return self.remote


class Answer(BaseHTTPRequestHandler):
    server: Liar

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.text)))
        self.end_headers()
        self.wfile.write(self.server.text)

    def log_message(self, *_: Any) -> None:  # type: ignore[override]
        pass


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_sums_are_read_as_the_collector_sends_them(liar: Liar) -> None:
    remote = liar.says({"costs": [WHOLE], "next": None})
    assert list(all_costs(remote, QUERY)) == [[(("agents/triage",), Cost(calls=1, nanos=2))]]


@pytest.mark.parametrize(
    "cost",
    [
        None,
        {},
        SUM,
        WHOLE | {"more": 1},
        WHOLE | {"calls": "1"},
        WHOLE | {"calls": True},
        WHOLE | {"nanos": 1.5},
        WHOLE | {"group": []},
        WHOLE | {"group": [5]},
        WHOLE | {"group": "x"},
        WHOLE | {"tokens": [0] * 7},
        WHOLE | {"tokens": [None] * 8},
    ],
)
def test_a_sum_of_another_shape_is_refused(liar: Liar, cost: Any) -> None:
    with pytest.raises(StoreUnavailable, match="not a list of costs"):
        liar.says({"costs": [cost], "next": None}).costs(QUERY)


def test_pages_of_costs_that_do_not_end_are_refused(liar: Liar) -> None:
    remote = liar.says({"costs": [], "next": "2026-03-01,a,1"})
    with pytest.raises(StoreUnavailable, match="do not end"):
        list(all_costs(remote, QUERY))


@pytest.mark.parametrize("following", [5, "", "a,b", "a,b,x", ["a", "b", 1], {}])
def test_a_next_page_of_another_shape_is_refused(liar: Liar, following: Any) -> None:
    with pytest.raises(StoreUnavailable, match="names no further page"):
        liar.says({"costs": [], "next": following}).costs(QUERY)
