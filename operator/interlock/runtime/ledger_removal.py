"""The removal of empty ledgers: those of Agents and AgentPolicies that no longer exist, from which nothing was spent.

A ledger with any spend outlives its Agent, so that a new Agent of the name has no new budget. Without the removal of
the other ones, Agents with ever new names would fill the quota of their namespace.
"""

import asyncio
import logging
from typing import Final

from interlock.cluster.ledger_store import SELECTOR, LedgerStore, identity_of
from interlock.governance.budgets import LedgerIdentity
from interlock_contract.budget.ledger import Ledger, LedgerInvalid, parse_ledger
from interlock_kube.client import (
    CONFLICT,
    METADATA_LIST,
    NOT_FOUND,
    UNREACHABLE,
    AnswerTooLarge,
    ApiError,
    Json,
    KubeClient,
)
from interlock_kube.resource_types import AGENT, AGENT_POLICY, BUDGET_LEDGER, Key, key_of, version_of
from interlock_kube.watch import read_pages
from interlock_process.metrics import skip_on_defect

_log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 300.0
"""How often ledgers are looked for that may go."""


class LedgerRemoval:
    """Removes empty ledgers.

    Args:
        client: Speaks to the API server.
        store: The ledgers of Agents and AgentPolicies that exist, which all stay.
    """

    def __init__(self, client: KubeClient, store: LedgerStore) -> None:
        self._client, self._store = client, store
        self._spent: dict[Key, int] = {}
        """The versions of ledgers that stay because of their spend, which are not read again."""

    async def run(self) -> None:
        """Remove ledgers from time to time, for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except (ApiError, AnswerTooLarge, ValueError, RecursionError, *UNREACHABLE) as error:
                _log.warning("ledgers are not removed now", extra={"error": str(error) or type(error).__name__})

    async def sweep(self) -> None:
        """Look at all ledgers once.

        Raises:
            ApiError: The API server refused the list.
        """
        listed: dict[Key, int] = {}
        query = {"labelSelector": SELECTOR}
        async for page in read_pages(self._client, BUDGET_LEDGER.everywhere(), query, accept=METADATA_LIST):
            for found in page["items"] or ():
                with skip_on_defect(BUDGET_LEDGER.kind, found):
                    listed[key_of(found)] = version_of(found)
        self._spent = {key: version for key, version in self._spent.items() if listed.get(key) == version}
        for key in listed:
            if key not in self._spent and self._store.get(key) is None:
                try:
                    await self._consider(key)
                except ApiError as error:
                    _log.warning("a ledger is not removed", extra={"ledger": "/".join(key), "error": str(error)})

    async def _consider(self, key: Key) -> None:
        """Remove a ledger if nothing was spent from it and its owner does not exist.

        Raises:
            ApiError: The API server refused.
        """
        found = await self._read(BUDGET_LEDGER.path(*key))
        identity = identity_of(found) if found is not None else None
        if found is None or identity is None:
            return
        if not _is_unspent(found):
            self._spent[key] = version_of(found)
            return
        if await self._read(_owner_path(key[0], identity)) is not None:
            return
        # A write of a guard or the return of the owner makes it another version.
        metadata = found["metadata"]
        preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        try:
            await self._client.delete(BUDGET_LEDGER.path(*key), {"preconditions": preconditions})
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            return
        _log.info("a ledger without any spend is removed", extra={"ledger": "/".join(key)})

    async def _read(self, path: str) -> Json | None:
        try:
            return await self._client.get(path)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise


def _owner_path(namespace: str, identity: LedgerIdentity) -> str:
    if identity.agent:
        return AGENT.path(namespace, identity.agent)
    return AGENT_POLICY.path(namespace, identity.policy)


def _is_unspent(found: Json) -> bool:
    try:
        ledger: Ledger = parse_ledger(found.get("status"))
    except LedgerInvalid:
        return False
    windows = (ledger.day, ledger.month, *ledger.days, *ledger.months)
    return not any(one.amount for one in ledger.slices) and not any(one.spent for one in windows)
