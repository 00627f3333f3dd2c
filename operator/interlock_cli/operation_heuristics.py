"""Operation heuristics: guesses of what a server's tools do, for review before any guard obeys them.

A guess uses the words of a tool's name and errs on the strict side. A name without a known word is a delete, and hints
of the server can only make it stricter.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock.api.messages import RESOURCE
from interlock_cli.config_json import ImportRefusedError, quote
from interlock_contract.bundle import Operation
from interlock_contract.mapping import tightened_operation

MOST_TOOLS: Final = 256
_TOOL_NAME: Final = re.compile(r"[!-)+->@-~]{1,128}")
"""Printable, without spaces, and without * and ?, which would make the name a glob."""
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_READ: Final = "browse check count describe fetch find get list lookup query read retrieve search show summarize view"
_WRITE: Final = (
    "add append assign comment create edit execute insert invite post put reply run send set submit update upload "
    "upsert write"
)
_DELETE: Final = (
    "archive cancel clear close delete destroy drop empty erase merge move overwrite purge remove rename replace reset "
    "revoke truncate wipe"
)
_VERBS: Final[Mapping[Operation, frozenset[str]]] = {
    "read": frozenset(_READ.split()),
    "write": frozenset(_WRITE.split()),
    "delete": frozenset(_DELETE.split()),
}
_RANKS: Final[tuple[Operation, ...]] = ("read", "write", "delete")


@dataclass(frozen=True)
class GuessedTool:
    """The guess about one tool.

    Attributes:
        name: Its name at the server.
        operation: The guessed operation.
        resource: The guessed resource.
        reason: The reason, for the reviewer.
    """

    name: str
    operation: Operation
    resource: str
    reason: str


@dataclass(frozen=True)
class Guesses:
    """The guesses about a list of tools.

    Attributes:
        tools: The tools, in the order of the list.
        left_out: Names that no map can hold, as one short line each.
    """

    tools: tuple[GuessedTool, ...] = ()
    left_out: tuple[str, ...] = ()


def read_tools(document: Any, place: str) -> list[Mapping[str, Any]]:
    """Return the tools in the answer to tools/list: the result, the whole JSON-RPC message, or the list alone.

    Raises:
        ImportRefusedError: It is none of these, or the list continues on a missing page.
    """
    found = document.get("result", document) if isinstance(document, dict) else {"tools": document}
    tools = found.get("tools") if isinstance(found, dict) else None
    if not isinstance(tools, list) or not all(isinstance(one, dict) for one in tools):
        raise ImportRefusedError(f'{place} is not an answer to tools/list: it needs {{"tools": [{{"name": ...}}]}}')
    if found.get("nextCursor"):
        raise ImportRefusedError(
            f"{place} is the first page of a longer list (nextCursor): put all tools into one list"
        )
    names = [one.get("name") for one in tools]
    if not all(isinstance(name, str) for name in names):
        raise ImportRefusedError(f"{place} has a tool without a name: remove it")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ImportRefusedError(f"{place} has the tool {quote(twice)} twice: keep one of them")
    if len(tools) > MOST_TOOLS:
        raise ImportRefusedError(f"{place} has {len(tools)} tools, a binding has at most {MOST_TOOLS}: remove some")
    return tools


def guess_tools(tools: Iterable[Mapping[str, Any]], source: str, stated: Iterable[str]) -> Guesses:
    """Return a guess for each tool.

    Args:
        tools: As the server lists them.
        source: Name of the source, which is ignored at the beginning of names of tools.
        stated: The resources that the config's permissions name. A guess prefers one of them if the name fits.
    """
    known = tuple(stated)
    fit = [tool for tool in tools if _TOOL_NAME.fullmatch(tool["name"])]
    left_out = tuple(quote(tool["name"]) for tool in tools if not _TOOL_NAME.fullmatch(tool["name"]))
    return Guesses(tuple(_guess(tool, source, known) for tool in fit), left_out)


def _guess(tool: Mapping[str, Any], source: str, stated: tuple[str, ...]) -> GuessedTool:
    words = [word.lower() for word in _WORD.findall(tool["name"])]
    own = {word.lower() for word in _WORD.findall(source)}
    while len(words) > 1 and words[0] in own:
        words.pop(0)
    operation, reason = _operation(words)
    said = tightened_operation(operation, _hints(tool))
    if said != operation:
        operation, reason = said, f"{reason}, but the hints of the server are stricter"
    nouns = [word for word in words if not any(word in verbs for verbs in _VERBS.values())]
    return GuessedTool(tool["name"], operation, _resource(nouns, source, stated), reason)


def _hints(tool: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the server's hints for a tool. Invalid hints count as destructive."""
    annotations = tool.get("annotations")
    return annotations if annotations is None or isinstance(annotations, dict) else {"destructiveHint": True}


def _operation(words: list[str]) -> tuple[Operation, str]:
    """Return the operation of the strictest known word, if the name begins with a known word, and the reason."""
    found = [(operation, word) for word in words for operation in _RANKS if word in _VERBS[operation]]
    if not found or found[0][1] != words[0]:
        return "delete", "does not begin with a known word, so the strictest"
    operation, word = max(found, key=lambda one: _RANKS.index(one[0]))
    return operation, f'by the word "{word}"'


def _resource(nouns: list[str], source: str, stated: tuple[str, ...]) -> str:
    joined = "-".join(nouns)
    if not joined:
        return source
    for candidate in (joined, f"{joined}s", f"{joined}es", f"{joined[:-1]}ies", joined.removesuffix("s")):
        same = [name for name in stated if name.lower().replace("_", "-") == candidate]
        if same:
            return same[0]
    return joined if re.fullmatch(RESOURCE[1:-1], joined) and len(joined) <= 63 else source  # noqa: PLR2004
