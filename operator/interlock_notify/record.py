"""The record of deliveries: a ConfigMap with the digests of the alerts that each webhook has taken.

It is written after each delivery, so that a notifier that starts again posts only what is not in it. Between the post
and the write lies a moment: a notifier that ends there posts that alert again, under the same idempotency key.

    data:
      # since when alerts are for this webhook, then what it has taken: oldest first, 24 hexadecimal digits each
      oncall: "2026-03-02T13:55:00Z 4f0c5b0c9a1e7d2f3b6a8c90 9b1d7c33e0a2f4586d7e8f01"
      oncall.problem: the receiver answered with HTTP 404     # why it takes none; the policy's status shows it

Two notifiers write it where one of them was not ended properly. The API server refuses a write that does not know the
last one, so each keeps what the other has written.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from interlock_contract.webhooks import MAX_PROBLEM, PROBLEM_SUFFIX
from interlock_kube.client import CONFLICT, NOT_FOUND, UNREACHABLE, ApiError, KubeClient
from interlock_kube.retry import PAUSE_SECONDS
from interlock_notify.alerts import read_moment, write_moment

_log = logging.getLogger(__name__)

FIELD_MANAGER: Final = "interlock-notifier"
MOST_BYTES: Final = 768 * 1024
"""Most bytes of the record; an object of Kubernetes has room for one MiB."""
START_MINUTES: Final = timedelta(minutes=10)
"""How long the first pod of a notifier may take to start: alerts of that time are for a new webhook, older ones not."""
_DIGEST: Final = re.compile(r"[0-9a-f]{24}")


def most_digests(webhooks: int) -> int:
    """Return how many digests are recorded of each of so many webhooks, the last ones."""
    return MOST_BYTES // max(1, webhooks) // 25


@dataclass
class Recorded:
    """What is recorded of one webhook.

    Attributes:
        since: When it appeared, less the time that a pod takes to start. Alerts from before are not for it.
        digests: The digests of the alerts that it is done with, oldest first.
    """

    since: datetime
    digests: dict[str, None] = field(default_factory=dict)


class DeliveryRecord:
    """Reads and writes the ConfigMap.

    Args:
        client: Speaks to the API server.
        path: The path of the ConfigMap, which the operator creates.
        webhooks: The names of the webhooks; others that the policy had before are taken out.
        clock: Returns the time.
    """

    def __init__(self, client: KubeClient, path: str, webhooks: Iterable[str], clock: Callable[[], datetime]) -> None:
        self._client, self._path = client, path
        self._recorded = {name: Recorded(clock() - START_MINUTES) for name in webhooks}
        self._most = most_digests(len(self._recorded))
        self._problems: Mapping[str, str] | None = None
        self._changed = asyncio.Event()
        self._version = ""
        self._gone: frozenset[str] = frozenset()
        self.failures = 0
        """Writes in a row that have failed."""

    async def load(self) -> Mapping[str, Recorded]:
        """Return what each webhook has taken, however long the API server is away or the ConfigMap is missing."""
        while True:
            data = await self._read()
            if data is not None:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        known = {key for name in self._recorded for key in (name, f"{name}{PROBLEM_SUFFIX}")}
        self._gone = frozenset(data.keys() - known)  # what comes later, a notifier of a newer policy has written
        if self._gone or not self._recorded.keys() <= data.keys():
            self._changed.set()
        return self._recorded

    def add(self, webhook: str, digest: str) -> None:
        """Record soon that a webhook is done with the alert of this digest."""
        digests = self._recorded[webhook].digests
        digests[digest] = None
        while len(digests) > self._most:
            del digests[next(iter(digests))]
        self._changed.set()

    def set_problems(self, problems: Mapping[str, str]) -> None:
        """Record soon which webhooks take no alerts, and why."""
        short = {name: text[:MAX_PROBLEM] for name, text in problems.items()}
        if short != self._problems:
            self._problems = short
            self._changed.set()

    async def run(self, on_read: Callable[[Mapping[str, Recorded]], object]) -> None:
        """Write each change, until cancelled. Deliveries during a write are one more write together.

        Args:
            on_read: Called with the whole record after another notifier has written it.
        """
        while True:
            await self._changed.wait()
            if not await self._write(on_read):
                await asyncio.sleep(PAUSE_SECONDS)

    async def flush(self) -> None:
        """Write what is not written yet, once; for the end of the program."""
        if self._changed.is_set():
            await self._write(lambda _: None)

    async def _write(self, on_read: Callable[[Mapping[str, Recorded]], object]) -> bool:
        """Write the record; return False if that must be tried again."""
        self._changed.clear()
        body = {"metadata": {"resourceVersion": self._version}, "data": self._render()}
        try:
            self._version = (await self._client.patch(self._path, body, FIELD_MANAGER))["metadata"]["resourceVersion"]
        except asyncio.CancelledError:
            self._changed.set()
            raise
        except (ApiError, *UNREACHABLE, ValueError) as error:
            self._changed.set()
            self.failures += 1
            if isinstance(error, ApiError) and error.status in (CONFLICT, NOT_FOUND):
                if await self._read() is not None:  # another notifier wrote it, or it was created again
                    on_read(self._recorded)
            else:
                _log.warning("a delivery is not recorded yet", extra={"error": str(error) or type(error).__name__})
            return False
        self.failures = 0
        return True

    def _render(self) -> dict[str, Any]:
        """Return the members of `data` to change; None deletes one."""
        data: dict[str, Any] = dict.fromkeys(self._gone)
        for name, one in self._recorded.items():
            data[name] = " ".join((write_moment(one.since), *one.digests))
            if self._problems is not None:
                data[f"{name}{PROBLEM_SUFFIX}"] = self._problems.get(name)
        return data

    async def _read(self) -> Mapping[str, str] | None:
        """Read the record, and keep what is known besides; return None if that must be tried again."""
        try:
            found = await self._client.get(self._path)
        except (ApiError, *UNREACHABLE, ValueError) as error:
            _log.warning(
                "the record of deliveries is not read yet", extra={"error": str(error) or type(error).__name__}
            )
            return None
        self._version = found["metadata"]["resourceVersion"]
        data: Mapping[str, str] = found.get("data") or {}
        for name, one in self._recorded.items():
            words = data.get(name, "").split()
            if words and (since := read_moment(words[0])) is not None:
                one.since = min(one.since, since)
            known = [*(word for word in words if _DIGEST.fullmatch(word)), *one.digests]
            one.digests = dict.fromkeys(known[-self._most :])
        return data
