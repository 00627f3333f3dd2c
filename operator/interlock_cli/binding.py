"""The MCPBinding of one server of an MCP client config, with notes for its reviewer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from interlock.api.binding import MCPBinding
from interlock.api.messages import COMMAND_TOO_LARGE, RESOURCE
from interlock_cli.client_config import CLIENTS_OWN, KNOWN, UNSUPPORTED, ConfiguredServer, transport_problem
from interlock_cli.config_json import ImportRefusedError
from interlock_cli.credentials import Secrets
from interlock_cli.findings import Findings
from interlock_cli.harmless import is_name, show_name
from interlock_cli.operation_heuristics import Guesses, guess_tools, read_tools
from interlock_cli.secret_names import kind_of
from interlock_cli.server import Choices, build_server, read_words
from interlock_contract.names import API_VERSION, NEEDS_REVIEW

_LARGEST_COMMAND: Final = 32768


@dataclass(frozen=True)
class Imported:
    """A server as a binding.

    Attributes:
        manifest: The MCPBinding, as a Kubernetes object.
        secrets: The Secret that it refers to.
        guesses: The guesses about its tools.
        notes: Further sentences for the reviewer.
        kept: The keys of values that the user keeps, whatever their shape.
    """

    manifest: dict[str, Any]
    secrets: Secrets
    guesses: Guesses
    notes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def build_binding(server: ConfiguredServer, choices: Choices) -> Imported:
    """Return the binding of a server. It permits only what the config permits.

    Raises:
        ImportRefusedError: Part of it cannot be imported, or config and choices leave it open. It has all problems.
    """
    if server.problem or not server.source:
        raise ImportRefusedError(
            server.problem
            or f"{server.place}: the name cannot become a source: write at most 63 letters, digits and dashes"
        )
    findings = Findings(server, choices.keep.get(server.source, frozenset()))
    _check_members(findings)
    permissions = _permissions(findings)
    reached = build_server(findings, choices)
    guesses = Guesses()
    if server.source in choices.tools:
        with findings.collected():
            listed = read_tools(choices.tools[server.source], f"the list of tools of {server.source}")
            stated = dict.fromkeys(name for names in permissions.values() for name in names)
            guesses = guess_tools(listed, server.source, stated)
    findings.finish()
    manifest = _manifest(server.source, choices, guesses)
    tools = [{"name": one.name, "operation": one.operation, "resource": one.resource} for one in guesses.tools]
    manifest["spec"] |= {"server": reached, "tools": tools, "permissions": permissions}
    _check(manifest, server.place)
    return Imported(manifest, findings.secrets, guesses, findings.notes, sorted(findings.kept))


def _manifest(source: str, choices: Choices, guesses: Guesses) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": source}
    if choices.namespace is not None:
        metadata["namespace"] = choices.namespace
    if guesses.tools:
        metadata["annotations"] = {NEEDS_REVIEW: "operation and resource of each tool are guesses"}
    spec = {"source": source, "environments": list(choices.environments)}
    return {"apiVersion": API_VERSION, "kind": "MCPBinding", "metadata": metadata, "spec": spec}


def _check_members(findings: Findings) -> None:
    members = findings.server.members
    for name, way_out in UNSUPPORTED.items():
        if members.get(name, False) is not False:  # opencode's `oauth: false` asks for nothing
            findings.problem(f"{findings.place(findings.key(name))} cannot be imported: {way_out}")
    if ("command" in members) == ("url" in members):
        builtin = "" if "url" in members else ". If it is a part of the client, such as an extension, skip it"
        findings.problem(f"{findings.server.place} needs exactly one of command and url: write one of them{builtin}")
    else:
        for name in ("headers",) if "command" in members else ("args", "env"):
            if name in members:
                findings.problem(f"{findings.place(findings.key(name))} does not belong to such a server: remove it")
    transport = transport_problem(findings.server, lambda name: findings.place(findings.key(name)))
    if transport:
        findings.problem(transport)
    left_out = sorted(members.keys() - KNOWN - UNSUPPORTED.keys())
    own, unknown = [one for one in left_out if one in CLIENTS_OWN], [one for one in left_out if one not in CLIENTS_OWN]
    filled = [name for name in unknown if members[name] and isinstance(members[name], str | dict | list)]
    for name in [name for name in filled if kind_of(name) == "secret"]:
        findings.problem(
            f"{findings.place(show_name(findings.key(name)))} is or may be a secret, and only the client knows how the "
            f"server gets it: write it into {'headers' if 'url' in members else 'env'} as ${{NAME}}, and remove it"
        )
    if own:
        findings.notes.append(f"left out, because only the client uses them: {', '.join(own)}")
    if unknown:
        findings.notes.append(f"left out, because they are unknown: {', '.join(map(show_name, unknown))}")


def _permissions(findings: Findings) -> dict[str, list[str]]:
    place = findings.place("permissions")
    written = findings.server.members.get("permissions", {})
    if not isinstance(written, Mapping):
        findings.problem(f'{place} is not an object: write {{"read": ["contacts"], "write": [], "delete": []}}')
        return {}
    for name in sorted(written.keys() - {"read", "write", "delete"}):
        findings.problem(f"{place} has {show_name(name)}: write read, write or delete")
    result: dict[str, list[str]] = {}
    for operation in ("read", "write", "delete"):
        with findings.collected():
            result[operation] = read_words(written.get(operation, []), f"{place}.{operation}")
        for name in result.get(operation, []):
            if not re.fullmatch(RESOURCE[1:-1], name) or not is_name(name):
                shown = "'*'" if name == "*" else show_name(name)
                findings.problem(
                    f"{place}.{operation} has {shown}, which is not a resource: write letters, digits, dashes, such as "
                    "contacts; a binding names each resource, so * is not allowed"
                )
    return {operation: names for operation, names in result.items() if names}


def _check(manifest: dict[str, Any], place: str) -> None:
    """Validate the binding. `server.py` has checked the rules that only the API server knows."""
    try:
        binding = MCPBinding.model_validate(manifest)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise ImportRefusedError(
            *(f"{place}: {'.'.join(map(str, one['loc']))}: {_sentence(one)}" for one in found)
        ) from None
    stdio = binding.spec.server.stdio
    if stdio is not None:
        env = sum(len(one.name) + len(one.value or "") for one in stdio.env)
        if env + sum(map(len, (*stdio.command, *stdio.args))) > _LARGEST_COMMAND:
            raise ImportRefusedError(f"{place}: {COMMAND_TOO_LARGE}")


def _sentence(error: Mapping[str, Any]) -> str:
    """Return the message of a validation error, with a fix where it has none."""
    message = str(error["msg"]).removeprefix("Value error, ").replace(" after validation", "")
    return f"{message}: use fewer, such as by a script in the image" if error["type"] == "too_long" else message
