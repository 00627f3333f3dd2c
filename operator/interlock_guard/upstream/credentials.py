"""The credentials of one HTTP server or provider: header values from Secrets and CA certificates, read from files.

The kubelet replaces the files when a Secret changes, and a rotated token is used by the next request. A file is read
again only when its inode, time or size has changed. The files are in memory (tmpfs), in a volume that only the guard's
container mounts.
"""

import base64
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock_contract.http_target import HttpTarget, is_header_value
from interlock_http.dialer import TrustCache
from interlock_kube.mounted_file import FileTooLarge, MountedFile

_MAX_FILE: Final = 1024 * 1024  # no Secret and no ConfigMap is larger
_LEAST_SECRET: Final = 8  # a shorter text is in answers by chance
_SEARCHED: Final = 64
"""Characters of a secret that are searched for, its last ones: those of a token's signature, which no other has."""
_ESCAPES: Final = (b"\\", b"%", b"u00")
"""One of these is in every form of a secret with an escape in it, see `_compile`."""
_BACKSLASHES: Final = 16
"""Most backslashes before an escaped character: JSON text within JSON text has 2, 4, 8 ... of them."""
SECRET_REACH: Final = _SEARCHED * (_BACKSLASHES + len("u0041"))
"""Longest form in bytes in which a secret is found; texts that are searched in parts must overlap by it."""
_TEXT_REACH: Final = 512
"""Characters of a text that comes in pieces: those of a secret, each of them once escaped."""
_LITERAL_REACH: Final = -(-_SEARCHED * 8 // 6)
"""The same of a text without an escape: those of a secret in Base64. They suffice for a plain secret, too, at whose end
an escape begins: `u0` and `061` are an a."""
_MOST_PARTS: Final = 8
"""Parts of one value that are searched for, the longest ones: each costs a pass over every answer."""
_ALPHANUMERIC: Final = re.compile(rb"[A-Za-z0-9]+")
_SEPARATORS: Final = re.compile(r"[\s,;]+")
_REMEMBERED: Final = 8
"""Secrets of one peer that are remembered after their last answer, as the peer may still accept them."""


class CredentialsUnreadable(Exception):  # noqa: N818 - says the state of a file
    """A file is missing or has invalid content; the message names the file and holds nothing of its content."""


@dataclass(slots=True, eq=False)
class _Secret:
    """A secret as read: the file's content, the header's value, and what finds its parts in answers."""

    content: bytes
    value: str
    patterns: tuple[re.Pattern[bytes], ...]
    folded: tuple[str, ...]
    """The searched parts in lower case, as names of headers may show them."""
    literal: tuple[bytes, ...]
    """The searched parts, and what is in every text in Base64 that has one of them in it."""

    def stands_in(self, text: bytes | bytearray) -> bool:
        """Return True if one of the parts is in the text.

        Each event of a stream is searched twice, and few have an escape. Only those are searched with the patterns.
        """
        for literal in self.literal:
            if literal in text:
                return True
        has_escape = any(sign in text for sign in _ESCAPES)
        return has_escape and any(pattern.search(text) for pattern in self.patterns)


def open_end(text: str) -> str:
    """Return the end of a text that its next piece may complete to a secret."""
    end = text[-_TEXT_REACH:]
    has_escape = "\\" in end or "%" in end or "u00" in end
    return end if has_escape else end[-_LITERAL_REACH:]


def _encode(secret: str) -> Iterator[bytes]:
    """Yield what Base64 makes of a secret in the middle of another text, such as a file, for each of three positions.

    Three bytes become four characters, so the characters depend on where the secret begins. Of `foo` they are `Zm9v`,
    `Zvb` or `mb2`. Of these the longest run without signs is taken: JSON may escape signs, and Base64 for URLs has
    others.
    """
    content = secret[-_SEARCHED:].encode("latin-1")
    for before in range(3):
        whole = slice(-(-before * 8 // 6), (before + len(content)) * 8 // 6)  # characters without bits of other bytes
        runs = _ALPHANUMERIC.findall(base64.b64encode(bytes(before) + content)[whole])
        longest = max(runs, key=len, default=b"")
        if len(longest) >= _LEAST_SECRET:
            yield longest


def _parts(value: str) -> set[str]:
    """Return the texts in a header's value that are secret by themselves, since servers show them by themselves.

    Examples, with the parts in brackets:

        Bearer [abcdefgh]
        Token token="[abcdefgh]"
        sid=[abcdefgh]; lang=en
        Basic [dXNlcjpvcGVuc2VzYW1l], and [opensesame], the password that is in it
    """
    first, *rest = _SEPARATORS.split(value)
    words = [first, *rest] if "=" in first.rstrip("=") or not rest else rest  # else the first word names the scheme
    values = [word.partition("=")[2] if "=" in word.rstrip("=") else word for word in words]
    if first.lower() == "basic" and rest:
        with suppress(ValueError):
            values.append(base64.b64decode(rest[0], validate=True).decode("latin-1").partition(":")[2])
    return {part for one in values if len(part := one.strip("\"'")) >= _LEAST_SECRET} or {value}


def _compile(secret: str) -> re.Pattern[bytes]:
    r"""Return what finds a secret in a text, also where JSON or a URL writes its characters as escapes.

    One pattern finds all of these forms of `a/b`, in time linear in the text:

        a/b    a\/b    a\u002fb    \\u0061\\/b (JSON text in a string of JSON)    a%2Fb
    """
    forms = []
    for character in secret[-_SEARCHED:]:
        digits = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{ord(character):02x}")
        forms.append(f"(?:{re.escape(character)}|u00{digits}|%{digits})")
    return re.compile(rf"\\{{0,{_BACKSLASHES}}}".join(forms).encode())


class Credentials:
    """Reads the credentials of one source."""

    def __init__(self, target: HttpTarget, directory: Path) -> None:
        self._target, self._directory = target, directory
        self._files: dict[str, MountedFile] = {}
        self._secrets: dict[str, _Secret] = {}  # by file, as last sent
        self._due: dict[_Secret, int] = {}  # secrets that were sent, oldest first; how many answers may still show each
        self._trust = TrustCache()

    def read_headers(self) -> dict[str, str]:
        """Return the headers of the next request.

        Raises:
            CredentialsUnreadable: A secret's file cannot be read, or its content cannot be a header's value.
        """
        return {
            header.name: self._read_secret(header.name, header.file) if header.file is not None else header.value or ""
            for header in self._target.headers
        }

    def read_trust(self) -> ssl.SSLContext:
        """Return the TLS context that checks the server's certificate; the same object until the file changes.

        Raises:
            CredentialsUnreadable: The file of CA certificates cannot be read, or holds none.
        """
        return self._read_trust(self._target.ca_file)

    @property
    def proxy(self) -> str | None:
        """The URL of the egress proxy through which the server is reached, None where it is reached directly."""
        return None if self._target.proxy is None else self._target.proxy.url

    def read_proxy_trust(self) -> ssl.SSLContext | None:
        """Return the TLS context that checks the certificate of the egress proxy; None where it has no TLS.

        Raises:
            CredentialsUnreadable: The file of CA certificates cannot be read, or holds none.
        """
        proxy = self._target.proxy
        return self._read_trust(proxy.ca_file) if proxy is not None and proxy.url.startswith("https:") else None

    def _read_trust(self, file: str | None) -> ssl.SSLContext:
        found = None if file is None else self._read(file)
        try:
            return self._trust.find(file, found)
        except (ssl.SSLError, ValueError):
            raise CredentialsUnreadable(f"{file} holds no CA certificate in PEM") from None

    @contextmanager
    def answer_due(self) -> Iterator[None]:
        """Remember the secrets that were read, at least until the request that is sent in here has its answer."""
        sent = list(self._secrets.values())
        for secret in sent:
            self._due[secret] += 1
        try:
            yield
        finally:
            for secret in sent:
                self._due[secret] -= 1
            self._forget()

    def stands_in(self, text: bytes | bytearray) -> bool:
        """Return True if a secret that was sent is in the text, plain, in escapes of JSON or URLs, or in Base64.

        Secrets that were rotated count while answers to requests with them are due, and for some time after. Of a value
        with a scheme or several members, each part counts: of `Authorization: Bearer abcdefgh`, abcdefgh.
        """
        return any(secret.stands_in(text) for secret in self._due)

    def stands_in_header(self, name: str, value: str) -> bool:
        """Return True if a secret that was sent is in a header's value, or in its name in whatever case."""
        return self.stands_in(value.encode("utf-8", "surrogateescape")) or any(
            folded in name.lower() for secret in self._due for folded in secret.folded
        )

    def read_key(self, file: str) -> str:
        """Return a key that is the whole content of a file, such as a provider's.

        Raises:
            CredentialsUnreadable: The file cannot be read, or its content cannot be a header's value.
        """
        return self._read_secret("Authorization", file)

    def _read_secret(self, header: str, file: str) -> str:
        content = self._read(file)
        known = self._secrets.get(file)
        if known is not None and known.content is content:
            return known.value
        value = content.decode("latin-1").strip()  # a Secret made from a file or with echo ends with a line end
        if not is_header_value(value):
            raise CredentialsUnreadable(f"the secret of the header {header} is empty, or is no header's value")
        if len(value) >= _LEAST_SECRET:
            parts = sorted(_parts(value), key=len)[-_MOST_PARTS:]
            searched = [part[-_SEARCHED:] for part in parts]
            folded = tuple(part.lower() for part in searched)
            literal = [part.encode() for part in searched] + [one for part in parts for one in _encode(part)]
            found = _Secret(content, value, tuple(map(_compile, parts)), folded, tuple(literal))
            self._secrets[file] = found
            self._due[found] = self._due.pop(found, 0)
            self._forget()
        return value

    def _forget(self) -> None:
        """Forget the oldest secrets that are neither current nor in a request without its answer."""
        current = set(self._secrets.values())
        done = [secret for secret, due in self._due.items() if due == 0 and secret not in current]
        for secret in done[: max(0, len(done) - _REMEMBERED)]:
            del self._due[secret]

    def _read(self, file: str) -> bytes:
        found = self._files.get(file)
        if found is None:
            found = self._files[file] = MountedFile(self._directory / file, _MAX_FILE)
        try:
            return found.read()
        except FileTooLarge:
            raise CredentialsUnreadable(f"{file} has more than {_MAX_FILE} bytes") from None
        except OSError as error:
            raise CredentialsUnreadable(f"{file} cannot be read: {error.strerror}") from None
