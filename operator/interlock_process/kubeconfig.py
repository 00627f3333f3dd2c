"""The credentials of a kubeconfig, exec plugins included.

The official library reads the kubeconfig and runs the plugins. kopf and the operator's own clients get the same result.
"""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.kube_config import KubeConfigLoader, load_kube_config

from interlock_contract.clock import utc_now
from interlock_kube.credentials import ApiAccess, CredentialsUnavailable
from interlock_kube.mounted_file import MountedFile

_EARLY = timedelta(seconds=30)
"""How long before their end the plugin's credentials are fetched again."""


class KubeconfigCredentials:
    """The credentials of a kubeconfig's current context.

    The file, and the token's file where the user has one, are read again when they change. An exec plugin runs again
    shortly before what it gave expires, and when the API server refuses that.

    Args:
        path: The kubeconfig.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = MountedFile(path)
        self._token: MountedFile | None = None
        self._read: tuple[bytes, bytes] | None = None
        self._access: ApiAccess | None = None
        self._loading = asyncio.Lock()

    async def current(self) -> ApiAccess:
        """Return the access; load it where a file has changed or the access is about to expire."""
        async with self._loading:
            if self._access is None or self._is_ending(self._access) or self._read != self._read_files():
                return await self._load()
            return self._access

    async def renew(self, refused: ApiAccess) -> ApiAccess:
        """Return the access after reading all files and running the exec plugin again.

        Many requests are refused at the same time when a token ends. The plugin runs once for all of them.
        """
        async with self._loading:
            return await self._load() if self._access is None or self._access == refused else self._access

    def _is_ending(self, access: ApiAccess) -> bool:
        return access.expires is not None and utc_now() >= access.expires - _EARLY

    def _read_files(self) -> tuple[bytes, bytes]:
        try:
            return self._file.read(), self._token.read() if self._token is not None else b""
        except OSError as error:
            raise CredentialsUnavailable(f"cannot read the credentials: {error}") from error

    async def _load(self) -> ApiAccess:
        self._file.forget()
        self._token = None
        content, _ = self._read_files()
        configuration = Configuration()
        try:
            loader: KubeConfigLoader = await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(self._path), client_configuration=configuration, persist_config=False
            )
            user = _user(yaml.safe_load(content), loader.current_context["context"].get("user"))
        except (ConfigException, yaml.YAMLError, OSError, ValueError, LookupError, TypeError) as error:
            raise CredentialsUnavailable(f"cannot use the kubeconfig {self._path}: {error}") from error
        authorization = str(configuration.api_key.get("BearerToken", "")).strip()
        if "exec" in user and not authorization and not configuration.cert_file:
            # The library has logged the plugin's own error, and goes on without credentials.
            raise CredentialsUnavailable(f"the exec plugin of the kubeconfig {self._path} gave no credentials")
        if "tokenFile" in user and not user.get("token"):
            self._token = MountedFile(self._path.parent / user["tokenFile"])
        access = ApiAccess(
            server=configuration.host.rstrip("/"),
            authorization=authorization,
            ca_file=configuration.ssl_ca_cert,
            certificate_file=configuration.cert_file,
            key_file=configuration.key_file,
            is_verified=bool(configuration.verify_ssl),
            server_name=configuration.tls_server_name or None,
            proxy=configuration.proxy or None,
            expires=getattr(loader, "exec_plugin_expiry", None),
        )
        self._read, self._access = self._read_files(), access
        return access


def _user(config: Any, name: str | None) -> dict[str, Any]:
    """Return a user of the kubeconfig; empty where the context has none."""
    users = config.get("users") or ()
    return next((one.get("user") or {} for one in users if one.get("name") == name), {})
