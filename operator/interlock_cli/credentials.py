"""Secrets in MCP client configs: placeholders, values that look like secrets, and the Secret that holds them.

No value is ever printed, in a refusal neither. A value that may be a secret counts as one, because a harmless value in
a Secret does no harm.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from interlock_cli.client_config import ImportRefusedError, quote

_PLACEHOLDER: Final = re.compile(r"\$\{([^{}]*)\}")
_BARE_PLACEHOLDER: Final = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_NAMED: Final = re.compile(r"(?:(?:env|input):)?([A-Za-z_][-A-Za-z0-9_.]*)")
_CLIENT_VARIABLES: Final = frozenset(
    {"HOME", "PATH", "PWD", "USER", "USERPROFILE", "TMPDIR", "APPDATA", "workspaceFolder", "workspaceFolderBasename"}
    | {"userHome", "cwd", "file", "pathSeparator", "/"}
)
_TELLING_NAME: Final = re.compile(
    r"(?i)(token|secret|passw|pwd\b|credential|api.?key|(^|[^a-z])(pat|auth|authorization|cookie|session|dsn|pass|key)"
    r"([^a-z]|$)|apikey|private.?key|access.?key|authorization|connection.?string)"
)
_TELLING_VALUE: Final = re.compile(
    r"(^|[^A-Za-z0-9])(gh[pousr]_|github_pat_|glpat-|sk[-_]|rk_|xox[a-z]-|xapp-|A[KS]IA|AIza|ya29\.|eyJ|hf_|npm_|pypi-)"
    r"[A-Za-z0-9_.\-]{8,}|(?i:bearer|basic) \S{8,}|-----BEGIN"
)
_USER_IN_URL: Final = re.compile(r"[a-z][a-z0-9+.\-]*://[^/\s@]*:[^/\s@]+@", re.IGNORECASE)
_OPAQUE: Final = re.compile(r"[A-Za-z0-9+/_=~.\-]{16,}")
_SCHEME: Final = re.compile(r"(Bearer|Basic|Token|token|ApiKey) (\$\{[^{}]*\})")
_KEY: Final = re.compile(r"[^-._A-Za-z0-9]")


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


def reference_for(value: str, name: str, place: str, secrets: Secrets) -> dict[str, dict[str, str]] | None:
    """Return the Secret reference of a variable or header, None if the value may be in the binding.

    Args:
        value: The value in the config.
        name: Name of the variable or header.
        place: Its place in the config.
        secrets: The Secret of the server, which gets the key.

    Raises:
        ImportRefusedError: A placeholder in it has no meaning in a cluster.
    """
    names = placeholders(value, place)
    whole = _PLACEHOLDER.fullmatch(value) or _BARE_PLACEHOLDER.fullmatch(value)
    if whole:
        return secrets.reference(names[0], f"the value of {whole.group(0)} in the file", place)
    if names:
        scheme = _SCHEME.fullmatch(value)
        how = (
            f'the whole value: "{scheme.group(1)} " and {scheme.group(2)}'
            if scheme
            else "the whole value, with all placeholders filled in"
        )
        return secrets.reference(name, f"{how}, as in {name} of the file", place)
    if looks_secret(name, value):
        return secrets.reference(name, f"the value of {name} in the file", place)
    return None


def placeholders(value: str, place: str) -> list[str]:
    """Return the names of the placeholders in a value: `${TOKEN}`, `${env:TOKEN}`, `${input:token}`.

    Raises:
        ImportRefusedError: One of them is a folder of the client's machine, a command, a default or the like.
    """
    bare = _BARE_PLACEHOLDER.fullmatch(value)
    return [_placeholder(found, place) for found in ([bare.group(1)] if bare else _PLACEHOLDER.findall(value))]


def _placeholder(inside: str, place: str) -> str:
    named = _NAMED.fullmatch(inside)
    if named is None or named.group(1) in _CLIENT_VARIABLES:
        what = quote(f"${{{inside}}}") if re.fullmatch(r"[A-Za-z/:_.]{1,40}", inside) else "a placeholder"
        raise ImportRefusedError(
            f"{place} has {what}, which only the MCP client can fill in: write the value that is valid in "
            "the server's container, or ${NAME} for a secret"
        )
    return named.group(1)


def looks_secret(name: str, value: str) -> bool:
    """Return True if a literal value belongs in a Secret, judged by its name and by the value."""
    if not value or value.lower() in ("true", "false") or value.isdecimal():
        return False
    return bool(_TELLING_NAME.search(name)) or is_telling(value) or _is_opaque(value)


def is_telling(value: str) -> bool:
    """Return True if a value begins like a known kind of token, or is a URL with a password."""
    return bool(_TELLING_VALUE.search(value) or _USER_IN_URL.search(value))


def is_telling_name(name: str) -> bool:
    """Return True if the name is that of a secret."""
    return bool(_TELLING_NAME.search(name))


def _is_opaque(value: str) -> bool:
    if not _OPAQUE.fullmatch(value) or value.startswith(("/", "./", "../", "~")) or "://" in value:
        return False
    return any(sign.isdigit() for sign in value) and any(sign.isalpha() for sign in value)
