"""The question whether an admission policy is installed, with its binding: without it, users can write any name."""

import logging
from collections.abc import Callable
from typing import Final

from interlock_kube.client import NOT_FOUND, UNREACHABLE, ApiError, KubeClient

_log = logging.getLogger(__name__)

UNVERIFIED: Final = "unverified:"
"""Prefix of the name of a user that any user with the same right could have written."""
VALID_SECONDS: Final = 10.0
"""How long an answer of the API server counts: many objects may ask at once."""

_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"


class InstalledPolicies:
    """Tells whether admission policies are installed.

    Args:
        client: The API server.
        monotonic: Returns seconds that never go back.
    """

    def __init__(self, client: KubeClient, monotonic: Callable[[], float]) -> None:
        self._client, self._monotonic = client, monotonic
        self._known: dict[str, tuple[float, bool]] = {}

    async def is_mutating(self, name: str) -> bool:
        """Return True if a MutatingAdmissionPolicy and its binding exist."""
        return await self._exist("mutatingadmissionpolicies", "mutatingadmissionpolicybindings", name)

    async def is_validating(self, name: str) -> bool:
        """Return True if a ValidatingAdmissionPolicy and its binding exist."""
        return await self._exist("validatingadmissionpolicies", "validatingadmissionpolicybindings", name)

    async def _exist(self, policies: str, bindings: str, name: str) -> bool:
        """Return True if a policy and its binding exist; what cannot be read does not count."""
        now = self._monotonic()
        read_at, exist = self._known.get(name, (None, False))
        if read_at is None or now - read_at > VALID_SECONDS:
            exist = await self._is_there(policies, name) and await self._is_there(bindings, name)
            self._known[name] = now, exist
        return exist

    async def _is_there(self, plural: str, name: str) -> bool:
        try:
            await self._client.get(f"{_ADMISSION}/{plural}/{name}")
        except (ApiError, *UNREACHABLE) as error:
            if not isinstance(error, ApiError) or error.status != NOT_FOUND:
                _log.warning("an admission policy cannot be read", extra={"policy": name, "error": str(error)})
            return False
        return True
