"""The `server.json` of the official MCP registry, as the settings that an MCP client config would have for it.

An entry lists packages and remote servers, each of which is the same server. The import takes one of them: an image
before a package, a package before a remote server, unless its user names another.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from interlock_cli.config_json import ImportRefusedError
from interlock_cli.harmless import show, show_name

PACKAGE_TYPES: Final = ("oci", "npm", "pypi", "remote")
"""The kinds of packages that can be imported, in the order of preference."""


@dataclass
class RegistryServer:
    """A package or remote server of an entry.

    Attributes:
        members: The settings that a client would have for it.
        origins: The key in the file of each setting.
        optional: The names of variables and headers that are left out, because they have no value.
        notes: Sentences about what was left out of the entry.
    """

    members: dict[str, Any]
    origins: dict[str, str]
    optional: list[str]
    notes: list[str] = field(default_factory=list)


def is_registry_entry(document: Any) -> bool:
    """Return True if a JSON value is an entry of the registry, alone or in an answer of its API."""
    entry = unwrapped(document)
    if not isinstance(entry, Mapping):
        return False
    lists = [entry.get(name) for name in ("packages", "remotes")]
    is_said = "/server.schema.json" in str(entry.get("$schema", ""))
    return isinstance(entry.get("name"), str) and (is_said or any(isinstance(one, list) for one in lists))


def short_name(name: str) -> str:
    """Return the last part of an entry's name, with its owner if others have the same: com.example/mcp, example-mcp."""
    owner, _, last = name.rpartition("/")
    is_common = last.lower() in ("mcp", "server", "mcp-server", "mcp_server", "api") and owner
    return f"{owner.rpartition('.')[2]}-{last}" if is_common else last


def unwrapped(document: Any) -> Any:
    """Return the entry in an answer of the registry's API, and any other value as it is."""
    is_answer = isinstance(document, Mapping) and "server" in document and "name" not in document
    return document["server"] if is_answer else document


def registry_server(entry: Mapping[str, Any], place: str, package_type: str | None) -> RegistryServer:
    """Return the package or remote server of an entry that the import uses.

    Args:
        entry: The entry.
        place: Its place in the file.
        package_type: The kind of package to use, None for the preferred one.

    Raises:
        ImportRefusedError: No package can be imported, or none of this kind.
    """
    entry = unwrapped(entry)
    offered: dict[str, Callable[[], RegistryServer]] = {}
    for kind, convert in _offers(entry):
        offered.setdefault(kind, convert)
    for kind in [package_type] if package_type else PACKAGE_TYPES:
        if kind in offered:
            found = offered[kind]()
            others = [one for one in offered if one != kind and one in PACKAGE_TYPES]
            if others:
                found.notes.append(f"the entry has {kind}, and also {', '.join(others)}: --package takes another")
            if found.optional:
                found.notes.append(f"left out, because they are optional: {', '.join(found.optional)}")
            return found
    raise ImportRefusedError(
        f"{place or 'the file'} has no package that can be imported, but "
        f"{', '.join(show_name(kind) for kind in offered) or 'none at all'}: Interlock imports "
        f"{', '.join(PACKAGE_TYPES)} (streamable-http). For another one, write its command or its url: "
        '{"mcpServers": {"<name>": ...}}'
    )


def _offers(entry: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], RegistryServer]]]:
    """Yield each kind of package with the function that converts it."""
    for index, remote in enumerate(_objects(entry.get("remotes"))):
        kind = str(remote.get("type", remote.get("transport_type", "")))
        at = f"remotes[{index}]"
        yield ("remote" if "sse" not in kind.lower() else "sse"), partial(_remote, remote, at)
    for index, package in enumerate(_objects(entry.get("packages"))):
        kind = str(_get(package, "registryType") or package.get("registry_name") or "")
        kind = {"docker": "oci"}.get(kind, kind)
        at = f"packages[{index}]"
        transport = package.get("transport")
        if isinstance(transport, Mapping) and transport.get("type", "stdio") != "stdio":
            kind = f"{kind} with {transport.get('type')}"
        yield kind, partial(_package, package, kind, at)


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _get(value: Mapping[str, Any], name: str) -> Any:
    """Return a member by its name of today or of the first schema, which had underscores."""
    return value.get(name, value.get(re.sub(r"[A-Z]", lambda sign: f"_{sign[0].lower()}", name)))


def _remote(remote: Mapping[str, Any], at: str) -> RegistryServer:
    headers, optional = _named_inputs(remote.get("headers"))
    url = _value({"value": remote.get("url"), "variables": remote.get("variables")}, "url")
    origins = {"url": f"{at}.url", "headers": f"{at}.headers"}
    return RegistryServer({"url": url, "headers": headers}, origins, optional)


def _package(package: Mapping[str, Any], kind: str, at: str) -> RegistryServer:
    identifier, version = str(package.get("identifier", package.get("name", ""))), package.get("version")
    env, optional = _named_inputs(_get(package, "environmentVariables"))
    runtime = list(_arguments(_get(package, "runtimeArguments"), f"{at}.runtimeArguments"))
    own = list(_arguments(_get(package, "packageArguments"), f"{at}.packageArguments"))
    base = re.sub(r"^https?://|/$", "", str(_get(package, "registryBaseUrl") or ""))
    notes = []
    if kind == "oci":
        has_tag = ":" in identifier.rpartition("/")[2] or "@" in identifier
        image = identifier if has_tag or not version else f"{identifier}:{version}"
        has_host = re.match(r"[^/]*[.:][^/]*/", image) or re.search(r"(^|\.)docker\.(io|com)(/|$)", base)
        if base and not has_host:
            image = f"{base}/{image}"
        handed = [(word, f"{at}.environmentVariables") for name in env for word in ("-e", name)]
        if not runtime or runtime[0][0] != "run":  # entries of the first schema may have the whole command there
            runtime = [("run", at), ("-i", at), ("--rm", at), *runtime]
        named, command, flags = image, "docker", [*runtime[:1], *handed, *runtime[1:]]
    else:
        separator = {"npm": "@", "pypi": "=="}[kind]
        named = f"{identifier}{separator}{version}" if version else identifier
        command = {"npm": "npx", "pypi": "uvx"}[kind]
        yes = [("-y", at)] if kind == "npm" and all(word not in ("-y", "--yes") for word, _ in runtime) else []
        flags = [*yes, *runtime]
        if base and not re.search(r"(^|\.)(npmjs|pypi)\.(org|com)(/|$)", base):
            notes.append(f"the entry takes its package from another registry than {command}: {show(base)}")
    words = [*flags, *([] if _is_named(identifier, runtime) else [(named, f"{at}.identifier")]), *own]
    origins = {f"args[{index}]": origin for index, (_, origin) in enumerate(words)}
    members = {"command": command, "args": [word for word, _ in words], "env": env}
    return RegistryServer(members, origins | {"command": at}, optional, notes)


def _is_named(identifier: str, runtime: Sequence[tuple[str, str]]) -> bool:
    """Return True if the arguments of the runner name the package themselves, with `--from` or by its identifier."""
    return any(
        word == "--from" or re.split(r"(?<=.)[@:=]", word)[0] == re.split(r"(?<=.)[@:=]", identifier)[0]
        for word, _ in runtime
    )


def _named_inputs(listed: Any) -> tuple[dict[str, str], list[str]]:
    """Return environment variables or headers, and the names of optional ones without a value."""
    found, optional = {}, []
    for one in _objects(listed):
        name = one.get("name")
        value = _value(one, str(name))
        if isinstance(name, str) and value is not None:
            found[name] = value
        elif isinstance(name, str):
            optional.append(show_name(name)[1:-1])
    return found, optional


def _value(described: Mapping[str, Any], name: str) -> str | None:
    """Return the value of an entry, a placeholder for one that its user must choose, None for an optional one."""
    stated, is_secret = described.get("value"), _is_secret(described)
    if isinstance(stated, int | float):
        stated = str(stated).lower()
    if isinstance(stated, str):
        # {name} in a value stands for one of its variables. A secret one makes the whole value a secret.
        variables = described.get("variables")
        names = dict(variables) if isinstance(variables, Mapping) else {}
        filled = re.sub(
            r"\{([A-Za-z_][A-Za-z0-9_-]*)\}", lambda found: _variable(found[1], names.get(found[1])), stated
        )
        return filled if not is_secret or "${" in filled else f"${{{name}}}"
    default = described.get("default")
    if isinstance(default, int | float):
        default = str(default).lower()
    if is_secret:
        return f"${{{name}}}"
    if isinstance(default, str) and default:
        return default
    is_required = _get(described, "isRequired") is True or described.get("required") is True
    return f"${{{name}}}" if is_required or described.get("variables") else None


def _is_secret(described: Mapping[str, Any]) -> bool:
    """Return True if an entry marks a value as a secret, in whatever way."""
    return _get(described, "isSecret") not in (None, False, "false")


def _variable(name: str, described: Any) -> str:
    default = described.get("default") if isinstance(described, Mapping) else None
    is_secret = isinstance(described, Mapping) and _is_secret(described)
    return default if isinstance(default, str) and not is_secret else f"${{{name}}}"


def _arguments(listed: Any, at: str) -> Iterator[tuple[str, str]]:
    for index, one in enumerate(_objects(listed)):
        place = f"{at}[{index}]"
        name = one.get("name")
        value = _value(one, str(_get(one, "valueHint") or name or f"ARGUMENT_{index}").lstrip("-"))
        is_switch = value is None and not _get(one, "valueHint") and _get(one, "isRequired") is not False
        if isinstance(name, str) and one.get("type") == "named" and (value is not None or is_switch):
            yield name, place
        if value is not None:
            yield value, place
