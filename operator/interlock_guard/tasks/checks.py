"""What a task must look like as an HTTP request before it is even read: nothing that two parsers could differ on."""

import re
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, web

from interlock_guard.tasks.refusals import MAX_BODY, TOO_LARGE, Refusal, malformed

METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""The methods that reach an agent."""

_TARGET: Final = re.compile(r"/[!-\"$-~]*\Z")
"""Origin form of RFC 9112, section 3.2.1: printable ASCII, and no fragment, which clients keep to themselves."""
_LENGTH: Final = re.compile(r"[0-9]{1,18}\Z")
_ONCE: Final = ("Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Expect", "Authorization")
_SWITCHES: Final = frozenset({"websocket", "tcp"})
"""What the HTTP parser switches to; any other offer of an upgrade may be ignored (RFC 9110, section 7.8)."""


def check_request(http: web.BaseRequest) -> Refusal | None:
    """Return why the request is not passed on, as far as its head tells."""
    return _check_line(http) or _check_headers(http) or _check_size(http)


def _check_line(http: web.BaseRequest) -> Refusal | None:
    if http.version not in (HttpVersion10, HttpVersion11):
        return malformed("This speaks HTTP/1.1.", 505)
    if http.method not in METHODS:
        return malformed(f"The method must be one of {', '.join(sorted(METHODS))}.", 405)
    if _TARGET.match(http.raw_path) is None:
        return malformed("The request's target must be a path, printable and without a fragment.")
    return None


def _check_headers(http: web.BaseRequest) -> Refusal | None:
    headers = http.headers
    doubled = next((name for name in _ONCE if len(headers.getall(name, ())) > 1), None)
    if doubled is not None:
        return malformed(f"The header {doubled} is there twice.")
    if http.version == HttpVersion11 and not headers.get("Host"):
        return malformed("The header Host is missing.")
    if headers.get("Upgrade", "").strip().lower() in _SWITCHES:
        return malformed("Web sockets and other protocols than HTTP are not passed on.", 501)
    if headers.get("Expect", "100-continue").lower() != "100-continue":
        return malformed("Nothing but 100-continue can be expected here.", 417)
    return None


def _check_size(http: web.BaseRequest) -> Refusal | None:
    length, coding = http.headers.get("Content-Length"), http.headers.get("Transfer-Encoding")
    if length is not None and coding is not None:
        return malformed("Content-Length and Transfer-Encoding contradict each other: send one of them.")
    if coding is not None and (coding.lower() != "chunked" or http.version == HttpVersion10):
        return malformed("The only Transfer-Encoding that is read is chunked, in HTTP/1.1.", 501)
    if length is not None and _LENGTH.match(length) is None:
        return malformed("Content-Length is not a number.")
    return TOO_LARGE if length is not None and int(length) > MAX_BODY else None
