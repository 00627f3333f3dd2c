"""How to reach the API server and what to authenticate with, as plain data that every client can use.

A provider gives them out: `MountedCredentials` for a pod. A kubeconfig has a provider in the operator alone, since the
guard has no YAML parser.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from interlock_kube.mounted_file import MountedFile

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Directory in which Kubernetes mounts the token and the CA certificate of a pod's ServiceAccount."""


class CredentialsUnavailable(ConnectionError):  # noqa: N818 - says the state of the credentials
    """No credentials can be had; the message says why and holds none of them.

    It is a connection error, since every caller that retries after the one must retry after the other.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAccess:
    """One way to the API server.

    Attributes:
        server: The base URL, without a slash at its end.
        authorization: The value of the header Authorization; empty without one.
        ca_file: File with the CA certificates that sign the server's; None trusts those of the system.
        ca_version: Differs whenever the content of `ca_file` does.
        certificate_file: File with the client's certificate.
        key_file: File with the client's key.
        is_verified: Whether the server's certificate is checked.
        server_name: Name that the server's certificate must have, where that is not the URL's host.
        proxy: URL of a proxy.
        expires: When the credentials end, where that is known.
    """

    server: str
    authorization: str = ""
    ca_file: str | None = None
    ca_version: int = 0
    certificate_file: str | None = None
    key_file: str | None = None
    is_verified: bool = True
    server_name: str | None = None
    proxy: str | None = None
    expires: datetime | None = None

    def build_ssl_context(self) -> ssl.SSLContext:
        """Return the context of TLS connections.

        Raises:
            OSError: A file cannot be read, or holds no certificate or key.
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.certificate_file:
            context.load_cert_chain(self.certificate_file, self.key_file)
        if not self.is_verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class ApiCredentials(Protocol):
    """Gives out the access to one API server."""

    async def current(self) -> ApiAccess:
        """Return the access as it is now; asked at each request.

        Raises:
            CredentialsUnavailable: There is none.
        """

    async def renew(self, refused: ApiAccess) -> ApiAccess:
        """Return another access than the one that the API server refused, after reading or fetching it again.

        The result equals `refused` where there is no other.

        Raises:
            CredentialsUnavailable: There is none.
        """


class MountedCredentials:
    """The credentials of a pod: a token and a CA certificate in files that the kubelet replaces.

    Args:
        server: The base URL of the API server; empty where it is unknown.
        directory: Where `token` and `ca.crt` are. Plain HTTP, which tests use, needs no `ca.crt`.
    """

    def __init__(self, server: str, directory: Path = SERVICE_ACCOUNT) -> None:
        self._server = server.rstrip("/")
        self._token = MountedFile(directory / "token")
        self._ca_file = directory / "ca.crt"
        self._ca = MountedFile(self._ca_file) if self._server.startswith("https://") else None
        self._read: tuple[bytes, bytes] | None = None
        self._access: ApiAccess | None = None

    @classmethod
    def of_pod(cls, environment: Mapping[str, str]) -> "MountedCredentials":
        """Return the credentials of the pod that this process runs in."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            return cls("")
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")

    async def current(self) -> ApiAccess:
        """Return the access with the token and the CA certificate as the files hold them now."""
        if not self._server:
            raise CredentialsUnavailable(
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: "
                "this process does not run in a pod, and no kubeconfig is given"
            )
        try:
            read = self._token.read(), self._ca.read() if self._ca is not None else b""
        except OSError as error:
            raise CredentialsUnavailable(f"cannot read the ServiceAccount's credentials: {error}") from error
        if self._access is None or read != self._read:
            token, ca = read
            self._access = ApiAccess(
                server=self._server,
                authorization=f"Bearer {token.decode().strip()}",
                ca_file=str(self._ca_file) if self._ca is not None else None,
                ca_version=hash(ca),
            )
            self._read = read
        return self._access

    async def renew(self, refused: ApiAccess) -> ApiAccess:  # noqa: ARG002 - reading twice costs nothing
        """Return the access after reading the files again."""
        self._token.forget()
        return await self.current()
