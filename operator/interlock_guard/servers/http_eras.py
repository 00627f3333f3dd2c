"""Which headers a message to a server over HTTP needs, in each era of MCP. No I/O.

Handshake era: "Streamable HTTP" of the specification 2025-11-25. Stateless era: that of 2026-07-28, whose routing
headers repeat what the body says; they are made from the very body that goes out.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from interlock_guard.wire import methods
from interlock_guard.wire.http_names import METHOD_HEADER, NAME_HEADER, SESSION_HEADER, VERSION_HEADER

_PLAIN: Final = re.compile(r"[\x20-\x7e]*\Z")
_ENCODED: Final = re.compile(r"=\?base64\?.*\?=\Z")
_SESSION: Final = re.compile(r"[\x21-\x7e]{1,1024}\Z")


def stateless_headers(method: str, params: Mapping[str, Any], version: str) -> dict[str, str]:
    """Return the routing headers of a request of the stateless era."""
    headers = {VERSION_HEADER: version, METHOD_HEADER: method}
    name = params.get(methods.NAME_HEADER.get(method, ""))
    if isinstance(name, str):
        headers[NAME_HEADER] = encode_header(name)
    return headers


def session_headers(session: str, version: str) -> dict[str, str]:
    """Return the headers of a message of the handshake era, after its handshake."""
    return {VERSION_HEADER: version} | ({SESSION_HEADER: session} if session else {})


def is_session_id(text: str) -> bool:
    """Say whether a server's session id is one that the specification allows: visible ASCII."""
    return _SESSION.match(text) is not None


def encode_header(value: str) -> str:
    """Return a value as a header carries it: as it is, or in the specification's Base64 form where it would not do."""
    if _PLAIN.match(value) and value == value.strip() and not _ENCODED.match(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="
