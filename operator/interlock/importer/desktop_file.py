"""The files in which desktop clients keep their MCP servers: strict JSON, in the shapes that clients write."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from interlock.importer.refused import ImportRefusedError, shown

LARGEST_FILE = 1048576
MOST_SERVERS = 256


@dataclass(frozen=True)
class DesktopServer:
    """One server as the file has it.

    Attributes:
        name: Its name there.
        place: Where it stands, such as `mcpServers.github`.
        members: What is said of it.
    """

    name: str
    place: str
    members: Mapping[str, Any]


def parse_servers(text: str) -> tuple[DesktopServer, ...]:
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


def _server(name: str, place: str, members: Any) -> DesktopServer:
    place = shown(place)[1:-1]
    if not isinstance(members, dict):
        raise ImportRefusedError(f"{place} is no object: write command and args, or the url of a server")
    return DesktopServer(name, place, members)


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
        f"the file has neither mcpServers nor servers, but {shown(sorted(document)[:8])}: "
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
            raise ImportRefusedError(f"the key {shown(key)} is there twice in one object: keep one of them")
        members[key] = value
    return members


def _constant(text: str) -> NoReturn:
    raise ImportRefusedError(f"{text} is no JSON: write a number or a string")
