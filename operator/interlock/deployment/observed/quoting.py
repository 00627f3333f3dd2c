"""Quotations of what containers, the kubelet and the scheduler say, for status messages.

Such text is shown and never decided on. Programs of strangers write it: a log line can contain a key, an escape
sequence of a terminal, or a character that reverses the order of the text around it.
"""

import re
from typing import Final

MOST_QUOTED: Final = 200
"""Most characters of one quotation."""
_MOST_READ: Final = 4096
"""Characters of a text that are read. The kubelet keeps at most as many of a log."""
_BEGINNING: Final = 60
"""Characters of a long message of the kubelet that are shown before its end."""
_MASK: Final = "***"

_WORDS = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|authorization|auth"
    r"|(?:api|access|private)?[-_ ]?key|seed)"
)
_CAUSE = (
    r"(?:(?:secrets?|configmaps?|serviceaccounts?) (?:\"|references )|server message:|unexpected status|failed to "
    r"|rpc error:|timed out |no such |dial tcp |(?:Get|Post) \")"
)
"""Beginnings of a cause, which follows a colon like a value, as in `failed to fetch token: dial tcp ...`."""
_ASSIGNED = re.compile(
    rf"""([\w.\-]{{0,40}}{_WORDS}["']?\s{{0,4}}(?:=|:(?!\s{{0,4}}{_CAUSE}))\s{{0,4}})("[^"]*"?|'[^']*'?|[^\s,;&]+)""",
    re.IGNORECASE,
)
"""A value after `=` or `:` behind a word that announces a secret."""
_FAULT = (
    r"(?:(?:not\s{1,4})?(?:valid|correct|accepted|known|recogni[sz]ed)"
    r"|invalid|incorrect|wrong|rejected|provided|given|received|used)"
)
_PLAIN = (
    rf"(?:{_FAULT}|not|no|was|has|must|cannot|could|required|missing|empty|unset|expired|revoked|failed|denied|found"
    r"|authentication|auth|error|environment|env|variable|file|for|from|in|of|and|or)(?![\w\-])"
)
"""Words that say what is wrong with a secret, as in `API key is required`."""
_NAMED = re.compile(rf"(\b[\w\-]{{0,40}}{_WORDS}\s{{1,4}}(?:is\s{{1,4}})?)(?!is\s)(?!{_PLAIN})(\S+)", re.IGNORECASE)
"""In a log also the next word after such a word, unless it is a plain one."""
_JUDGED = re.compile(
    rf"({_WORDS}\s{{1,4}}(?:is\s{{1,4}})?(?:{_FAULT}[:=]?|(?:for|of)\s{{1,4}}\S{{1,64}}[:=])\s{{1,4}})(?!{_PLAIN})(\S+)",
    re.IGNORECASE,
)
"""In a log also what follows the fault or the owner of a secret, as in `API key provided: ...`."""
_PHRASE = re.compile(r"\b(\w{0,40}(?:(?:pass|seed|recovery)[ _-]?phrase|mnemonic))\b.+", re.IGNORECASE)
"""In a log also the rest of the line after the name of a secret of several words."""
_SCHEME = re.compile(r"\b(bearer|basic)\s{1,4}(?!auth(?:entication)?\b)\S+", re.IGNORECASE)
_USER_IN_URL = re.compile(r"(://)(?:[^/\s@:]{0,64}:\S{1,512}|[^/\s@]{1,512})@")
"""A password may have a slash or an @ of its own, so it ends at the last @ before a space."""
_QUERY = re.compile(r"(\?|&)([\w.\-]{1,64})=[^&\s\"']+")
_DIGEST = r"sha256:[0-9a-f]{64}"
_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-f])", re.IGNORECASE)
_RUN = re.compile(rf"{_DIGEST}|[A-Za-z0-9+/_]{{16,}}=*", re.IGNORECASE)
_PREFIXED = re.compile(r"\b(?:sk|pk|rk|ghp|gho|ghs|ghu|github_pat|glpat|xox[a-z]|AKIA|ASIA|AIza|eyJ)[-_]?[\w\-.]{8,}")
_LONGEST_WORD: Final = 31
_LONGEST_NUMBER: Final = 15
_SYLLABLES = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
"""The words in `MountVolume`, `NO_PROXY` or `utf8`. Those of a random string are much shorter."""
_SHORTEST_SYLLABLE: Final = 3
"""Characters of an average word in a name."""
_SHORT: Final = 6
"""Characters of a name that is not measured, such as `v1beta` or `x86`."""

_MISSING_KEY = re.compile(r"(references non-existent (?:secret|config) key: [\w.\-]{1,253})")
"""The kubelet's words for a key that a Secret or ConfigMap lacks. They hold no value."""
_FRAME = (
    r"at (?:async )?\S.*[:(]\d+\)?(?P<block> \{)?|at \S+\(.*\)|\.\.\. \d+ .*"  # JavaScript, Java
    r"|at .+ in .+:line \d+|File \".*\", line \d+.*|from .+:\d+:in .*"  # .NET, Python, Ruby
    r"|goroutine \d+ \[.*|created by \S+.*|[\w./\-]+\.(?:\(\*?\w+\)\.)?\w+\(.*\)|\S+\.(?:go|s):\d+(?: .*)?"  # Go
)
"""One frame of a stack."""
_EPILOGUE = (
    r"[\W\d_]*|Node\.js v[\d.]+|exit status \d+|\[signal .*\]|note: .*RUST_BACKTRACE.*"
    r"|npm (?:error|ERR!)(?:.* complete log of this run .*| {1,8}/\S*| [\d ]*(?:Note that .*|tarball, .*)?)?"
)
"""A line that runtimes and package managers write after an error."""
_TELLS_NOTHING = re.compile(rf"{_FRAME}|{_EPILOGUE}")
_LONGEST_FRAME: Final = 400


def quote_message(text: str) -> str:
    """Return a quotation of a message of the API server or the scheduler: its beginning."""
    return _quote(_mask_message(text))


def quote_wrapped(text: str) -> str:
    """Return a quotation of a message of the kubelet: its beginning and its end.

    Each layer, such as the kubelet and containerd, puts its own words before those of the layer below it, so the cause
    comes last. Example: `"failed to pull and unpack image "registry.example.com/a:1": ...: not found"`.
    """
    shown = _mask_message(text)
    if len(shown) > MOST_QUOTED:
        shown = f"{shown[:_BEGINNING]}...{shown[_BEGINNING + 3 - MOST_QUOTED :]}"
    return _quote(shown)


def _mask_message(text: str) -> str:
    parts = _MISSING_KEY.split(_plain(text[:_MOST_READ]))
    return "".join(part if _MISSING_KEY.fullmatch(part) else _mask(part) for part in parts)


def quote_last_line(log: str) -> str:
    """Return a quotation of the last line of a container's log that tells something. More counts as a secret in it.

    Runtimes end the message of an error with a stack and lines such as `Node.js v22.11.0`, which tell nothing.

    Quotation marks of the line become single ones: otherwise, a program could end the quotation, and write the rest of
    the message as if the operator said it.
    """
    lines = [line.strip() for line in log[-_MOST_READ:].splitlines() if line.strip()]
    if not lines:
        return ""
    line = _mask(_PHRASE.sub(rf"\1 {_MASK}", _plain(_last_telling(lines))))
    for announced in (_NAMED, _JUDGED):
        line = announced.sub(rf"\1{_MASK}", line)
    return _quote(line.replace('"', "'"))


def _last_telling(lines: list[str]) -> str:
    """Return the last line that is not a part of a stack, nor one that runtimes add; the last one if all are."""
    found, is_in_block = lines[-1], False
    for line in lines:
        frame = _TELLS_NOTHING.fullmatch(line) if len(line) <= _LONGEST_FRAME else None
        if is_in_block:  # the members of a JavaScript error, which follow its stack
            is_in_block = not line.startswith("}")
        elif frame is None:
            found = line
        else:
            is_in_block = frame["block"] is not None
    return lines[-1] if is_in_block else found


def _quote(text: str) -> str:
    shown = text if len(text) <= MOST_QUOTED else f"{text[: MOST_QUOTED - 3]}..."
    return f'"{shown}"' if shown else ""


def _plain(text: str) -> str:
    """Return the text in one line, with every other character that a terminal may act on as an escape."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text.strip())


def _mask(text: str) -> str:
    text = _USER_IN_URL.sub(rf"\1{_MASK}@", text)
    text = _QUERY.sub(rf"\1\2={_MASK}", text)
    text = _SCHEME.sub(rf"\1 {_MASK}", text)
    text = _ASSIGNED.sub(rf"\1{_MASK}", text)
    text = _PREFIXED.sub(_MASK, text)
    text = _UUID.sub(_MASK, text)
    return _RUN.sub(lambda found: found[0] if _is_harmless(found[0]) else _MASK, text)


def _is_harmless(run: str) -> bool:
    """Return True for the digest of an image, a path, and a long word; False for what may be a key."""
    if run.startswith("sha256:"):
        return True
    if "/" in run and all(_is_word(part) for part in run.split("/")):
        return True
    return _is_word(run)


def _is_word(text: str) -> bool:
    parts = text.rstrip("=").split("_")  # an = may end the name of a value, as in preemptionPolicy=Never
    return all(len(part) <= (_LONGEST_WORD if part.isalpha() else _LONGEST_NUMBER) and _is_name(part) for part in parts)


def _is_name(part: str) -> bool:
    """Return True for what people call things, False for letters in random case and digits between them."""
    return len(part) <= _SHORT or len(part) >= _SHORTEST_SYLLABLE * len(_SYLLABLES.findall(part))
