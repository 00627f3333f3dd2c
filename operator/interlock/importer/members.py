"""The members of a server in a desktop file: which there are, and of which type."""

from collections.abc import Mapping
from typing import Any, Final

from interlock.importer.desktop_file import DesktopServer
from interlock.importer.refused import ImportRefusedError, shown

KNOWN: Final = frozenset(
    {"type", "transport", "command", "args", "env", "url", "headers", "permissions", "disabled", "enabled"}
)
"""What is read."""

CLIENTS_OWN: Final = frozenset(
    {"alwaysAllow", "autoApprove", "description", "dev", "disabledTools", "gallery", "icon", "name", "timeout", "trust"}
    | {"version", "tools"}
)
"""What steers the client alone; above all, what it approves without asking permits nothing here."""

UNSUPPORTED: Final = {
    "cwd": "a container starts in its image's folder, so write whole paths and take cwd out",
    "envFile": "write the variables into env, a secret one as ${NAME}",
    "oauth": "a header from a Secret is all that a binding can send; take it out and write headers",
    "auth": "a header from a Secret is all that a binding can send; take it out and write headers",
    "headersHelper": "no program of the desktop is run; write headers, a secret one as ${NAME}",
    "serverUrl": "write it as url",
    "httpUrl": "write it as url",
}
"""What changes how the server works and has no counterpart, with the way out."""

_STDIO: Final = ("stdio", "local")
_HTTP: Final = ("http", "streamable-http", "streamableHttp", "streamable_http", "remote")


def read_transport(server: DesktopServer) -> None:
    """Check the transport that the file names against what the server has.

    Raises:
        ImportRefusedError: It is one that Interlock does not speak, or another than the server's.
    """
    for name in ("type", "transport"):
        written = server.members.get(name)
        if written is None:
            continue
        place = f"{server.place}.{name}"
        if written == "sse":
            raise ImportRefusedError(
                f"{place} is sse, the transport of 2024-11-05, which Interlock does not speak: write http and the URL "
                "of the server's streamable HTTP, if it has one"
            )
        right = _HTTP if "url" in server.members else _STDIO
        if written not in right:
            raise ImportRefusedError(f"{place} is {shown(written)}: write {right[0]}, or leave it out")


def is_disabled(server: DesktopServer) -> bool:
    """Tell whether the file has the server switched off."""
    return server.members.get("disabled") is True or server.members.get("enabled") is False


def read_text(server: DesktopServer, name: str) -> str:
    """Return a member that is a string.

    Raises:
        ImportRefusedError: It is none.
    """
    value = server.members.get(name)
    if not isinstance(value, str):
        raise ImportRefusedError(f"{server.place}.{name} is no string: write it in quotation marks")
    return value


def read_words(value: Any, place: str) -> list[str]:
    """Return a list of strings; a string by itself is a list of one.

    Raises:
        ImportRefusedError: It is no such list.
    """
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ImportRefusedError(f'{place} is no list of strings: write ["one", "two"], numbers in quotation marks too')
    return words


def read_strings(server: DesktopServer, name: str) -> dict[str, str]:
    """Return a member that is an object of strings, empty where it is missing.

    Raises:
        ImportRefusedError: It is no such object.
    """
    value = server.members.get(name, {})
    if not isinstance(value, Mapping):
        raise ImportRefusedError(f'{server.place}.{name} is no object: write {{"NAME": "value"}}')
    for key, one in value.items():
        if not isinstance(one, str):
            raise ImportRefusedError(f"{server.place}.{name}.{shown(key)} is no string: write it in quotation marks")
    return dict(value)
