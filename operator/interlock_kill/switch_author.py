"""The author of a kill switch as `status.kill` shows it: with a prefix where no admission policy vouches for the name.

Anyone who may kill writes annotations, so the name in `interlock.dev/kill-switch-by` proves nothing by itself. An
admission policy makes the API server write it (Kubernetes 1.36 and newer). Only administrators of the cluster can add
or remove that policy, so the kill controller asks the API server for it before it records a name.
"""

from collections.abc import Callable
from typing import Final

from interlock_contract.kill import shorten
from interlock_kube.client import KubeClient
from interlock_kube.installed_policies import InstalledPolicies

UNVERIFIED: Final = "unverified:"
"""Prefix of the name of a user that any user with the same right could have written. A kill holds all the same."""
_STAMP: Final = "agents-kill-identity.interlock.dev"
_RELEASE: Final = "agents-release.interlock.dev"


class SwitchAuthors:
    """Tells how a name in `interlock.dev/kill-switch-by` is recorded.

    Args:
        client: The API server.
        monotonic: Returns seconds that never go back.
    """

    def __init__(self, client: KubeClient, monotonic: Callable[[], float]) -> None:
        self._policies = InstalledPolicies(client, monotonic)

    async def of_kill(self, by: str | None) -> str | None:
        """Return the name of the user who killed, None where the annotation has none."""
        return _shown(by, is_verified=bool(by) and await self._is_stamped())

    async def of_release(self, by: str | None) -> str | None:
        """Return the name of the user who released; without a stamp, a release still carries its user's own name."""
        return _shown(by, is_verified=bool(by) and (await self._is_stamped() or await self._is_released_by_name()))

    async def _is_stamped(self) -> bool:
        return await self._policies.is_mutating(_STAMP)

    async def _is_released_by_name(self) -> bool:
        return await self._policies.is_validating(_RELEASE)


def is_same_author(recorded: str | None, by: str | None) -> bool:
    """Return True if a recorded name is that of the annotation, verified or not."""
    return _plain(recorded) == _plain(by)


def _plain(name: str | None) -> str:
    return shorten((name or "").removeprefix(UNVERIFIED))


def _shown(by: str | None, *, is_verified: bool) -> str | None:
    if not by:
        return None
    return shorten(by if is_verified else f"{UNVERIFIED}{by.removeprefix(UNVERIFIED)}")
