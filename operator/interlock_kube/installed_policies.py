"""The question whether an admission policy is in force: without it, users can write any name."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from interlock_kube.client import NOT_FOUND, UNREACHABLE, ApiError, Json, KubeClient

_log = logging.getLogger(__name__)

VALID_SECONDS: Final = 10.0
"""How long an answer of the API server counts: many objects may ask at once."""

_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
_SELECTIONS: Final = ("namespaceSelector", "objectSelector", "resourceRules", "excludeResourceRules")


class InstalledPolicies:
    """Tells whether admission policies are in force: installed, with a binding that denies, everywhere.

    Args:
        client: The API server.
        monotonic: Returns seconds that never go back.
    """

    def __init__(self, client: KubeClient, monotonic: Callable[[], float]) -> None:
        self._client, self._monotonic = client, monotonic
        self._known: dict[str, tuple[float, bool | None]] = {}

    async def is_mutating(self, name: str) -> bool:
        """Return True if a MutatingAdmissionPolicy and its binding exist; what cannot be read does not count."""
        return bool(await self._find("mutatingadmissionpolicies", "mutatingadmissionpolicybindings", name))

    async def is_validating(self, name: str) -> bool:
        """Return True if a ValidatingAdmissionPolicy is in force; what cannot be read does not count."""
        return bool(await self._find("validatingadmissionpolicies", "validatingadmissionpolicybindings", name))

    async def find_validating(self, name: str) -> bool | None:
        """Return whether a ValidatingAdmissionPolicy is in force at this moment; None where it cannot be read.

        Only a policy that is in force is taken from an earlier answer: it may have been installed a moment ago.
        """
        if self._known.get(name, (0.0, None))[1] is not True:
            self._known.pop(name, None)
        return await self._find("validatingadmissionpolicies", "validatingadmissionpolicybindings", name)

    async def _find(self, policies: str, bindings: str, name: str) -> bool | None:
        now = self._monotonic()
        read_at, found = self._known.get(name, (None, None))
        if read_at is None or now - read_at > VALID_SECONDS:
            found = await self._read(policies, bindings, name)
            self._known[name] = now, found
        return found

    async def _read(self, policies: str, bindings: str, name: str) -> bool | None:
        try:
            await self._client.get(f"{_ADMISSION}/{policies}/{name}")
            binding = await self._client.get(f"{_ADMISSION}/{bindings}/{name}")
        except (ApiError, *UNREACHABLE) as error:
            if isinstance(error, ApiError) and error.status == NOT_FOUND:
                return False
            _log.warning("an admission policy cannot be read", extra={"policy": name, "error": str(error)})
            return None
        return _denies(binding)


def _denies(binding: Json) -> bool:
    """Return True if a binding refuses what its policy refuses, everywhere; one of a mutating policy has no actions."""
    spec: Mapping[str, Any] = binding.get("spec") or {}
    selection: Mapping[str, Any] = spec.get("matchResources") or {}
    return "Deny" in spec.get("validationActions", ("Deny",)) and not any(selection.get(one) for one in _SELECTIONS)
