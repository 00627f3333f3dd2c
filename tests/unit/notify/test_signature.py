import base64

import pytest

from interlock_notify.signature import SigningKeyInvalid, build_headers, parse_keys

KEY = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'


def test_the_signature_is_that_of_the_specifications_own_libraries() -> None:
    """The vector of the test suites of the Standard Webhooks libraries."""
    headers = build_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, BODY, parse_keys(KEY))

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_while_a_key_is_rotated_there_is_a_signature_of_each() -> None:
    other = base64.b64encode(b"k" * 32)
    old, new = parse_keys(KEY), parse_keys(other)
    both = build_headers("id", 1, BODY, parse_keys(KEY + b"\n" + other + b"\n"))["webhook-signature"]

    assert both.split(" ") == [build_headers("id", 1, BODY, keys)["webhook-signature"] for keys in (old, new)]


def test_without_a_key_the_other_headers_are_sent() -> None:
    assert build_headers("id", 1, BODY, ()).keys() == {"webhook-id", "webhook-timestamp"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"whsec_",
        b"whsec_not base64!",
        b"whsec_" + base64.b64encode(b"k" * 23),
        b"whsec_" + base64.b64encode(b"k" * 65),
        b" ".join([base64.b64encode(b"k" * 24)] * 3),
        "whsec_\u00fc".encode(),
    ],
)
def test_a_file_without_a_key_of_the_specified_size_is_refused_and_never_quoted(content: bytes) -> None:
    with pytest.raises(SigningKeyInvalid) as refused:
        parse_keys(content)

    assert "whsec_" not in str(refused.value)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_key_may_lack_prefix_and_padding_and_end_with_a_line_end(size: int) -> None:
    key = bytes(range(size))

    assert parse_keys(base64.b64encode(key).rstrip(b"=") + b"\n") == (key,)
