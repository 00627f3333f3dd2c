"""The credentials of one HTTP server or provider: header values from Secrets and CA certificates, read from files.

The kubelet replaces the files when a Secret changes, and a rotated token is used by the next request. A file is read
again only when its inode, time or size has changed. The files are in memory (tmpfs), in a volume that only the guard's
container mounts.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock_contract.http_target import HttpTarget, is_header_value
from interlock_contract.strict_json import dump_json
from interlock_guard.upstream.dialer import trust
from interlock_kube.mounted_file import FileTooLarge, MountedFile

_MAX_FILE: Final = 1024 * 1024  # no Secret and no ConfigMap is larger
_LEAST_SECRET: Final = 8  # a shorter text is in answers by chance


class CredentialsUnreadable(Exception):  # noqa: N818 - says the state of a file
    """A file is missing or has invalid content; the message names the file and holds nothing of its content."""


@dataclass(frozen=True, slots=True)
class _Secret:
    """A secret as read: the file's content, the header's value, and its forms to search for in answers."""

    content: bytes
    value: str
    plain: bytes
    escaped: bytes


class Credentials:
    """Reads the credentials of one source."""

    def __init__(self, target: HttpTarget, directory: Path) -> None:
        self._target, self._directory = target, directory
        self._files: dict[str, MountedFile] = {}
        self._secrets: dict[str, _Secret] = {}  # by file, as last sent
        self._authorities: bytes | None = None
        self._context: ssl.SSLContext | None = None

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
        file = self._target.ca_file
        found = None if file is None else self._read(file)
        if self._context is None or found != self._authorities:
            try:
                self._context = trust(found)
            except (ssl.SSLError, ValueError):
                raise CredentialsUnreadable(f"{file} holds no CA certificate in PEM") from None
            self._authorities = found
        return self._context

    def stands_in(self, text: bytes | bytearray) -> bool:
        """Return True if a secret that was sent is in the text, plain or as JSON writes it.

        Of a value with a scheme, the secret is the last word. Two examples:

            Authorization: Bearer abcdefgh    the secret is abcdefgh
            X-Key: a"bcdefgh                  JSON writes the secret with a backslash before the quote
        """
        return any(secret.plain in text or secret.escaped in text for secret in self._secrets.values())

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
        word = value.rpartition(" ")[2]
        secret = word if len(word) >= _LEAST_SECRET else value
        if len(secret) >= _LEAST_SECRET:
            self._secrets[file] = _Secret(content, value, secret.encode(), dump_json(secret)[1:-1])
        return value

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
