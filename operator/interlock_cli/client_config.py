"""The parser of MCP client configs. Each refusal names the place, the value and the fix."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn


class ImportRefusedError(Exception):
    """A config that cannot be imported.

    Attributes:
        messages: One sentence for each problem. None of them has a value that may be a secret.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("; ".join(messages))
        self.messages = messages


def quote(value: object, longest: int = 80) -> str:
    """Return any value as one short line of ASCII."""
    text = ascii(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


LARGEST_FILE = 1048576
MOST_SERVERS = 256


@dataclass(frozen=True)
class ConfiguredServer:
    """One server of a config.

    Attributes:
        name: Its name in the config.
        place: Its place, such as `mcpServers.github`.
        members: Its settings.
    """

    name: str
    place: str
    members: Mapping[str, Any]


def parse_servers(text: str) -> tuple[ConfiguredServer, ...]:
    """Return the servers of a config.

    Known shapes are `{"mcpServers": ...}` (Claude Desktop, Cursor and others), `{"servers": ...}` (VS Code's mcp.json),
    `{"mcp": {"servers": ...}}` (VS Code's settings) and the servers by themselves.

    Raises:
        ImportRefusedError: The text is no strict JSON (duplicate keys included), or has none of these shapes.
    """
    place, found = _servers_in(_parse_strictly(text))
    if not isinstance(found, dict) or not found:
        raise ImportRefusedError(f'{place or "the file"} names no server: write {{"mcpServers": {{"<name>": ...}}}}')
    if len(found) > MOST_SERVERS:
        raise ImportRefusedError(f"{len(found)} servers are more than {MOST_SERVERS}: import fewer at once")
    return tuple(_server(name, f"{place}.{name}" if place else name, members) for name, members in found.items())


def _server(name: str, place: str, members: Any) -> ConfiguredServer:
    place = quote(place)[1:-1]
    if not isinstance(members, dict):
        raise ImportRefusedError(f"{place} is not an object: write command and args, or the url of a server")
    return ConfiguredServer(name, place, members)


def _servers_in(document: Any) -> tuple[str, Any]:
    if not isinstance(document, dict):
        raise ImportRefusedError('the file is not a JSON object: write {"mcpServers": {"<name>": ...}}')
    nested = document.get("mcp")
    candidates = {"mcpServers": document.get("mcpServers"), "servers": document.get("servers")}
    if isinstance(nested, dict) and "servers" in nested:
        candidates["mcp.servers"] = nested["servers"]
    present = {place: value for place, value in candidates.items() if value is not None}
    if len(present) > 1:
        raise ImportRefusedError(f"the file has servers in {' and in '.join(present)}: keep them in one place")
    if present:
        return next(iter(present.items()))
    if document and all(isinstance(one, dict) and {"command", "url"} & one.keys() for one in document.values()):
        return "", document
    raise ImportRefusedError(
        f"the file has neither mcpServers nor servers, but {quote(sorted(document)[:8])}: "
        'write {"mcpServers": {"<name>": ...}}'
    )


def _parse_strictly(text: str) -> Any:
    if len(text) > LARGEST_FILE:
        raise ImportRefusedError(f"the file has more than {LARGEST_FILE} characters: import fewer servers at once")
    try:
        parsed = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_object, parse_constant=_constant)
        json.dumps(parsed, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ImportRefusedError(
            f"line {error.lineno}, column {error.colno}: {error.msg}: "
            "this is not JSON (comments and a comma after the last element are not allowed), fix it there"
        ) from None
    except UnicodeEncodeError:
        raise ImportRefusedError(
            "a string has half of a character (a lone surrogate): write the whole character"
        ) from None
    except RecursionError:
        raise ImportRefusedError("the file is nested too deeply: no server needs that, remove it") from None
    return parsed


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ImportRefusedError(f"the key {quote(key)} is present twice in one object: keep one of them")
        members[key] = value
    return members


def _constant(text: str) -> NoReturn:
    raise ImportRefusedError(f"{text} is not JSON: write a number or a string")


KNOWN: Final = frozenset(
    {"type", "transport", "command", "args", "env", "url", "headers", "permissions", "disabled", "enabled"}
)
"""Settings that the import uses."""

CLIENTS_OWN: Final = frozenset(
    {"alwaysAllow", "autoApprove", "description", "dev", "disabledTools", "gallery", "icon", "name", "timeout", "trust"}
    | {"version", "tools"}
)
"""Settings that only the client uses. What it approves without asking permits nothing here."""

UNSUPPORTED: Final = {
    "cwd": "a container starts in its image's folder, so write absolute paths and remove cwd",
    "envFile": "write the variables into env, a secret as ${NAME}",
    "oauth": "a binding can only send headers from a Secret: remove it and write headers",
    "auth": "a binding can only send headers from a Secret: remove it and write headers",
    "headersHelper": "the import runs no program: write headers, a secret as ${NAME}",
    "serverUrl": "write it as url",
    "httpUrl": "write it as url",
}
"""Settings without a counterpart that change how the server works, each with the fix."""

_STDIO: Final = ("stdio", "local")
_HTTP: Final = ("http", "streamable-http", "streamableHttp", "streamable_http", "remote")


def read_transport(server: ConfiguredServer) -> None:
    """Check the transport that the config names.

    Raises:
        ImportRefusedError: Interlock does not support it, or it does not fit the server.
    """
    for name in ("type", "transport"):
        written = server.members.get(name)
        if written is None:
            continue
        place = f"{server.place}.{name}"
        if written == "sse":
            raise ImportRefusedError(
                f"{place} is sse, the transport of 2024-11-05, which Interlock does not support: write http and the "
                "URL of the server's streamable HTTP, if it has one"
            )
        right = _HTTP if "url" in server.members else _STDIO
        if written not in right:
            raise ImportRefusedError(f"{place} is {quote(written)}: write {right[0]}, or leave it out")


def is_disabled(server: ConfiguredServer) -> bool:
    """Return True if the config disables the server."""
    return server.members.get("disabled") is True or server.members.get("enabled") is False


def read_text(server: ConfiguredServer, name: str) -> str:
    """Return a setting that is a string.

    Raises:
        ImportRefusedError: The setting is not a string.
    """
    value = server.members.get(name)
    if not isinstance(value, str):
        raise ImportRefusedError(f"{server.place}.{name} is not a string: write it in quotation marks")
    return value


def read_words(value: Any, place: str) -> list[str]:
    """Return a list of strings. A single string is a list of one.

    Raises:
        ImportRefusedError: The value is not such a list.
    """
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ImportRefusedError(
            f'{place} is not a list of strings: write ["one", "two"], numbers in quotation marks too'
        )
    return words


def read_strings(server: ConfiguredServer, name: str) -> dict[str, str]:
    """Return a setting that is an object of strings, empty if it is missing.

    Raises:
        ImportRefusedError: The setting is not such an object.
    """
    value = server.members.get(name, {})
    if not isinstance(value, Mapping):
        raise ImportRefusedError(f'{server.place}.{name} is not an object: write {{"NAME": "value"}}')
    for key, one in value.items():
        if not isinstance(one, str):
            raise ImportRefusedError(f"{server.place}.{name}.{quote(key)} is not a string: write it in quotation marks")
    return dict(value)
