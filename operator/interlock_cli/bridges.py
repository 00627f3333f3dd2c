"""Programs such as mcp-remote, which only translate stdio into the HTTP that the guard speaks itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from interlock_cli.credentials import placeholders
from interlock_cli.findings import Findings, Word
from interlock_cli.harmless import is_name
from interlock_cli.vocabulary import split_words

_BRIDGES: Final = ("mcp-remote", "supergateway", "mcp-proxy")
_URL_FLAGS: Final = ("--streamableHttp", "--streamable-http", "--sse", "--url")
_HEADER_FLAGS: Final = ("--header", "--headers", "-H")
_WITH_VALUE: Final = split_words("""
    --transport --host --port --resource --ignore-tool --auth-timeout --static-oauth-client-info
    --client-id --static-oauth-client-metadata --logLevel --oauth2Bearer --callback-port
    --outputTransport --client-secret
    """)


@dataclass
class Bridge:
    """A bridge to a server over HTTP.

    Attributes:
        program: Name of the bridge.
        url: The URL of the server.
        headers: The headers of each request.
        is_sse: True if the bridge is told to use the transport of 2024-11-05.
    """

    program: str
    url: Word
    headers: dict[str, Word] = field(default_factory=dict)
    is_sse: bool = False


def find_bridge(words: Sequence[Word], env: Mapping[str, Word], findings: Findings) -> Bridge | None:
    """Return the bridge that a command starts, None if it starts another program.

    Args:
        words: The command: the program, its runner first where there is one.
        env: The variables of the config, which headers may refer to.
        findings: The findings about the server.
    """
    for index, word in enumerate(words[:6]):
        name = re.split(r"[/\\]", word.text)[-1].partition("@")[0]
        if name in _BRIDGES and not any(one.text == "--stdio" for one in words):
            return _parse(name, words[index + 1 :], env, findings)
    return None


def _parse(program: str, words: Sequence[Word], env: Mapping[str, Word], findings: Findings) -> Bridge | None:
    found, rest = Bridge(program, Word("", "args")), list(words)
    while rest:
        word = rest.pop(0)
        flag, has_value, attached = word.text.partition("=") if word.text.startswith("-") else ("", "", "")
        takes = flag in _URL_FLAGS or flag in _HEADER_FLAGS or flag in _WITH_VALUE
        value = Word(attached, word.key) if has_value else (rest.pop(0) if takes and rest else word)
        if flag in _HEADER_FLAGS:
            name, colon, text = value.text.partition(":")
            if not colon and rest:  # mcp-proxy: --headers NAME VALUE
                value = rest.pop(0)
                text = value.text
            if is_name(name.strip()):
                found.headers[name.strip()] = _filled(Word(text.strip(), value.key), env)
            else:
                findings.problem(f'{findings.place(value.key)} has no header: write it as "Name: value"')
        elif flag == "--oauth2Bearer":
            found.headers["Authorization"] = _filled(Word(f"Bearer {value.text}", value.key), env)
        elif flag in ("--transport", *_URL_FLAGS):
            found.is_sse = found.is_sse or "sse-only" in value.text or value.text == "sse" or flag == "--sse"
        if flag in _URL_FLAGS or (not flag and "://" in word.text):
            found.url = value
    if not found.url.text:
        return None
    findings.notes.append(
        f"{program} is left out, because the guard speaks HTTP itself. A pod has no browser for a sign-in with OAuth: "
        "if the server needs one, write a header with a token of the provider"
    )
    return found


def _filled(word: Word, env: Mapping[str, Word]) -> Word:
    """Return a header with the variables of the config in it, as mcp-remote fills them in."""
    text = word.text
    for one in placeholders(text):
        if not one.kind and one.name in env:
            text = text.replace(one.text, env[one.name].text)
    return Word(text, word.key)
