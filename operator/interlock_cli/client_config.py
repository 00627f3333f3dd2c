"""What cannot be imported, in a sentence that names the place, the value and the way out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn


class ImportRefusedError(Exception):
    """Something that cannot be imported.

    Attributes:
        sentences: One for each problem. None of them holds a value that may be a secret.
    """

    def __init__(self, *sentences: str) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


def quote(value: object, longest: int = 80) -> str:
    """Return a value as one short line of ASCII, whatever is in it."""
    text = ascii(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


LARGEST_FILE = 1048576
MOST_SERVERS = 256


@dataclass(frozen=True)
class ConfiguredServer:
    """One server as the file has it.

    Attributes:
        name: Its name there.
        place: Where it stands, such as `mcpServers.github`.
        members: What is said of it.
    """

    name: str
    place: str
    members: Mapping[str, Any]


def parse_servers(text: str) -> tuple[ConfiguredServer, ...]:
    """Return the servers of a file.

    Known are `{"mcpServers": ...}` (Claude Desktop, Cursor and others), `{"servers": ...}` (VS Code's mcp.json),
    `{"mcp": {"servers": ...}}` (VS Code's settings) and the servers by themselves.

    Raises:
        ImportRefusedError: It is no strict JSON (a key twice included), or none of these shapes.
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
        raise ImportRefusedError(f"{place} is no object: write command and args, or the url of a server")
    return ConfiguredServer(name, place, members)


def _servers_in(document: Any) -> tuple[str, Any]:
    if not isinstance(document, dict):
        raise ImportRefusedError('the file holds no JSON object: write {"mcpServers": {"<name>": ...}}')
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
            "this is no JSON (comments and a comma after the last element are none either), mend it there"
        ) from None
    except UnicodeEncodeError:
        raise ImportRefusedError("a string holds half of a character (a lone surrogate): write it whole") from None
    except RecursionError:
        raise ImportRefusedError("the file is nested too deeply: no server needs that, take it out") from None
    return parsed


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ImportRefusedError(f"the key {quote(key)} is there twice in one object: keep one of them")
        members[key] = value
    return members


def _constant(text: str) -> NoReturn:
    raise ImportRefusedError(f"{text} is no JSON: write a number or a string")


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


def read_transport(server: ConfiguredServer) -> None:
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
            raise ImportRefusedError(f"{place} is {quote(written)}: write {right[0]}, or leave it out")


def is_disabled(server: ConfiguredServer) -> bool:
    """Tell whether the file has the server switched off."""
    return server.members.get("disabled") is True or server.members.get("enabled") is False


def read_text(server: ConfiguredServer, name: str) -> str:
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


def read_strings(server: ConfiguredServer, name: str) -> dict[str, str]:
    """Return a member that is an object of strings, empty where it is missing.

    Raises:
        ImportRefusedError: It is no such object.
    """
    value = server.members.get(name, {})
    if not isinstance(value, Mapping):
        raise ImportRefusedError(f'{server.place}.{name} is no object: write {{"NAME": "value"}}')
    for key, one in value.items():
        if not isinstance(one, str):
            raise ImportRefusedError(f"{server.place}.{name}.{quote(key)} is no string: write it in quotation marks")
    return dict(value)
