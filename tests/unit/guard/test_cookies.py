"""Cookies of one connection to an MCP server: kept as load balancers set them, within bounds."""

import pytest

from interlock_guard.upstream.cookies import MAX_COOKIES, MAX_TOTAL, Cookies
from tests.requirements import requirement


def after(*lines: str) -> str:
    cookies = Cookies()
    for line in lines:
        cookies.take([line])
    return cookies.headers().get("Cookie", "")


@requirement("http.habits")
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["AWSALB=a+/b==; Expires=Sun, 06 Dec 2099 01:00:00 GMT; Path=/"], "AWSALB=a+/b=="),
        (["AWSALB=a; Path=/", "AWSALBCORS=b; SameSite=None; Secure", "AWSALB=c"], "AWSALBCORS=b; AWSALB=c"),
        (['route="1|x"; Domain=other.example; HttpOnly'], 'route="1|x"'),
        (["  a = b ;Max-Age=600"], "a=b"),
        (["a="], "a="),
        (["a=b", "a=; Max-Age=0"], ""),
        (["a=b", "a=c; max-age=-1; Path=/"], ""),
        (["a=b", "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], ""),
        (["a=b", "a=; expires=Thu, 01-Jan-1970 00:00:00 GMT; Max-Age=0"], ""),
        (["", "=b", "a", "a b=c", "a=b c", "a=\x07", "a=\u00e9", "\u00e9=a"], ""),
    ],
)
def test_cookies_go_back_as_they_were_set(lines: list[str], expected: str) -> None:
    assert after(*lines) == expected


def test_there_are_at_most_so_many_cookies_and_an_earlier_one_stays() -> None:
    many = [f"c{number}=x" for number in range(MAX_COOKIES + 5)]
    assert after(*many).count("=") == MAX_COOKIES
    assert "c0=y" in after(*many, "c0=y")
    assert after(f"a={'x' * MAX_TOTAL}") == ""
    assert after("a=b", f"a={'x' * MAX_TOTAL}") == "a=b"


def test_no_cookie_stays_once_they_are_cleared() -> None:
    cookies = Cookies()
    cookies.take(["a=b"])
    cookies.clear()
    assert cookies.headers() == {}
