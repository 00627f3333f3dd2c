"""The settler of counts: it adds what this guard has counted to its pod's annotation of the placement's Lease.

Each write names the text that it replaces, and the API server refuses it if another text stands there by then. So no
count is lost or doubled, whenever a process ends and however late a write of it arrives:

    process 1   reads ""    writes "" -> A              ends, a write A -> B of it is still on its way
    process 2   reads A     writes A -> C               the write A -> B is refused, because C stands there
    or          reads A     the write A -> B arrives    A -> C is refused, reads B, writes B -> D

A write without an answer is repeated. If the first one had arrived, the repetition is refused, and its own text stands
there. The name of the process in each text tells equal counts of two processes apart. What a process has not settled at
its end is lost, which is at most what it counted since its last write.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from interlock_contract.names import COUNTS_PREFIX, GUARD_FIELD_MANAGER
from interlock_contract.work_counts import NO_COUNTS, SettledCounts, WorkCounts, dump_counts, parse_counts
from interlock_kube.client import CONFLICT, INVALID, JSON_PATCH, UNREACHABLE, ApiError, KubeClient

SETTLE_SECONDS: Final = 5.0
"""Shortest time between two writes."""
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 10.0
_MOST_TRIES: Final = 8
"""Writes that may be refused one after the other because the annotation has changed, until the next turn."""


class CountsSettler:
    """Adds counts to the annotation.

    Args:
        client: Sends the requests to the API server.
        lease: Path of the Lease.
        pod: Name of this pod.
        run: Name of this process, 16 hexadecimal digits, which no other process has.
        count: Returns what this process has counted since it began.
        is_wanted: Returns whether the agent's stage has gates. What was counted before they are there is not settled.
    """

    def __init__(
        self,
        client: KubeClient,
        lease: str,
        pod: str,
        *,
        run: str,
        count: Callable[[], WorkCounts],
        is_wanted: Callable[[], bool],
    ) -> None:
        self._client, self._lease, self._key, self._run = client, lease, f"{COUNTS_PREFIX}{pod}", run
        self._count, self._is_wanted = count, is_wanted
        self._settled = NO_COUNTS
        """How much of the own counts is in the annotation, or is not to be."""
        self._known: str | None = None
        """The text that stands in the annotation, as far as this process knows; None without one."""
        self._version: str | None = None
        """The Lease's version in which there was no text; None while there is one, or it was not read yet."""
        self._attempt: tuple[str, WorkCounts] | None = None
        """A text whose write had no answer, with the own counts that it includes."""
        self._has_read = False
        self._trouble = ""

    async def run(self, log: Callable[[str], None]) -> None:
        """Settle what has changed, until cancelled."""
        wait = _FIRST_WAIT
        while True:
            try:
                await self.settle()
            except (ApiError, *UNREACHABLE, ValueError) as error:
                self._note(f"{type(error).__name__}: {error}", log)
                await asyncio.sleep(wait)
                wait = min(_LONGEST_WAIT, wait * 2)
            else:
                self._note("", log)
                wait = _FIRST_WAIT
                await asyncio.sleep(SETTLE_SECONDS)

    async def finish(self, seconds: float) -> None:
        """Settle for the last time, within a time limit: what the API server does not take by then is lost."""
        with suppress(ApiError, *UNREACHABLE, ValueError):
            async with asyncio.timeout(seconds):
                await self.settle()
                await self.settle()  # the first may have repeated a write that lacks the latest counts

    async def settle(self) -> None:
        """Write what is not settled yet, if anything.

        Raises:
            ApiError: The API server refused. Exceptions in `UNREACHABLE` say that it did not answer.
            ValueError: Its answer is no Lease.
        """
        if self._attempt is None and not self._is_wanted():
            self._settled = self._count()
        for _ in range(_MOST_TRIES):
            if self._attempt is None and self._count() == self._settled:
                return
            if not self._has_read:
                self._take_over(await self._patch({"metadata": {}}))
            if await self._write():
                return

    async def _write(self) -> bool:
        """Write once and return True; if the annotation has changed, read it and return False."""
        if self._attempt is None:
            before = None if self._known is None else parse_counts(self._known)
            counted = self._count()
            base = NO_COUNTS if before is None else before.counts
            text = dump_counts(SettledCounts(self._run, base.grow(self._settled, counted)))
            self._attempt = text, counted
        text, counted = self._attempt
        try:
            await self._replace(text)
        except ApiError as error:
            if error.status not in (CONFLICT, INVALID):
                raise
            stood = self._known, self._version
            self._take_over(await self._patch({"metadata": {}}))
            if (self._known, self._version) == stood:  # it was refused for another reason, such as by an admission
                raise
            return False
        self._known, self._version = text, None
        self._settled, self._attempt = counted, None
        return True

    async def _replace(self, text: str) -> None:
        """Put a text in place of the known one; the API server refuses it if another one stands there."""
        if self._known is None:  # no test of JSON Patch can name what is absent, but the whole object's version can
            metadata = {"resourceVersion": self._version, "annotations": {self._key: text}}
            await self._patch({"metadata": metadata})
            return
        path = f"/metadata/annotations/{self._key.replace('/', '~1')}"
        patch = [{"op": "test", "path": path, "value": self._known}, {"op": "replace", "path": path, "value": text}]
        await self._client.patch(self._lease, patch, GUARD_FIELD_MANAGER, content_type=JSON_PATCH)

    def _take_over(self, metadata: Mapping[str, Any]) -> None:
        """Go on from what stands in the annotation now."""
        found = (metadata.get("annotations") or {}).get(self._key)
        if self._attempt is not None and found == self._attempt[0]:
            self._settled, self._attempt = self._attempt[1], None  # it had arrived
        elif not self._has_read or found != self._known:
            self._attempt = None  # the text that it would replace is gone for good, so it never arrives
        self._known, self._has_read = found, True
        self._version = metadata.get("resourceVersion") if found is None else None

    async def _patch(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Merge into the Lease; return its metadata. An empty patch reads it, with the right that the guard has."""
        found = await self._client.patch(self._lease, body, GUARD_FIELD_MANAGER)
        metadata = found.get("metadata") if isinstance(found, dict) else None
        if not isinstance(metadata, dict):
            raise ValueError("the answer is no Lease")  # noqa: TRY004 - the server's answer, no argument
        return metadata

    def _note(self, trouble: str, log: Callable[[str], None]) -> None:
        if trouble != self._trouble:
            log(f"counts in the Lease: {trouble or 'written again'}")
        self._trouble = trouble
