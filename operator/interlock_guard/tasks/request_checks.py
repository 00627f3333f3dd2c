"""The checks of a request's head: what two HTTP parsers could read differently is not passed on to an agent."""

import re
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, web

from interlock_guard.tasks.headers import imitates
from interlock_guard.tasks.refusals import MAX_BODY, TOO_LARGE, TaskRefusal, malformed

METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""The methods that reach an agent."""
_BODILESS: Final = frozenset({"GET", "HEAD"})
"""Methods whose body has no meaning (RFC 9110, section 9.3.1): many servers leave it on the connection."""

_TARGET: Final = re.compile(r"/[!-\"$-~]*\Z")
"""Origin form of RFC 9112, section 3.2.1: printable ASCII, and no fragment, which clients keep to themselves."""
_LENGTH: Final = re.compile(r"[0-9]{1,18}\Z")
_ONCE: Final = ("Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Expect", "Authorization")
_SWITCHES: Final = frozenset({"websocket", "tcp"})
"""What the HTTP parser switches to; any other offer of an upgrade may be ignored (RFC 9110, section 7.8)."""


def check_request(http: web.BaseRequest) -> TaskRefusal | None:
    """Return why the request is not passed on, as far as its head tells."""
    return _check_line(http) or _check_headers(http) or _check_size(http)


def _check_line(http: web.BaseRequest) -> TaskRefusal | None:
    if http.version not in (HttpVersion10, HttpVersion11):
        return malformed("This speaks HTTP/1.1.", 505)
    if http.method not in METHODS:
        return malformed(f"The method must be one of {', '.join(sorted(METHODS))}.", 405)
    if _TARGET.match(http.raw_path) is None:
        return malformed("The request's target must be a path, printable and without a fragment.")
    return None


def _check_headers(http: web.BaseRequest) -> TaskRefusal | None:
    headers = http.headers
    doubled = next((name for name in _ONCE if len(headers.getall(name, ())) > 1), None)
    if doubled is not None:
        return malformed(f"The header {doubled} is there twice.")
    imitation = next((name for name in headers if imitates(name)), None)
    if imitation is not None:
        return malformed(f"The header {imitation} could be taken for another one: use no sign but - in its name.")
    if http.version == HttpVersion11 and not headers.get("Host"):
        return malformed("The header Host is missing.")
    if headers.get("Upgrade", "").strip().lower() in _SWITCHES:
        return malformed("Web sockets and other protocols than HTTP are not passed on.", 501)
    if headers.get("Expect", "100-continue").lower() != "100-continue":
        return malformed("Nothing but 100-continue can be expected here.", 417)
    return None


def _check_size(http: web.BaseRequest) -> TaskRefusal | None:
    length, coding = http.headers.get("Content-Length"), http.headers.get("Transfer-Encoding")
    if length is not None and coding is not None:
        return malformed("Content-Length and Transfer-Encoding contradict each other: send one of them.")
    if coding is not None and (coding.lower() != "chunked" or http.version == HttpVersion10):
        return malformed("The only Transfer-Encoding that is read is chunked, in HTTP/1.1.", 501)
    if length is not None and _LENGTH.match(length) is None:
        return malformed("Content-Length is not a number.")
    if http.method in _BODILESS and (coding is not None or int(length or "0") > 0):
        return malformed(f"A {http.method} request has no body: send it by POST.")
    return TOO_LARGE if length is not None and int(length) > MAX_BODY else None
