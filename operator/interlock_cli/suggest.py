"""The command `interlock-import suggest`: what to add to MCPBindings and AgentPolicies, by audit records of mode Audit.

Reads are ready to be used. Each write and each delete is behind the mark `#? `, and takes no part until a person has
removed it. Operations and data types of tools that are not mapped are guesses by their names.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from interlock_cli.audit_log import OPERATIONS, AuditedCall, AuditLog, Seen, merge_seen
from interlock_cli.config_json import ImportRefusedError, quote
from interlock_cli.operation_heuristics import MOST_TOOLS, guess_tools
from interlock_cli.printing import comment, dump_flow
from interlock_contract.bundle import Operation
from interlock_contract.names import API_VERSION

DECIDE: Final = "#? "
"""Beginning of the lines that a person decides on."""
MOST_RESOURCES: Final = 64
MOST_ROWS: Final = 256
_HINTS: Final[dict[Operation, dict[str, bool] | None]] = {
    "read": None,
    "write": {"readOnlyHint": False},
    "delete": {"destructiveHint": True},
}


@dataclass(frozen=True, order=True)
class _Need:
    """A grant that calls need, or the entry of the map that a tool needs.

    Attributes:
        namespace: The namespace.
        binding: The MCPBinding.
        source: Its source.
        policy: The AgentPolicy.
        agent: The agent.
        operation: The operation.
        resource: The resource.
        tool: The tool that is to be mapped; empty for a grant.
        reason: Why the operation was guessed.
        is_narrowed: Whether the Agent's own permissions lack the grant.
    """

    namespace: str
    binding: str
    source: str
    policy: str
    agent: str
    operation: Operation
    resource: str
    tool: str = ""
    reason: str = ""
    is_narrowed: bool = False


Needs = dict[_Need, Seen]
_Place = tuple[str, str, str, str]
"""Namespace, MCPBinding, source and name of a tool."""


def main(arguments: Sequence[str]) -> int:
    """Print the suggestion, or why there is none on standard error. Return the exit code."""
    options = _parser().parse_args(arguments)
    log = AuditLog()
    try:
        for name in options.files or ["-"]:
            _read(name, log)
        if log.unread:
            _say(f"{log.unread} lines are no audit records, or not as a guard writes them: they were not read")
        sys.stdout.write(suggest(log, agent=options.agent, namespace=options.namespace))
    except ImportRefusedError as error:
        for message in error.messages:
            _say(message)
        return 1
    return 0


def suggest(log: AuditLog, *, agent: str | None = None, namespace: str | None = None) -> str:
    """Return YAML with what to add, one document for each MCPBinding and AgentPolicy.

    Args:
        log: What was read of the records.
        agent: The only agent to look at; None for all.
        namespace: The only namespace to look at; None for all.

    Raises:
        ImportRefusedError: There is nothing to suggest.
    """
    calls = {
        call: seen
        for call, seen in sorted(log.calls.items())
        if agent in (None, call.agent) and namespace in (None, call.namespace)
    }
    if not calls:
        raise ImportRefusedError(
            "no record is of a call that passed in mode Audit: give the records of an agent whose environment has it"
        )
    needs, nameless = _needs(calls)
    total = merge_seen(calls.values())
    text = comment(
        f"Suggested by {total.count} calls that passed in mode Audit, the last at {total.last}. Add the entries to the "
        "manifests of these objects. Operations and data types of tools are guesses by their names: review each line. "
        f"Writes and deletes are behind {DECIDE.strip()}: to permit one, remove {DECIDE.strip()} and the space after "
        "it from the lines of its tool, its permission and its row, and from those that they belong to."
    )
    if nameless:
        text += comment(f"Left out, because a map cannot have tools with such names: {', '.join(nameless)}")
    if log.left_out:
        text += comment(f"Left out, because there are too many different calls: {log.left_out} records")
    return text + _bindings(needs) + _policies(needs)


def _needs(calls: dict[AuditedCall, Seen]) -> tuple[Needs, list[str]]:
    """Return what the calls need, and the names of tools that no map can hold."""
    stated: dict[tuple[str, str], set[str]] = {}
    for call in calls:
        if call.resource:
            stated.setdefault((call.namespace, call.source), set()).add(call.resource)
    hints = _hints(calls)
    needs: Needs = {}
    nameless: dict[str, None] = {}
    for call, seen in calls.items():
        who = (call.namespace, call.binding, call.source, call.policy, call.agent)
        if not call.tool:
            for operation in call.operations:
                need = _Need(*who, operation, call.resource, is_narrowed=call.is_narrowed)
                needs.setdefault(need, Seen()).add(seen.count, seen.last)
            continue
        listed = {"name": call.tool, "annotations": _HINTS[hints[_place(call)]]}
        guesses = guess_tools([listed], call.source, sorted(stated.get((call.namespace, call.source), ())))
        nameless |= dict.fromkeys(guesses.left_out)
        for guess in guesses.tools:
            for tool, reason in ((guess.name, guess.reason), ("", "")):
                need = _Need(*who, guess.operation, guess.resource, tool, reason)
                needs.setdefault(need, Seen()).add(seen.count, seen.last)
    return needs, list(nameless)


def _hints(calls: Iterable[AuditedCall]) -> dict[_Place, Operation]:
    """Return the strictest operation that annotations ever called for, of each tool: a server may change them."""
    found: dict[_Place, Operation] = {}
    for call in calls:
        before: Operation = found.get(_place(call), "read")
        found[_place(call)] = max(before, call.hint, key=OPERATIONS.index)
    return found


def _place(call: AuditedCall) -> _Place:
    return call.namespace, call.binding, call.source, call.tool


def _bindings(needs: Needs) -> str:
    text = ""
    for place in sorted({(need.namespace, need.binding, need.source) for need in needs}):
        own = {need: seen for need, seen in needs.items() if (need.namespace, need.binding, need.source) == place}
        text += _binding(*place, own)
    return text


def _binding(namespace: str, name: str, source: str, needs: Needs) -> str:
    heading = comment(f"To MCPBinding {name}, for {_agents(needs)}:")
    if any(need.is_narrowed for need in needs):
        heading += comment(
            "Agents that narrow this source with permissions of their own (spec.bindings) need these permissions there "
            "too."
        )
    tools = _merged(needs, lambda need: (need.tool, need.operation, need.resource, need.reason) if need.tool else None)
    grants = _merged(needs, lambda need: None if need.tool else (OPERATIONS.index(need.operation), need.resource))
    lines = _tools(tools) + _permissions(grants)
    metadata = {"name": name, "namespace": namespace}
    return f"---\n{heading}{_head('MCPBinding', metadata)}  source: {dump_flow(source)}\n{lines}"


def _tools(tools: dict[Any, Seen]) -> str:
    kept, heading = dict(list(tools.items())[:MOST_TOOLS]), ""
    if len(kept) < len(tools):
        heading = comment(
            f"Left out, because a binding has at most {MOST_TOOLS} tools: {len(tools) - len(kept)}", "  # "
        )
    entries = [
        (operation, {"name": name, "operation": operation, "resource": resource}, f"{_seen(seen)}; {reason}")
        for (name, operation, resource, reason), seen in kept.items()
    ]
    return heading + _section("tools", [(one[0], f"- {dump_flow(one[1])}", one[2]) for one in entries])


def _permissions(grants: dict[Any, Seen]) -> str:
    text, is_open = "", False
    for index, operation in enumerate(OPERATIONS):
        own = {resource: seen for (found, resource), seen in grants.items() if found == index}
        kept = dict(list(own.items())[:MOST_RESOURCES])
        if not kept:
            continue
        notes = "".join(comment(f"{resource}: {_seen(seen)}", "    # ") for resource, seen in kept.items())
        if len(kept) < len(own):
            notes += comment(f"left out, because there are too many: {len(own) - len(kept)}", "    # ")
        mark = "" if operation == "read" else DECIDE
        is_open |= not mark
        text += f"{notes}{mark}    {operation}: {dump_flow(list(kept))}\n"
    return f"{'' if is_open else DECIDE}  permissions:\n{text}" if text else ""


def _policies(needs: Needs) -> str:
    text = ""
    grants = {need: seen for need, seen in needs.items() if not need.tool}
    for place in sorted({(need.namespace, need.policy) for need in grants}):
        own = {need: seen for need, seen in grants.items() if (need.namespace, need.policy) == place}
        text += _policy(*place, own)
    return text


def _policy(namespace: str, policy: str, needs: Needs) -> str:
    rows = _merged(needs, lambda need: (need.agent, need.source, OPERATIONS.index(need.operation), need.resource))
    kept, heading = dict(list(rows.items())[:MOST_ROWS]), ""
    if len(kept) < len(rows):
        heading = comment(f"Left out, because a policy has at most {MOST_ROWS} rows: {len(rows) - len(kept)}")
    entries = []
    for (agent, source, index, resource), seen in kept.items():
        row = {"agents": [agent], "source": source, OPERATIONS[index]: [resource]}
        entries.append((OPERATIONS[index], f"- {dump_flow(row)}", _seen(seen)))
    where = comment(f"To AgentPolicy {policy}. Rows of one agent and source add up:")
    metadata = {"name": policy, "namespace": namespace}
    return f"---\n{where}{heading}{_head('AgentPolicy', metadata)}{_section('dataAccess', entries)}"


def _head(kind: str, metadata: dict[str, str]) -> str:
    return f"apiVersion: {API_VERSION}\nkind: {kind}\nmetadata: {dump_flow(metadata)}\nspec:\n"


def _section(name: str, entries: Sequence[tuple[Operation, str, str]]) -> str:
    """Return a list of the spec. It is as a whole behind the mark where a person decides on all of its entries."""
    if not entries:
        return ""
    marks = ["" if operation == "read" else DECIDE for operation, _, _ in entries]
    lines = [f"{mark}  {text}  # {note}\n" for mark, (_, text, note) in zip(marks, entries, strict=True)]
    return f"{'' if '' in marks else DECIDE}  {name}:\n{''.join(lines)}"


def _merged(needs: Needs, key: Any) -> dict[Any, Seen]:
    """Return how often each thing was seen, in order. What has no key is left out."""
    found: dict[Any, Seen] = {}
    for need, seen in needs.items():
        if (one := key(need)) is not None:
            found.setdefault(one, Seen()).add(seen.count, seen.last)
    return dict(sorted(found.items()))


def _agents(needs: Iterable[_Need]) -> str:
    return ", ".join(sorted({need.agent for need in needs}))


def _seen(seen: Seen) -> str:
    return f"seen {seen.count} times, last {seen.last}"


def _read(name: str, log: AuditLog) -> None:
    if name == "-":
        log.read(sys.stdin.buffer)
        return
    try:
        with Path(name).open("rb") as file:
            log.read(file)
    except OSError as error:
        raise ImportRefusedError(f"{quote(name)} cannot be read: {error.strerror}") from None


def _say(message: str) -> None:
    print(f"interlock-import: {message}", file=sys.stderr)  # noqa: T201 - this is a program for a terminal


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="interlock-import suggest",
        description="Print what to add to MCPBindings and AgentPolicies, by audit records of calls in mode Audit.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="audit records, - or none for standard input")
    parser.add_argument("--agent", help="only this agent")
    parser.add_argument("--namespace", help="only agents of this namespace")
    return parser
