"""The servers of an MCP client config, whichever client wrote it, in one shape. Each refusal names place and fix."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from interlock_cli.config_json import ImportRefusedError, parse_config, quote
from interlock_cli.harmless import is_harmless, is_name, show, show_name
from interlock_cli.mcp_bundle import NOTE, bundle_server, is_bundle
from interlock_cli.registry import is_registry_entry, registry_server, short_name, unwrapped
from interlock_cli.vocabulary import split_words

MOST_SERVERS: Final = 256
_LONGEST_NAME: Final = 63


@dataclass(frozen=True)
class ConfiguredServer:
    """One server of a config.

    Attributes:
        name: Its name in the config.
        place: Its place, such as `mcpServers.github`.
        members: Its settings, by the names that most clients use.
        origins: The key in the file of each setting that has another there, such as `command[1]` for `args[0]`.
        inputs: The default of each of VS Code's `inputs` that is no password.
        problem: The reason why it is no server. Empty if it is one.
        notes: Sentences for the reviewer about what was left out.
    """

    name: str
    place: str
    members: Mapping[str, Any]
    origins: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The name of the source that the server becomes, empty if its name cannot become one."""
        whole, last = _source(self.name), _source(self.name.rstrip("/").rpartition("/")[2])
        return whole if len(whole) <= _LONGEST_NAME else last if len(last) <= _LONGEST_NAME else ""

    @property
    def is_disabled(self) -> bool:
        """True if the config disables the server."""
        members = self.members
        return members.get("disabled") is True or members.get("enabled") is False or members.get("isActive") is False


@dataclass(frozen=True)
class ClientConfig:
    """A config.

    Attributes:
        servers: Its servers, in the order of the file.
        left_out: A sentence for each member that looks like a server and is none.
    """

    servers: tuple[ConfiguredServer, ...]
    left_out: tuple[str, ...] = ()


def _source(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


_PLACES: Final = (
    ("mcpServers",),  # Claude, Cursor, Windsurf, Cline, Roo, Kiro, Gemini, Amazon Q and most others
    ("servers",),  # VS Code's mcp.json
    ("mcp", "servers"),  # VS Code's settings
    ("mcp", "mcpServers"),
    ("settings", "mcp", "servers"),  # a workspace of VS Code
    ("customizations", "vscode", "mcp", "servers"),  # a development container
    ("context_servers",),  # Zed
    ("mcp_servers",),
    ("amp.mcpServers",),
    ("mcp.servers",),
    ("experimental", "modelContextProtocolServers"),  # Continue
    ("augment.advanced", "mcpServers"),
)
_HINTS: Final = frozenset({"command", "cmd", "url", "httpUrl", "serverUrl", "server_url", "baseUrl", "uri"})
_WRITE_SERVERS: Final = 'write {"mcpServers": {"<name>": ...}}'


def parse_servers(text: str, package_type: str | None = None) -> ClientConfig:
    """Return the servers of a config, or of a server.json of the official registry.

    Args:
        text: The file.
        package_type: The package of a server.json to use, such as `npm` or `remote`. None takes the first that can be
            imported.

    Raises:
        ImportRefusedError: The text is no JSON with comments, or no known shape of config.
    """
    document = parse_config(text)
    further = _further_pairs(document)
    place, found = ("projects", {}) if further and not any(_present(document).values()) else _servers_in(document)
    inputs = _inputs(document)
    pairs = _distinct(_pairs(found, place) + further) if further else _pairs(found, place)
    if isinstance(found, str):
        raise ImportRefusedError(f"{place} names another file, which has the servers: import that file")
    if not pairs:
        raise ImportRefusedError(f"{place or 'the file'} names no server: {_WRITE_SERVERS}")
    if len(pairs) > MOST_SERVERS:
        raise ImportRefusedError(f"{len(pairs)} servers are more than {MOST_SERVERS}: import fewer at once")
    servers, left_out = [], []
    for name, at, members in pairs:
        if _is_comment(name, members):
            left_out.append(f"{at} is not an object, so it is a comment")
        else:
            servers.append(_server(name, at, members, inputs, package_type))
    if isinstance(document, dict) and place:
        top = place.partition(".")[0]
        left_out += [
            f"{_key(name)} is next to {place}, where clients ignore it: move it into {place}"
            for name, one in document.items()
            if name not in (top, place) and _has_hints(one)
        ]
    return ClientConfig(tuple(servers), tuple(left_out))


def _servers_in(document: Any) -> tuple[str, Any]:
    if isinstance(document, list):
        return "", document
    if not isinstance(document, dict):
        raise ImportRefusedError(f"the file is not a JSON object: {_WRITE_SERVERS}")
    if is_registry_entry(document) or is_bundle(document):
        return "", {unwrapped(document)["name"]: document}
    present = _present(document)
    filled = {place: value for place, value in present.items() if value} or present
    if len(filled) > 1:
        raise ImportRefusedError(f"the file has servers in {' and in '.join(filled)}: keep them in one place")
    nested = next(iter((filled or _nested(document)).items()), None)
    if nested is not None:
        return nested
    alone = [one for name, one in document.items() if not _is_comment(name, one)]
    if alone and all(map(_has_hints, alone)):
        return "", document
    if isinstance(document.get("name"), str) and _HINTS & document.keys():
        return "", {document["name"]: document}
    if _HINTS & document.keys():
        raise ImportRefusedError(f"the file is one server without a name: {_WRITE_SERVERS}")
    names = ", ".join(show_name(name) for name in sorted(document)[:8] if not name.startswith("$"))
    raise ImportRefusedError(f"the file has neither mcpServers nor servers, but [{names}]: {_WRITE_SERVERS}")


def _present(document: dict[str, Any]) -> dict[str, Any]:
    """Return what is at each of the places where clients have their servers."""
    present = {}
    for path in _PLACES:
        value: Any = document
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            present[".".join(path)] = value
    return present


def _nested(document: dict[str, Any]) -> dict[str, Any]:
    """Return what is at each of the places that have servers at some clients, and other settings elsewhere."""
    present = {}
    for place in ("mcp", "extensions", "tools"):  # opencode and Crush, Goose, a request to OpenAI's API
        value = document.get(place)
        entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if any(map(_has_hints, entries)) or (place == "mcp" and value == {}):
            present[place] = value
    return present


def _is_comment(name: str, value: Any) -> bool:
    return not isinstance(value, dict) and re.match(r"[_$#/]|comment", name, re.IGNORECASE) is not None


def _has_hints(value: Any) -> bool:
    return isinstance(value, dict) and not _HINTS.isdisjoint(value)


def _pairs(found: Any, place: str) -> list[tuple[str, str, Any]]:
    """Return name, place and settings of each server of an object or a list."""
    if isinstance(found, dict):
        return [
            (name, f"{place}.{_key(name)}" if place else _key(name), one)
            if _may_be_printed(name)
            else ("", f"{place}[{index}]", one)
            for index, (name, one) in enumerate(found.items())
        ]
    if not isinstance(found, list):
        return []
    pairs = []
    for index, entry in enumerate(found):
        one = unwrapped(entry)
        keys = ("name", "id", "serverName", "server_label", "title")
        names = [one.get(key) for key in keys] if isinstance(one, dict) else []
        name = next((name for name in names if isinstance(name, str) and name and _may_be_printed(name)), "")
        pairs.append((name, f"{place}[{index}]", one))
    return pairs


def _further_pairs(document: Any) -> list[tuple[str, str, Any]]:
    """Return the servers that clients keep in second places.

    Claude Code has some in `.claude.json` for each folder of the user, Kiro those of its powers.
    """
    projects = document.get("projects") if isinstance(document, dict) else None
    pairs = []
    for index, (folder, project) in enumerate(projects.items() if isinstance(projects, dict) else ()):
        servers = project.get("mcpServers") if isinstance(project, dict) else None
        if isinstance(servers, dict):
            at = f"projects.{quote(folder)}" if is_harmless(folder) else f"projects[{index}]"
            pairs += _pairs(servers, f"{at}.mcpServers")
    powers = document.get("powers") if isinstance(document, dict) else None
    return pairs + _pairs(powers.get("mcpServers") if isinstance(powers, dict) else None, "powers.mcpServers")


def _distinct(pairs: list[tuple[str, str, Any]]) -> list[tuple[str, str, Any]]:
    """Return the servers without those that another folder has too, with the same settings."""
    distinct = {(name, json.dumps(one, sort_keys=True)): (name, place, one) for name, place, one in reversed(pairs)}
    return list(reversed(distinct.values()))


def _key(name: str) -> str:
    """Return the name of a server for a place. The binding has this name too."""
    return quote(name)[1:-1] if _may_be_printed(name) else show_name(name)


def _may_be_printed(name: str) -> bool:
    """Return False for a URL with a possible secret in the place of a name."""
    return "://" not in name or is_harmless(name)


def _inputs(document: Any) -> dict[str, str]:
    """Return the defaults of VS Code's inputs."""
    holder = document.get("mcp", document) if isinstance(document, dict) else {}
    listed = holder.get("inputs") if isinstance(holder, dict) else None
    return {
        one["id"]: one["default"]
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict)
        and isinstance(one.get("id"), str)
        and isinstance(one.get("default"), str)
        and one.get("password") is not True
    }


def _server(
    name: str, place: str, members: Any, inputs: Mapping[str, str], package_type: str | None
) -> ConfiguredServer:
    if not isinstance(members, dict):
        problem = f"{place} is not an object: write command and args, or the url of a server"
        return ConfiguredServer(name, place, {}, problem=problem)
    if is_registry_entry(members):
        try:
            found = registry_server(members, place, package_type)
        except ImportRefusedError as error:
            return ConfiguredServer(short_name(name), place, {}, problem=error.messages[0])
        return ConfiguredServer(short_name(name), place, found.members, found.origins, notes=tuple(found.notes))
    if is_bundle(members):
        try:
            bundle = bundle_server(members, place)
        except ImportRefusedError as error:
            return ConfiguredServer(name, place, {}, problem=error.messages[0])
        return ConfiguredServer(name, place, bundle.members, bundle.origins, notes=(NOTE,))
    common, origins = _common_members(members)
    problem = ""
    if not name:
        problem = f"{place} has no name, or a URL with a possible secret as its name: write a name, such as crm"
    return ConfiguredServer(name, place, common, origins, inputs, problem)


_ALIASES: Final = {
    "cmd": "command",
    "environment": "env",
    "envs": "env",
    "httpUrl": "url",
    "serverUrl": "url",
    "serverURL": "url",
    "server_url": "url",
    "baseUrl": "url",
    "uri": "url",
    "endpoint": "url",
    "http_headers": "headers",
    "transportType": "type",
    "transport_type": "type",
}


def _common_members(members: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Rename the settings of opencode, Zed, Gemini and others. Return them with the keys that they have in the file."""
    common, origins = {name: one for name, one in members.items() if one is not None}, dict[str, str]()
    nested = {name: common.pop(name) for name in ("transport", "requestInit") if isinstance(common.get(name), dict)}
    for place, value in nested.items():
        for name, one in value.items():
            if one is not None and common.setdefault(name, one) is one:
                origins[name] = f"{place}.{name}"
    if "httpUrl" in common:
        common.pop("url", None)  # Gemini: the older transport, which it uses only without httpUrl
    for alias, name in _ALIASES.items():
        if alias in common and name not in common:
            common[name] = common.pop(alias)
            origins[name] = alias
    _drop_empty(common)
    _fill_from_environment(common)
    _fill_token(common)
    command = common.get("command")
    if isinstance(command, dict):
        _spread(command, common, origins)
    elif isinstance(command, list) and command and all(isinstance(word, str) for word in command):
        rest = common.get("args", [])
        rest = rest if isinstance(rest, list) else [rest]
        common["command"], common["args"] = command[0], [*command[1:], *rest]
        origins |= {f"args[{index}]": f"command[{index + 1}]" for index in range(len(command) - 1)}
        origins |= {f"args[{index + len(command) - 1}]": f"args[{index}]" for index in range(len(rest))}
        origins["command"] = "command[0]"
    return common, origins


def _fill_from_environment(common: dict[str, Any]) -> None:
    """Write the variables that Codex takes from the user's environment, and Goose from its store, as placeholders."""
    headers, bearer = common.get("env_http_headers"), common.get("bearer_token_env_var")
    filled: dict[str, dict[str, str]] = {"headers": {}, "env": {}}
    if isinstance(headers, dict) and all(isinstance(one, str) for one in headers.values()):
        filled["headers"] |= {name: f"${{{one}}}" for name, one in common.pop("env_http_headers").items()}
    if isinstance(bearer, str):
        filled["headers"]["Authorization"] = f"Bearer ${{{common.pop('bearer_token_env_var')}}}"
    for key in ("env_vars", "env_keys"):
        listed = common.get(key)
        if isinstance(listed, list) and all(isinstance(one, str) for one in listed) and "url" not in common:
            filled["env"] |= {name: f"${{{name}}}" for name in common.pop(key)}
    for name, values in filled.items():
        own = common.get(name, {})
        if values and isinstance(own, dict):
            common[name] = values | own


def _fill_token(common: dict[str, Any]) -> None:
    """Write the token that requests to the APIs of Anthropic and OpenAI have for a server as a header."""
    for key in ("authorization_token", "authorization"):
        token, headers = common.get(key), common.get("headers", {})
        if isinstance(token, str) and token and isinstance(headers, dict) and "url" in common:
            shown = token if token.startswith("${") else f"${{{key}}}"
            common["headers"] = {"Authorization": f"Bearer {shown}"} | headers
            del common[key]


def _drop_empty(common: dict[str, Any]) -> None:
    """Drop what the forms of clients leave empty: the command of a server over HTTP, the headers of another."""
    for empty, other in (("command", "url"), ("url", "command")):
        if common.get(other) and not common.get(empty):
            common.pop(empty, None)
    for name in ("headers",) if "command" in common else ("args", "env"):
        if common.get(name) in ([], {}, ""):
            del common[name]


def _spread(command: Mapping[str, Any], common: dict[str, Any], origins: dict[str, str]) -> None:
    """Move the settings of Zed's `command` object to the server."""
    del common["command"]
    for name, one in command.items():
        target = "command" if name in ("path", "command") else name
        if one is not None:
            common.setdefault(target, one)
            origins[target] = f"command.{name}"


KNOWN: Final = frozenset(
    {"type", "transport", "command", "args", "env", "url", "headers", "permissions", "disabled", "enabled", "isActive"}
)
"""Settings that the import uses."""

CLIENTS_OWN: Final = split_words("""
    $schema alwaysAllow autoApprove autoStart description dev disabledTools disabled_tools enabled_tools env_keys
    excludeTools gallery icon iconPath id includeTools key label license logoUrl name note notes provider
    requiresOAuth require_approval server_label source start_on_launch startup_timeout_ms startup_timeout_sec tags
    timeout tool_timeout_sec title tools trust trusted version
    """)
"""Settings that only the client uses. What it approves without asking permits nothing here."""

_WRITE_HEADERS: Final = "a binding can only send headers from a Secret: remove it and write headers"
UNSUPPORTED: Final = {
    "cwd": "a container starts in its image's folder, so write absolute paths and remove cwd",
    "workingDirectory": "a container starts in its image's folder, so write absolute paths and remove it",
    "envFile": "write the variables into env, a secret as ${NAME}",
    "env_file": "write the variables into env, a secret as ${NAME}",
    "oauth": _WRITE_HEADERS,
    "auth": _WRITE_HEADERS,
    "authProviderType": _WRITE_HEADERS,
    "headersHelper": "the import runs no program: write headers, a secret as ${NAME}",
}
"""Settings without a counterpart that change how the server works, each with the fix."""

_STDIO: Final = ("stdio", "local", "command", "process", "custom")
_HTTP: Final = ("http", "https", "streamable", "streamablehttp", "httpstream", "remote", "url", "mcp")
_SSE: Final = ("sse", "httpsse", "ssehttp", "legacysse", "sseonly", "serversentevents", "ssetransport")
WRITE_STREAMABLE: Final = "write the URL of the server's streamable HTTP, if it has one, and the type http"


def transport_problem(server: ConfiguredServer, place_of: Callable[[str], str]) -> str:
    """Return the problem of the transport that the config names, empty if it has none.

    Args:
        server: The server.
        place_of: Returns the place of one of its settings.
    """
    right = _HTTP if "url" in server.members else _STDIO
    for name in ("type", "transport"):
        written = server.members.get(name)
        plain = re.sub(r"[^a-z]", "", written.lower()) if isinstance(written, str) else ""
        if written is None or plain in right:
            continue
        if plain in _SSE:
            return (
                f"{place_of(name)} is {written if is_name(written) else 'SSE'}, the SSE transport of 2024-11-05, which "
                f"Interlock does not support: {WRITE_STREAMABLE}"
            )
        written_as = show(written) if isinstance(written, str) else "not a string"
        return f"{place_of(name)} is {written_as}: write {right[0]}, or leave it out"
    return ""


def names_http(server: ConfiguredServer) -> bool:
    """Return True if the config says that the server uses streamable HTTP."""
    written = [server.members.get(name) for name in ("type", "transport")]
    # `remote` of opencode, and `url` and `mcp` of requests to models, are any server over HTTP, that of SSE too.
    return any(isinstance(one, str) and one.lower() not in ("remote", "url", "mcp") for one in written)
