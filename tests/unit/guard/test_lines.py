from hypothesis import given
from hypothesis import strategies as st

from interlock_guard.wire.streams import LineBuffer, Oversized


def test_lines_come_whole_however_they_are_cut() -> None:
    buffer = LineBuffer(100)
    assert buffer.feed(b"on") == []
    assert buffer.feed(b"e\ntwo\nth") == [b"one", b"two"]
    assert buffer.feed(b"") == []
    assert buffer.feed(b"ree\n") == [b"three"]
    assert buffer.feed(b"\n") == [b""]


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.integers(1, 7))
def test_no_cut_changes_the_lines(lines: list[bytes], size: int) -> None:
    buffer = LineBuffer(100)
    data = b"".join(line + b"\n" for line in lines)
    assert [line for at in range(0, len(data), size) for line in buffer.feed(data[at : at + size])] == lines


def test_a_line_of_just_the_bound_is_whole_and_one_byte_more_is_not() -> None:
    assert LineBuffer(5).feed(b"12345\n") == [b"12345"]
    assert LineBuffer(5).feed(b"123456\n") == [Oversized(b"123456", b"123456")]


def test_the_line_after_an_oversized_one_is_whole() -> None:
    buffer = LineBuffer(10)
    assert buffer.feed(b"x" * 1000) == []
    assert buffer.feed(b"y" * 1000) == []
    first, second = buffer.feed(b"z\nshort\n")
    assert isinstance(first, Oversized)
    assert first.tail == b"y" * 255 + b"z"
    assert second == b"short"


def oversized(line: bytes) -> Oversized:
    (found,) = LineBuffer(300).feed(line + b"\n")
    assert isinstance(found, Oversized)
    return found


FILL = b"x" * 600


def test_the_id_is_found_where_serialisers_put_it() -> None:
    assert oversized(b'{"jsonrpc":"2.0","id":7,"result":{"a":"' + FILL + b'"}}').response_id() == 7
    assert oversized(b'{"jsonrpc": "2.0", "id": 7, "result": {"a": "' + FILL + b'"}}').response_id() == 7
    assert oversized(b'{"result":{"a":"' + FILL + b'"},"jsonrpc":"2.0","id":7}').response_id() == 7
    assert oversized(b'{"result":{"a":"' + FILL + b'"},"jsonrpc":"2.0","id":7}\r').response_id() == 7


def test_an_id_inside_the_result_is_not_taken_for_the_answers() -> None:
    assert oversized(b'{"jsonrpc":"2.0","result":{"a":"' + FILL + b'","id":8}}').response_id() is None
    assert oversized(b'{"result":{"id":8,"a":"' + FILL + b'"}}').response_id() is None
    assert oversized(b'{"result":{"a":"' + FILL + b'\\"id\\":8}"}}').response_id() is None
    assert oversized(b'{"method":"m","params":{"a":"' + FILL + b'"},"jsonrpc":"2.0","id":8}').response_id() is None
    assert oversized(b'{"jsonrpc":"2.0","id":8,"method":"m","params":"' + FILL + b'"}').response_id() is None
    assert oversized(b'id 8: {"a":"' + FILL + b'","id":8}').response_id() is None


def test_the_id_is_found_in_other_orders_and_forms() -> None:
    assert oversized(b'{"id":7,"jsonrpc":"2.0","result":{"a":"' + FILL + b'"}}').response_id() == 7
    assert oversized(b'{ "jsonrpc" : "2.0", "id" : "7", "error": {"a":"' + FILL + b'"}}').response_id() == 7
    assert oversized(b'{"jsonrpc":"2.0","result":{"a":"' + FILL + b'"},"id":7}').response_id() == 7
    assert oversized(b'{"result":{"a":"' + FILL + b'"},"id":"7","jsonrpc":"2.0"}').response_id() == 7
