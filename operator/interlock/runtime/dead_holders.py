"""The search for dead holders: guards that hold money of a ledger and spend no longer.

A holder is dead once its pod is gone, or once it gave no sign of life for two leases of a guard. A sign is a write of
its slice or of its placement's Lease. What a dead holder did not settle counts as spent, because no one knows what it
spent.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from interlock.cluster.ledger_store import LedgerStore
from interlock.cluster.resource_cache import ResourceCache
from interlock.governance.budgets import LedgerIdentity
from interlock_contract.budget.ledger import Ledger
from interlock_contract.names import AGENT_LABEL, APP_MANAGED_BY_LABEL, HOLDER_PREFIX, MANAGED_BY
from interlock_kube.client import METADATA_LIST, KubeClient
from interlock_kube.resource_types import LEASE, POD, Key
from interlock_kube.watch import read_pages

CHECK_SECONDS: Final = 10.0
"""How often the holders of a ledger are checked while it has slices."""
ENDING_SECONDS: Final = 2.0
"""How soon a holder is checked again whose pod is ending."""
SUSPECT_SECONDS: Final = 15.0
"""How long a holder gives no sign of life before its Lease is read. A guard gives one at least as often."""
SILENT_SECONDS: Final = 60.0
"""How long a holder must be silent until it is dead: two leases of a guard, which spends no longer than one of them
without contact."""
MAX_SIGN: Final = 256
"""Longest sign of life in a Lease, in characters: a holder and a time."""


class HolderSilence:
    """Counts how long holders give no sign of life, as far as the operator could have seen one.

    A gap between two checks does not count, because the API server may have been away for guards as well.
    """

    def __init__(self) -> None:
        self._signs: dict[Key, dict[str, tuple[str, float]]] = {}
        """The last sign of each holder of a ledger, and when it was first seen."""
        self._counts: dict[tuple[Key, str], tuple[str, float, float]] = {}
        """The sign that was read from the API server, the seconds of silence since, and when it was read last."""

    def suspects(self, ledger: Key, signs: dict[str, str], now: float) -> list[str]:
        """Return the holders whose sign has not changed for some time.

        Args:
            ledger: The ledger.
            signs: The present signs of all its holders.
            now: Seconds on a clock that only goes forward.
        """
        known = self._signs.get(ledger, {})
        seen = {
            holder: (sign, known[holder][1] if known.get(holder, ("",))[0] == sign else now)
            for holder, sign in signs.items()
        }
        self._forget_but(ledger, seen.keys())
        if seen:
            self._signs[ledger] = seen
        return [holder for holder, (_, at) in seen.items() if now - at >= SUSPECT_SECONDS]

    def count(self, ledger: Key, holder: str, sign: str, now: float) -> float:
        """Return how many seconds a holder is silent, with the sign that was read from the API server just now."""
        before, silent, at = self._counts.get((ledger, holder), ("", 0.0, now))
        gap = now - at
        silent = silent + gap if before == sign and gap <= 2 * CHECK_SECONDS else 0.0
        self._counts[ledger, holder] = sign, silent, now
        return silent

    def forget(self, ledger: Key) -> None:
        """Forget a ledger."""
        self._forget_but(ledger, ())

    def _forget_but(self, ledger: Key, holders: Collection[str]) -> None:
        for holder in self._signs.pop(ledger, {}):
            if holder not in holders:
                self._counts.pop((ledger, holder), None)


class DeadHolders:
    """Finds dead holders.

    Args:
        cache: The objects that users apply.
        store: The ledgers.
        client: Speaks to the API server.
        pods_of: Returns the uids of an Agent's pods that are not ending.
        monotonic: Returns seconds on a clock that only goes forward.
    """

    def __init__(
        self,
        cache: ResourceCache,
        store: LedgerStore,
        client: KubeClient,
        pods_of: Callable[[Key], Collection[str]],
        monotonic: Callable[[], float],
    ) -> None:
        self._cache, self._store, self._client = cache, store, client
        self._pods_of, self._monotonic = pods_of, monotonic
        self._silence = HolderSilence()

    def forget(self, key: Key) -> None:
        """Forget a ledger that is gone."""
        self._silence.forget(key)

    async def find(self, key: Key, identity: LedgerIdentity, ledger: Ledger) -> tuple[list[str], float | None]:
        """Return the holders that spend no longer, and the seconds until the next check.

        Args:
            key: The ledger.
            identity: Whose it is.
            ledger: What it says.

        Raises:
            ApiError: The API server refused.
        """
        signs = _signs_in(ledger)
        suspects = self._silence.suspects(key, signs, self._monotonic())
        if not ledger.slices:
            return [], None
        uids = {one.holder: one.pod_uid for one in ledger.slices}
        running = self._running(key[0], identity)
        unknown = [holder for holder, uid in uids.items() if uid not in running]
        ending: set[str] = set()
        if unknown:  # the watch may be behind, and knows no pods that are ending
            existing = await self._existing_pods(key[0])
            ending = {holder for holder in unknown if uids[holder] in existing}
        dead = [holder for holder in unknown if holder not in ending]
        silent = [holder for holder in suspects if holder not in dead]
        if silent:
            dead += await self._find_silent(key, identity, silent)
        return dead, ENDING_SECONDS if ending else CHECK_SECONDS

    def _running(self, namespace: str, identity: LedgerIdentity) -> set[str]:
        agents: Iterable[Key] = ((namespace, identity.agent),)
        if not identity.agent:
            agents = self._cache.agents_under((namespace, identity.policy))
        return {uid for agent in agents for uid in self._pods_of(agent)}

    async def _existing_pods(self, namespace: str) -> set[str]:
        """Return the uids of all pods of agents and guards that exist, ending ones included."""
        found: set[str] = set()
        query = {"labelSelector": AGENT_LABEL}
        async for page in read_pages(self._client, POD.within(namespace), query, accept=METADATA_LIST):
            found |= {one["metadata"]["uid"] for one in page["items"] or ()}
        return found

    async def _find_silent(self, key: Key, identity: LedgerIdentity, suspects: list[str]) -> list[str]:
        """Return the suspects that gave no sign of life for two leases, by ledger and Leases as they are now."""
        await self._store.read_again(key)
        stored = self._store.get(key)
        if stored is None:
            return []
        signs = _signs_in(stored.read())
        selector = f"{AGENT_LABEL}={identity.agent}" if identity.agent else AGENT_LABEL
        # Without the label of the operator, admission lets anyone who may edit Leases write them.
        query = {"labelSelector": f"{APP_MANAGED_BY_LABEL}={MANAGED_BY},{selector}"}
        beats: dict[str, str] = {}
        async for page in read_pages(self._client, LEASE.within(key[0]), query, accept=METADATA_LIST):
            for lease in page["items"] or ():
                for name, value in (lease["metadata"].get("annotations") or {}).items():
                    holder = str(value).partition(" ")[0]
                    if name.startswith(HOLDER_PREFIX) and holder in signs and len(value) <= MAX_SIGN:
                        beats[holder] = max(beats.get(holder, ""), value)
        signs = {holder: f"{sign} {beats.get(holder, '')}" for holder, sign in signs.items()}
        now = self._monotonic()
        return [
            holder
            for holder in suspects
            if holder in signs and self._silence.count(key, holder, signs[holder], now) >= SILENT_SECONDS
        ]


def _signs_in(ledger: Ledger) -> dict[str, str]:
    """Return when each holder of money wrote one of its slices last. A guard with empty slices alone gives no sign."""
    signs: dict[str, str] = {}
    for one in ledger.slices:
        if not one.amount:
            continue
        signs[one.holder] = max(signs.get(one.holder, ""), str(one.renewed_at))
    return signs
