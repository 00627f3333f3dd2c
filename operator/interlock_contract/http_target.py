"""The HTTP target: the description of a server that a guard reaches over HTTP, and the rules that it must keep.

The CRDs check the same rules with the patterns of this module. No I/O.
"""

import re
from typing import Annotated, Final

from msgspec import Meta

from interlock_contract.addresses import Network
from interlock_contract.strict_fields import StrictStruct, Text, like, refuse_doubles, require_one

_LABEL: Final = r"[0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?"
_PORT: Final = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
URL: Final = rf"^https?://{_LABEL}(\.{_LABEL})*(:{_PORT})?([/?][!$-;=?-\[\]_a-z~]*)?$"
"""A name or an IPv4 address, no user, no fragment, and nothing that two readers of URLs could take for other hosts."""

PROXY_URL: Final = rf"^https?://{_LABEL}(\.{_LABEL})*(:{_PORT})?/?$"
"""An HTTP proxy: a name or an IPv4 address, and a port, without user and path."""

HEADER_NAME: Final = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$"
"""A token of RFC 9110, section 5.6.2."""

HEADER_RESERVED: Final = (
    r"^([Mm][Cc][Pp]-.*|(?i:accept|accept-encoding|connection|content-encoding|content-length|content-type|expect|host"
    r"|keep-alive|last-event-id|proxy-.*|te|trailer|transfer-encoding|upgrade))$"
)
"""Names of headers that belong to MCP, to the guard or to one connection alone; no binding may set them."""

HEADER_VALUE: Final = r"^[!-~]([ -~]*[!-~])?$"
"""Printable ASCII that neither begins nor ends with a space."""

FileName = Annotated[str, like(r"[0-9a-z]{1,32}", "the name of a file")]
"""Of a file with a Secret's or ConfigMap's key."""

_MAX_VALUE: Final = 8192


def matches(pattern: str, text: str) -> bool:
    """Match as RE2 does: `$` is the end of the text, not also a line break before it."""
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text) is not None


class TargetHeader(StrictStruct, frozen=True):
    """A header of every request to a server: its value, or the name of the file that holds it, a secret's."""

    name: Annotated[str, like(HEADER_NAME, "the name of an HTTP header"), Meta(max_length=128)]
    value: Annotated[str, like(HEADER_VALUE, "printable ASCII"), Meta(max_length=_MAX_VALUE)] | None = None
    file: FileName | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if matches(HEADER_RESERVED, self.name):
            raise ValueError(".name: is the guard's own")
        require_one(value=self.value, file=self.file)


class ProxyTarget(StrictStruct, frozen=True):
    """The proxy through which a server is reached; of a file of CA certificates those alone are trusted for it."""

    url: Annotated[Text, like(PROXY_URL, "an http or https URL of a proxy")]
    ca_file: FileName | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if self.ca_file is not None and not self.url.startswith("https:"):
            raise ValueError(".url: must be https with caFile")


class HttpTarget(StrictStruct, frozen=True):
    """What a server is reached with; of a file of CA certificates, where there is one, those alone are trusted."""

    url: Annotated[Text, like(URL, "an http or https URL without user and fragment")]
    network: Network
    headers: tuple[TargetHeader, ...]
    ca_file: FileName | None = None
    proxy: ProxyTarget | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if not self.url.startswith("https:") and (self.network == "Public" or self.ca_file is not None):
            raise ValueError(".url: must be https for the network Public, and with caFile")
        if self.proxy is not None and self.network != "Public":
            raise ValueError(".proxy: is for the network Public alone")
        refuse_doubles((header.name.lower() for header in self.headers), "headers", "name")


def is_header_value(text: str) -> bool:
    """Say whether a text can be a header's value."""
    return len(text) <= _MAX_VALUE and matches(HEADER_VALUE, text)
