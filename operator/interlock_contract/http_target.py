"""A server that is reached over HTTP, as the bundle describes it, and what such a description must keep to. No I/O."""

import re
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from interlock_contract.addresses import Network
from interlock_contract.strict_fields import BundleInvalid, StrictFields, refuse_doubles

_LABEL: Final = r"[0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?"
_PORT: Final = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
URL: Final = rf"^https?://{_LABEL}(\.{_LABEL})*(:{_PORT})?([/?][!$-;=?-\[\]_a-z~]*)?$"
"""A name or an IPv4 address, no user, no fragment, and nothing that two readers of URLs could take for other hosts."""

HEADER_NAME: Final = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$"
"""A token of RFC 9110, section 5.6.2."""

HEADER_RESERVED: Final = (
    r"^([Mm][Cc][Pp]-.*|(?i:accept|accept-encoding|connection|content-encoding|content-length|content-type|expect|host"
    r"|keep-alive|last-event-id|proxy-.*|te|trailer|transfer-encoding|upgrade))$"
)
"""Names of headers that belong to MCP, to the guard or to one connection alone; no binding may set them."""

HEADER_VALUE: Final = r"^[!-~]([ -~]*[!-~])?$"
"""Printable ASCII that neither begins nor ends with a space."""

_FILE: Final = re.compile(r"[0-9a-z]{1,16}\Z")
_MAX_NAME: Final = 128
_MAX_VALUE: Final = 8192


def matches(pattern: str, text: str) -> bool:
    """Match as RE2 does: `$` is the end of the text, not also a line break before it."""
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text) is not None


@dataclass(frozen=True, slots=True)
class TargetHeader:
    """A header of every request to a server: its value, or the name of the file that holds it, a secret's."""

    name: str
    value: str | None
    file: str | None


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """What a server is reached with; of a file of CA certificates, where there is one, those alone are trusted."""

    url: str
    network: Network
    headers: tuple[TargetHeader, ...]
    ca_file: str | None


def parse_target(value: Any, path: str) -> HttpTarget:
    """Read a server's description out of a bundle.

    Raises:
        BundleInvalid: Naming the path of what is wrong.
    """
    fields = StrictFields(value, path)
    target = HttpTarget(
        url=fields.text("url"),
        network=cast("Network", fields.one_of("network", get_args(Network))),
        headers=tuple(_header(item, at) for item, at in fields.items("headers")),
        ca_file=_file(fields, "caFile") if fields.has("caFile") else None,
    )
    fields.close()
    if not matches(URL, target.url):
        raise BundleInvalid(f"{path}.url: must be an http or https URL without user and fragment")
    if not target.url.startswith("https:") and (target.network == "Public" or target.ca_file is not None):
        raise BundleInvalid(f"{path}.url: must be https for the network Public, and with caFile")
    refuse_doubles([header.name.lower() for header in target.headers], f"{path}.headers", "name")
    return target


def is_header_value(text: str) -> bool:
    """Say whether a text can be a header's value."""
    return len(text) <= _MAX_VALUE and matches(HEADER_VALUE, text)


def _header(value: Any, path: str) -> TargetHeader:
    fields = StrictFields(value, path)
    name = fields.text("name")
    if len(name) > _MAX_NAME or not matches(HEADER_NAME, name):
        raise BundleInvalid(f"{path}.name: must be the name of an HTTP header")
    if matches(HEADER_RESERVED, name):
        raise BundleInvalid(f"{path}.name: is the guard's own")
    if fields.exactly_one("value", "file") == "file":
        header = TargetHeader(name, None, _file(fields, "file"))
    else:
        text = fields.take("value")
        if not isinstance(text, str) or not is_header_value(text):
            raise BundleInvalid(f"{path}.value: must be printable ASCII")
        header = TargetHeader(name, text, None)
    fields.close()
    return header


def _file(fields: StrictFields, key: str) -> str:
    name = fields.text(key)
    if _FILE.match(name) is None:
        raise BundleInvalid(f"{fields.at(key)}: must be the name of a file")
    return name
