"""Secrets in MCP client configs: placeholders, values of no harmless shape, and the Secret that holds them.

No value is ever printed unless its shape is harmless, in a refusal neither. A harmless value in a Secret does no harm.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from interlock_cli.config_json import ImportRefusedError, quote
from interlock_cli.harmless import is_harmless, is_name
from interlock_cli.secret_names import kind_of, name_words
from interlock_cli.vocabulary import KNOWN_WORDS, split_words

_PLACEHOLDER: Final = re.compile(r"\$\{([^{}]*)\}|\{((?:env|file):[^{}]*)\}")
_BARE_PLACEHOLDER: Final = re.compile(r"\$([A-Z][A-Z0-9_]*)")
_BARE_FOLDER: Final = re.compile(r"\$(HOME|PWD|USER|TMPDIR|USERPROFILE|APPDATA)(?![A-Za-z0-9_])")
_NAMED: Final = re.compile(r"((?:env|input|secret|var|file):)?([A-Za-z_~/.][-A-Za-z0-9_./]*)(?::?-(.*))?", re.DOTALL)
_FOLDERS: Final = split_words("""
    HOME PATH PWD USER USERPROFILE USERNAME TMPDIR TEMP TMP APPDATA LOCALAPPDATA PROGRAMFILES cwd file /
    __dirname workspaceFolderBasename pathSeparator PROJECT_ROOT WORKSPACE_FOLDER
    """)
_FOLDER_NAMES: Final = re.compile(
    r"[a-z][A-Za-z]*(Folder|Root|Path|Dir|Dirname|Home|Basename)(:.*)?"
    r"|(CLAUDE|CURSOR|GEMINI|KIRO|WINDSURF|VSCODE|CODEX|PLUGIN|EXTENSION)_[A-Z_]*(ROOT|DIR|PATH|HOME|DATA)"
)
_SCHEME: Final = re.compile(r"(Bearer|Basic|Token|token|ApiKey) (\$\{[^{}]*\})")
_SHORT: Final = 2
_LONGEST_FILLED: Final = 4096
_KEY: Final = re.compile(r"[^-._A-Za-z0-9]")


@dataclass(frozen=True)
class Placeholder:
    """A part of a value that the MCP client fills in.

    Attributes:
        text: The whole of it, such as `${env:TOKEN}`.
        name: The name of what it stands for, such as `TOKEN`.
        kind: `input`, `file` or empty, for a variable.
        default: The value that it has if nothing sets it.
        is_folder: True if only the client can fill it in: a folder of its machine, a command and the like.
    """

    text: str
    name: str = ""
    kind: str = ""
    default: str | None = None
    is_folder: bool = False


@dataclass
class Secrets:
    """The Secret of one server.

    Attributes:
        name: Name of the Secret.
        keys: A description of the value of each key.
    """

    name: str
    keys: dict[str, str] = field(default_factory=dict)

    def reference(self, key: str, meaning: str, place: str) -> dict[str, dict[str, str]]:
        """Return the reference to a key of the Secret.

        Raises:
            ImportRefusedError: The key already means something else.
        """
        key = _KEY.sub("-", key)
        if self.keys.setdefault(key, meaning) != meaning:
            raise ImportRefusedError(
                f"{place}: key {quote(key)} of the Secret {self.name} would have two values: rename the placeholder"
            )
        return {"secretKeyRef": {"name": self.name, "key": key}}


def reference_for(
    value: str, name: str, place: str, secrets: Secrets, own: frozenset[str] = frozenset()
) -> dict[str, dict[str, str]] | None:
    """Return the Secret reference of a variable or header, None if the value may be in the binding.

    Args:
        value: The value in the config.
        name: Name of the variable or header.
        place: Its place in the config.
        secrets: The Secret of the server, which gets the key.
        own: Words of the server's name, which are harmless in a value.

    Raises:
        ImportRefusedError: A placeholder in it has no meaning in a cluster.
    """
    found = placeholders(value)
    for one in found:
        if one.is_folder:
            raise ImportRefusedError(f"{place} has {folder_problem(one)}")
    if len(found) == 1 and found[0].text == value and _is_variable(found[0].name):
        (one,) = found
        if one.kind == "file":
            return secrets.reference(name, f"the content of the file that {name} names", place)
        meaning = f"the value of the input {one.name}" if one.kind else f"the value of ${{{one.name}}} in the file"
        return secrets.reference(one.name, meaning, place)
    if found:
        scheme = _SCHEME.fullmatch(value)
        # The default of a placeholder may be a secret, so only one without a default is repeated.
        how = (
            f'the whole value: "{scheme.group(1)} " and {scheme.group(2)}'
            if scheme and _is_variable(found[0].name) and found[0].default is None
            else "the whole value, with all placeholders filled in"
        )
        return secrets.reference(name, f"{how}, as in {name} of the file", place)
    if is_harmless(value, name, own):
        return None
    # An empty value of a secret's name is one that the user of the file still has to fill in.
    return secrets.reference(name, f"the value of {name}" + (" in the file" if value else ", empty in the file"), place)


def _is_variable(name: str) -> bool:
    """Return True if a name reads as that of a variable, and not as a password in the place of one."""
    has_word = any(
        len(word) > _SHORT and (word in KNOWN_WORDS or kind_of(word) == "secret") for word in name_words(name)
    )
    return is_name(name) and (has_word or name in (name.lower(), name.upper()))


def placeholders(value: str) -> list[Placeholder]:
    """Return the placeholders in a value: `${TOKEN}`, `${env:TOKEN}`, `${input:token}`, `{env:TOKEN}`, `$TOKEN`."""
    bare = _BARE_PLACEHOLDER.fullmatch(value)
    if bare and bare[1] not in _FOLDERS:
        # A password may begin with a dollar sign too, so only words of variables make one.
        words = name_words(bare[1])
        is_variable = all(word in KNOWN_WORDS or kind_of(word) == "secret" or word.isdigit() for word in words)
        return [Placeholder(value, bare[1])] if is_variable else []
    folder = _BARE_FOLDER.search(value)
    found = [Placeholder(folder[0], folder[1], is_folder=True)] if folder else []
    return found + [_placeholder(one) for one in _PLACEHOLDER.finditer(value)]


def _placeholder(found: re.Match[str]) -> Placeholder:
    inside = found[1] if found[1] is not None else found[2]
    named = _NAMED.fullmatch(inside)
    if named is None:
        return Placeholder(found[0], is_folder=True)
    kind, name, default = (named[1] or "").rstrip(":"), named[2], named[3]
    is_folder = (name in _FOLDERS or _FOLDER_NAMES.fullmatch(name) is not None) and kind not in ("input", "file")
    if not is_folder and kind != "file" and re.search(r"[/~]", name):
        return Placeholder(found[0], is_folder=True)
    return Placeholder(found[0], name, kind if kind in ("input", "file") else "", default, is_folder=is_folder)


def folder_problem(one: Placeholder) -> str:
    """Return what is wrong with a placeholder that only the client can fill in, after the place and `has`."""
    is_shown = one.name and one.default is None and is_name(one.name)
    named = quote(one.text) if is_shown else "a placeholder"
    return (
        f"{named}, which only the MCP client can fill in: write the value that is valid in the server's container, or "
        "${NAME} for a secret"
    )


def fill_defaults(value: str, inputs: Mapping[str, str], name: str, own: frozenset[str]) -> str:
    """Return a value with each placeholder replaced whose default is harmless.

    Args:
        value: The value.
        inputs: The defaults of VS Code's inputs, by name.
        name: The variable or flag that it is the value of.
        own: Words of the server's name.
    """
    for one in placeholders(value) if len(value) <= _LONGEST_FILLED else ():
        default = inputs.get(one.name) if one.kind == "input" else one.default
        if default and not one.is_folder and is_harmless(default, name, own) and kind_of(one.name) != "secret":
            value = value.replace(one.text, default)
    return value
