"""Quotations of what containers, the kubelet and the scheduler say, for status messages.

Such text is shown and never decided on. Programs of strangers write it: a log line can contain a key, an escape
sequence of a terminal, or a character that reverses the order of the text around it.
"""

import re
from typing import Final

MOST_QUOTED: Final = 200
"""Most characters of one quotation."""
_MOST_READ: Final = 1024
"""Characters from the end of a log, or from the beginning of a message, that are read."""
_MASK: Final = "***"

_WORDS = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|authorization|auth"
    r"|(?:api|access|private)?[-_ ]?key|seed)"
)
_ASSIGNED = re.compile(
    rf"""([\w.\-]{{0,40}}{_WORDS}["']?\s{{0,4}}(?:=|:(?!\s{{0,4}}(?:secret|configmap)\b))\s{{0,4}})("[^"]*"?|'[^']*'?|[^\s,;&]+)""",
    re.IGNORECASE,
)
"""A value after `=` or `:` behind a word that announces a secret."""
_NAMED = re.compile(rf"(\b[\w\-]{{0,40}}{_WORDS}\s{{1,4}}(?:is\s{{1,4}})?)(\S+)", re.IGNORECASE)
"""In a log also the next word after such a word."""
_PHRASE = re.compile(r"\b(\w{0,40}(?:(?:pass|seed|recovery)[ _-]?phrase|mnemonic))\b.+", re.IGNORECASE)
"""In a log also the rest of the line after the name of a secret of several words."""
_SCHEME = re.compile(r"\b(bearer|basic)\s{1,4}\S+", re.IGNORECASE)
_USER_IN_URL = re.compile(r"(://)(?:[^/\s@:]{0,64}:\S{1,512}|[^/\s@]{1,512})@")
"""A password may have a slash or an @ of its own, so it ends at the last @ before a space."""
_QUERY = re.compile(r"(\?|&)([\w.\-]{1,64})=[^&\s\"']+")
_DIGEST = r"sha256:[0-9a-f]{64}"
_UUID = r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
_RUN = re.compile(rf"{_DIGEST}|{_UUID}|[A-Za-z0-9+/_]{{16,}}=*", re.IGNORECASE)
_PREFIXED = re.compile(r"\b(?:sk|pk|rk|ghp|gho|ghs|ghu|github_pat|glpat|xox[a-z]|AKIA|ASIA|AIza|eyJ)[-_]?[\w\-.]{8,}")
_LONGEST_WORD: Final = 31
_LONGEST_NUMBER: Final = 15
_SYLLABLES = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
"""The words in `MountVolume`, `NO_PROXY` or `utf8`. Those of a random string are much shorter."""
_SHORTEST_SYLLABLE: Final = 3
"""Characters of an average word in a name."""
_SHORT: Final = 6
"""Characters of a name that is not measured, such as `v1beta` or `x86`."""


def quote_message(text: str) -> str:
    """Return a quotation of a message of Kubernetes, such as an Event's: its beginning."""
    return _quote(_mask(_plain(text[:_MOST_READ])))


def quote_last_line(log: str) -> str:
    """Return a quotation of the last line of a container's log, in which more counts as a secret.

    Quotation marks of the line become single ones: otherwise, a program could end the quotation, and write the rest of
    the message as if the operator said it.
    """
    lines = [line.strip() for line in log[-_MOST_READ:].splitlines() if line.strip()]
    if not lines:
        return ""
    line = _PHRASE.sub(rf"\1 {_MASK}", _plain(lines[-1]))
    return _quote(_NAMED.sub(rf"\1{_MASK}", _mask(line)).replace('"', "'"))


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
