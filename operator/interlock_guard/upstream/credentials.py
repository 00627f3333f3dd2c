"""What a server over HTTP is reached with: headers from Secrets, and its own CA certificates, read from files.

The kubelet replaces the files when the Secret changes, so they are read again for each request: a rotated token is used
by the next one. They lie in memory (tmpfs), in a volume that no container but the guard's mounts.
"""

import ssl
from pathlib import Path
from typing import Final

from interlock_contract.http_target import HttpTarget, is_header_value
from interlock_contract.strict_json import dump_json
from interlock_guard.upstream.dialer import trust

_MAX_FILE: Final = 1024 * 1024  # no Secret and no ConfigMap is larger
_LEAST_SECRET: Final = 8  # what is shorter stands in answers by chance


class CredentialsUnreadable(Exception):  # noqa: N818 - says the state of a file
    """A file is missing, or holds what it must not; the message names it, and nothing of its content."""


class Credentials:
    """Reads the credentials of one source."""

    def __init__(self, target: HttpTarget, directory: Path) -> None:
        self._target, self._directory = target, directory
        self._secrets: dict[str, tuple[bytes, bytes]] = {}  # by file: as last sent, and as JSON would write it
        self._authorities: bytes | None = None
        self._context: ssl.SSLContext | None = None

    def read_headers(self) -> dict[str, str]:
        """Return the headers of the next request.

        Raises:
            CredentialsUnreadable: A secret is not there, or cannot be a header's value.
        """
        return {
            header.name: self._read_secret(header.name, header.file) if header.file is not None else header.value or ""
            for header in self._target.headers
        }

    def read_trust(self) -> ssl.SSLContext:
        """Return what the server's certificate is checked with; the same object until the file changes.

        Raises:
            CredentialsUnreadable: The CA certificates are not there, or cannot be read.
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

    def stands_in(self, text: bytes) -> bool:
        """Say whether a secret that was sent stands in the text, as it is or behind its scheme (`Bearer`)."""
        return any(plain in text or escaped in text for plain, escaped in self._secrets.values())

    def read_key(self, file: str) -> str:
        """Return a key that stands alone in a file, such as a provider's of models.

        Raises:
            CredentialsUnreadable: It is not there, or cannot be a header's value.
        """
        return self._read_secret("Authorization", file)

    def _read_secret(self, header: str, file: str) -> str:
        # Whoever makes a Secret from a file or with echo has a line end in it.
        value = self._read(file).decode("latin-1").strip()
        if not is_header_value(value):
            raise CredentialsUnreadable(f"the secret of the header {header} is empty, or is no header's value")
        word = value.rpartition(" ")[2]
        secret = word if len(word) >= _LEAST_SECRET else value
        if len(secret) >= _LEAST_SECRET:
            self._secrets[file] = secret.encode(), dump_json(secret)[1:-1]
        return value

    def _read(self, file: str) -> bytes:
        try:
            with (self._directory / file).open("rb") as opened:
                content = opened.read(_MAX_FILE + 1)
        except OSError as error:
            raise CredentialsUnreadable(f"{file} cannot be read: {error.strerror}") from None
        if len(content) > _MAX_FILE:
            raise CredentialsUnreadable(f"{file} has more than {_MAX_FILE} bytes")
        return content
