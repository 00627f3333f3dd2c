"""The MCPBinding of one server of an MCP client config, with notes for its reviewer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from interlock.api.binding import MCPBinding
from interlock.api.messages import COMMAND_TOO_LARGE, RESOURCE
from interlock_cli.client_config import (
    CLIENTS_OWN,
    KNOWN,
    UNSUPPORTED,
    ConfiguredServer,
    ImportRefusedError,
    quote,
    read_transport,
    read_words,
)
from interlock_cli.credentials import Secrets
from interlock_cli.operation_heuristics import Guesses, guess_tools, read_tools
from interlock_cli.server import Choices, build_http, build_stdio
from interlock_contract.names import API_VERSION, NEEDS_REVIEW

_LONGEST_NAME: Final = 63
_LARGEST_COMMAND: Final = 32768


@dataclass(frozen=True)
class Imported:
    """A server as a binding.

    Attributes:
        manifest: The MCPBinding, as a Kubernetes object.
        secrets: The Secret that it refers to.
        guesses: The guesses about its tools.
        notes: Further sentences for the reviewer.
    """

    manifest: dict[str, Any]
    secrets: Secrets
    guesses: Guesses
    notes: list[str] = field(default_factory=list)


def source_name(server: ConfiguredServer) -> str:
    """Return the name of the source that a server becomes.

    Raises:
        ImportRefusedError: The server's name cannot become a name of a source.
    """
    name = re.sub(r"[^a-z0-9]+", "-", server.name.lower()).strip("-")
    if not name or len(name) > _LONGEST_NAME:
        raise ImportRefusedError(
            f"{server.place}: the name cannot become a source: write at most {_LONGEST_NAME} letters, digits, dashes"
        )
    return name


def build_binding(server: ConfiguredServer, choices: Choices) -> Imported:
    """Return the binding of a server. It permits only what the config permits.

    Raises:
        ImportRefusedError: Part of it cannot be imported, or config and choices leave it open.
    """
    source = source_name(server)
    notes = _check_members(server)
    permissions = _permissions(server)
    secrets = Secrets(source)
    build = build_http if "url" in server.members else build_stdio
    reached, more = build(server, source, choices, secrets)
    guesses = Guesses()
    if source in choices.tools:
        listed = read_tools(choices.tools[source], f"the list of tools of {source}")
        stated = dict.fromkeys(name for names in permissions.values() for name in names)
        guesses = guess_tools(listed, source, stated)
    manifest = _manifest(source, choices, guesses)
    tools = [{"name": one.name, "operation": one.operation, "resource": one.resource} for one in guesses.tools]
    manifest["spec"] |= {"server": reached, "tools": tools, "permissions": permissions}
    _check(manifest, server.place)
    return Imported(manifest, secrets, guesses, notes + more)


def _manifest(source: str, choices: Choices, guesses: Guesses) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": source}
    if choices.namespace is not None:
        metadata["namespace"] = choices.namespace
    if guesses.tools:
        metadata["annotations"] = {NEEDS_REVIEW: "operation and resource of each tool are guesses"}
    spec = {"source": source, "environments": list(choices.environments)}
    return {"apiVersion": API_VERSION, "kind": "MCPBinding", "metadata": metadata, "spec": spec}


def _check_members(server: ConfiguredServer) -> list[str]:
    members = server.members
    for name, way_out in UNSUPPORTED.items():
        if name in members:
            raise ImportRefusedError(f"{server.place}.{name} cannot be imported: {way_out}")
    if ("command" in members) == ("url" in members):
        raise ImportRefusedError(f"{server.place} needs exactly one of command and url: write one of them")
    wrong = ("headers",) if "command" in members else ("args", "env")
    for name in wrong:
        if name in members:
            raise ImportRefusedError(f"{server.place}.{name} does not belong to such a server: remove it")
    read_transport(server)
    left_out = sorted(members.keys() - KNOWN)
    own, unknown = [one for one in left_out if one in CLIENTS_OWN], [one for one in left_out if one not in CLIENTS_OWN]
    notes = [f"left out, because only the client uses them: {', '.join(own)}"] if own else []
    return notes + ([f"left out, because they are unknown: {', '.join(map(quote, unknown))}"] if unknown else [])


def _permissions(server: ConfiguredServer) -> dict[str, list[str]]:
    place = f"{server.place}.permissions"
    written = server.members.get("permissions", {})
    if not isinstance(written, Mapping):
        raise ImportRefusedError(f'{place} is not an object: write {{"read": ["contacts"], "write": [], "delete": []}}')
    unknown = sorted(written.keys() - {"read", "write", "delete"})
    if unknown:
        raise ImportRefusedError(f"{place} has {quote(unknown[0])}: write read, write or delete")
    result = {}
    for operation in ("read", "write", "delete"):
        result[operation] = read_words(written.get(operation, []), f"{place}.{operation}")
        for name in result[operation]:
            if not re.fullmatch(RESOURCE[1:-1], name):
                raise ImportRefusedError(
                    f"{place}.{operation} has {quote(name)}, which is not a resource: write letters, digits, "
                    "dashes, such as contacts; a binding names each resource, so * is not allowed"
                )
    return {operation: names for operation, names in result.items() if names}


def _check(manifest: dict[str, Any], place: str) -> None:
    """Validate the binding. `server.py` has checked the rules that only the API server knows."""
    try:
        binding = MCPBinding.model_validate(manifest)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise ImportRefusedError(
            *(f"{place}: {'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in found)
        ) from None
    stdio = binding.spec.server.stdio
    if stdio is not None:
        env = sum(len(one.name) + len(one.value or "") for one in stdio.env)
        if env + sum(map(len, (*stdio.command, *stdio.args))) > _LARGEST_COMMAND:
            raise ImportRefusedError(f"{place}: {COMMAND_TOO_LARGE}")
