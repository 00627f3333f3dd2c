"""The author of a kill switch as `status.kill` shows it: with a prefix where no admission policy vouches for the name.

Anyone who may kill writes annotations, so the name in `interlock.dev/kill-switch-by` proves nothing by itself. An
admission policy makes the API server write it (Kubernetes 1.36 and newer). Only administrators of the cluster can add
or remove that policy, so the kill controller asks the API server for it before it records a name.
"""

import logging
from collections.abc import Callable
from typing import Final

from interlock_contract.kill import shorten
from interlock_kube.client import NOT_FOUND, UNREACHABLE, ApiError, KubeClient

_log = logging.getLogger(__name__)

UNVERIFIED: Final = "unverified:"
"""Prefix of a name that any user who may kill could have written."""
VALID_SECONDS: Final = 10.0
"""How long an answer of the API server counts: many agents may be killed at once."""

_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
_STAMP: Final = "agents-kill-identity.interlock.dev"
_RELEASE: Final = "agents-release.interlock.dev"


class SwitchAuthors:
    """Tells how a name in `interlock.dev/kill-switch-by` is recorded.

    Args:
        client: The API server.
        monotonic: Returns seconds that never go back.
    """

    def __init__(self, client: KubeClient, monotonic: Callable[[], float]) -> None:
        self._client, self._monotonic = client, monotonic
        self._known: dict[str, tuple[float, bool]] = {}

    async def of_kill(self, by: str | None) -> str | None:
        """Return the name of the user who killed, None where the annotation has none."""
        return _shown(by, is_verified=bool(by) and await self._is_stamped())

    async def of_release(self, by: str | None) -> str | None:
        """Return the name of the user who released; without a stamp, a release still carries its user's own name."""
        return _shown(by, is_verified=bool(by) and (await self._is_stamped() or await self._is_released_by_name()))

    async def _is_stamped(self) -> bool:
        return await self._exist("mutatingadmissionpolicies", "mutatingadmissionpolicybindings", _STAMP)

    async def _is_released_by_name(self) -> bool:
        return await self._exist("validatingadmissionpolicies", "validatingadmissionpolicybindings", _RELEASE)

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


def is_same_author(recorded: str | None, by: str | None) -> bool:
    """Return True if a recorded name is that of the annotation, verified or not."""
    return _plain(recorded) == _plain(by)


def _plain(name: str | None) -> str:
    return shorten((name or "").removeprefix(UNVERIFIED))


def _shown(by: str | None, *, is_verified: bool) -> str | None:
    if not by:
        return None
    return shorten(by if is_verified else f"{UNVERIFIED}{by.removeprefix(UNVERIFIED)}")
