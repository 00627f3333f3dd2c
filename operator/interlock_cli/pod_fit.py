"""Notes on values that have no meaning in a pod: paths and hosts of the user's machine, transports but stdio."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from interlock_cli.config_json import quote
from interlock_cli.findings import Findings, Word

_LONGEST: Final = 4096
_START: Final = r"(?:^|(?<=[=,;\s'\"(]))"
_MACHINE_PATH: Final = re.compile(
    rf"{_START}(?:(?:[a-z][a-z+]*:///?)?/(?:Users|home|root|Applications|Library|Volumes|opt/homebrew|mnt|media|private|var/folders"
    r"|path|absolute|full|your|workspaces?|nix|snap|[a-z]/Users)(?=/|$)|(?:file:///?)?[A-Za-z]:[/\\]|\\\\[A-Za-z]|~(?=[/\\]|$)"
    rf"|%[A-Za-z]+%|\.{{1,2}}(?=[/\\]|$))[^,;'\"]*"
)
_ANY_PATH: Final = re.compile(r"(?:^|(?<=[=,;]))(?:[a-z]+://)?/[\w.][^,;'\"\s]*")
_OF_IMAGES: Final = re.compile(r"/(tmp|dev|usr|s?bin|lib|etc|proc|sys|app|server|mcp|sse|api|messages?|v\d)(/|$)")
_RELATIVE_FILE: Final = re.compile(
    r"(?:^|(?<==))[-A-Za-z0-9_.]+(?:[/\\][-A-Za-z0-9_. ]+)*"
    r"\.(?:c?js|mjs|tsx?|py|pyz|rb|php|jar|sh|bash|ps1|exe|dll|csproj)$"
    r"|(?:^|(?<==))(?:dist|build|src|lib|bin|out|node_modules|\.?venv)[/\\][^\s,;'\"]+"
)
_LOCALHOST: Final = re.compile(
    r"(?<![A-Za-z0-9_.-])((?:[A-Za-z0-9_-]+\.)?localhost|localhost\.localdomain|127(?:\.\d{1,3}){3}|::1|0\.0\.0\.0"
    r"|(?:host|gateway)\.docker\.internal|host\.containers\.internal)(?![A-Za-z0-9_-]|\.[A-Za-z0-9])",
    re.IGNORECASE,
)
_OTHER_TRANSPORTS: Final = ("sse", "http", "streamable", "streamablehttp", "shttp")


def is_own_machine(host: str) -> bool:
    """Return True if a host of a URL is the user's own machine."""
    return _LOCALHOST.fullmatch(host) is not None


def is_machine_program(text: str) -> bool:
    """Return True if a program is named by a path of the user's machine or of a folder of its project."""
    return bool(_MACHINE_PATH.match(text) or (re.search(r"[/\\]", text) and not text.startswith("/")))


def add_notes(findings: Findings, words: Sequence[Word], printed: frozenset[str]) -> None:
    """Add a note for each cause why a value has no meaning in a pod.

    Args:
        findings: Get the notes.
        words: The arguments and variables of the server.
        printed: The keys of the values that the binding repeats. Other values are named by their keys alone.
    """
    machine = list(_shown(words, printed, _MACHINE_PATH, _RELATIVE_FILE))
    if machine:
        findings.notes.append(
            f"these paths of your machine do not exist in a pod: {', '.join(machine)}. Write paths of the image. A pod "
            "has its image's files and an empty /tmp"
        )
    others = [
        one for one in _shown(words, printed, _ANY_PATH) if one not in machine and not _OF_IMAGES.match(one.strip("'"))
    ]
    if others:
        findings.notes.append(f"these paths must exist in the image: {', '.join(others)}")
    spoken = [word.key for before, word in pairwise([Word("", ""), *words]) if _is_other_transport(before, word)]
    if spoken:
        findings.notes.append(
            f"{', '.join(spoken)}: a server in a pod must use the transport stdio. Write stdio, or run the server as a "
            "Deployment and write spec.server.http"
        )
    local = [(word.key, found[0]) for word in words for found in _LOCALHOST.finditer(word.text[:_LONGEST])]
    if local:
        keys, hosts = dict.fromkeys(key for key, _ in local), dict.fromkeys(host for _, host in local)
        findings.notes.append(
            f"{', '.join(keys)}: {', '.join(hosts)} is your own machine, and in a pod the pod itself: write the name "
            "of a Service in the cluster, and spec.server.stdio.network: Private"
        )


def _is_other_transport(before: Word, word: Word) -> bool:
    """Return True if an argument or variable makes the server listen instead of using its standard streams."""
    name, has_value, value = word.text.rpartition("=")
    if word.key.startswith("env."):
        name, value = word.key, word.text
    elif not has_value:
        name = before.text
    is_named = re.search(r"transport([-_]?(type|mode))?$", name, re.IGNORECASE) is not None
    return word.text == "--sse" or (is_named and re.sub("[-_]", "", value.lower()) in _OTHER_TRANSPORTS)


def _shown(words: Sequence[Word], printed: frozenset[str], *patterns: re.Pattern[str]) -> Iterator[str]:
    seen = set()
    for word in words:
        for pattern in patterns:
            for found in pattern.finditer(word.text[:_LONGEST]):
                shown = quote(found[0]) if word.key in printed else word.key
                if shown not in seen:
                    seen.add(shown)
                    yield shown
