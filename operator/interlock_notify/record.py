"""The record of deliveries: a ConfigMap with the digests of the alerts that each webhook has taken.

It is written after each delivery, so that a notifier that starts again posts only what is not in it. Between the post
and the write lies a moment: a notifier that ends there posts that alert again, under the same idempotency key.

    data:
      oncall: "4f0c5b0c9a1e7d2f3b6a8c90 9b1d7c33e0a2f4586d7e8f01"     # oldest first, 24 hexadecimal digits each
"""

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Final

from interlock_contract.webhooks import MAX_WEBHOOKS
from interlock_kube.client import CONFLICT, NOT_FOUND, UNREACHABLE, ApiError, KubeClient
from interlock_kube.retry import PAUSE_SECONDS

_log = logging.getLogger(__name__)

FIELD_MANAGER: Final = "interlock-notifier"
MOST_BYTES: Final = 768 * 1024
"""Most bytes of the record; an object of Kubernetes has room for one MiB."""
MOST_DIGESTS: Final = MOST_BYTES // MAX_WEBHOOKS // 25
"""Digests that are recorded of one webhook, the last ones."""
_DIGEST: Final = re.compile(r"[0-9a-f]{24}")


class DeliveryRecord:
    """Reads and writes the ConfigMap.

    Args:
        client: Speaks to the API server.
        path: The path of the ConfigMap, which the operator creates.
        webhooks: The names of the webhooks; others that the policy had before are taken out.
    """

    def __init__(self, client: KubeClient, path: str, webhooks: Iterable[str]) -> None:
        self._client, self._path = client, path
        self._digests: dict[str, dict[str, None]] = {name: {} for name in webhooks}
        self._changed = asyncio.Event()
        self._version = ""
        self._gone: set[str] = set()
        self.failures = 0
        """Writes in a row that have failed."""

    async def load(self) -> dict[str, tuple[str, ...]]:
        """Return what each webhook has taken, however long the API server is away or the ConfigMap is missing."""
        while True:
            if await self._read():
                break
            await asyncio.sleep(PAUSE_SECONDS)
        return {name: tuple(digests) for name, digests in self._digests.items()}

    def add(self, webhook: str, digest: str) -> None:
        """Record soon that a webhook is done with the alert of this digest."""
        self._digests[webhook][digest] = None
        self._changed.set()

    async def run(self) -> None:
        """Write each change, until cancelled. Deliveries during a write are one more write together."""
        while True:
            await self._changed.wait()
            if not await self._write():
                await asyncio.sleep(PAUSE_SECONDS)

    async def flush(self) -> None:
        """Write what is not written yet, once; for the end of the program."""
        if self._changed.is_set():
            await self._write()

    async def _write(self) -> bool:
        """Write the record; return False if that must be tried again."""
        self._changed.clear()
        data = {name: " ".join(list(digests)[-MOST_DIGESTS:]) for name, digests in self._digests.items()}
        body = {"metadata": {"resourceVersion": self._version}, "data": {**dict.fromkeys(self._gone), **data}}
        try:
            self._version = (await self._client.patch(self._path, body, FIELD_MANAGER))["metadata"]["resourceVersion"]
        except asyncio.CancelledError:
            self._changed.set()
            raise
        except (ApiError, *UNREACHABLE, ValueError) as error:
            self._changed.set()
            self.failures += 1
            if isinstance(error, ApiError) and error.status in (CONFLICT, NOT_FOUND):
                await self._read()  # another notifier wrote it, or it was created again
            else:
                _log.warning("a delivery is not recorded yet", extra={"error": str(error) or type(error).__name__})
            return False
        self.failures = 0
        return True

    async def _read(self) -> bool:
        """Read the record, and keep what is known besides; return False if that must be tried again."""
        try:
            found = await self._client.get(self._path)
        except (ApiError, *UNREACHABLE, ValueError) as error:
            _log.warning(
                "the record of deliveries is not read yet", extra={"error": str(error) or type(error).__name__}
            )
            return False
        self._version = found["metadata"]["resourceVersion"]
        data: Mapping[str, str] = found.get("data") or {}
        self._gone = data.keys() - self._digests.keys()
        for name, digests in self._digests.items():
            read = (one for one in data.get(name, "").split() if _DIGEST.fullmatch(one))
            self._digests[name] = dict.fromkeys([*read, *digests])
        return True
