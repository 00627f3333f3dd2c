"""The reader of Warning Events about pods that are not ready and do not say why themselves.

Events are many, and most are about pods of others. So none are watched: the namespaces with such pods are asked, one at
a time. A cluster whose pods are ready costs no request.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

from interlock.deployment.observed.causes import PodWarning, read_warning, time_of
from interlock_kube.client import UNREACHABLE, AnswerTooLarge, ApiError, KubeClient
from interlock_kube.resource_types import EVENT
from interlock_kube.watch import read_pages

_log = logging.getLogger(__name__)

UNREADY_SECONDS: Final = 5.0
"""How long a pod is not ready before Events about it are read. Most pods need less than this to start."""
_TURN_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.1
"""Seconds between two namespaces, so that an outage of many agents costs at most ten requests a second."""
_PAGE: Final = 200
_PAGE_BYTES: Final = 1024 * 1024
_MOST_PAGES: Final = 5
"""Pages of one namespace. Later Events are not listed, because anyone can create them in any number."""
MOST_ASKED: Final = 8
"""Pods of such a namespace whose own Events are read in one turn. The next turn reads those of other pods."""
_WARNINGS: Final = {"fieldSelector": "type=Warning"}


async def read_warnings(
    client: KubeClient, namespace: str, uids: Collection[str], turn: int = 0
) -> dict[str, PodWarning]:
    """Return the newest Warning Event about each of these pods and Jobs, by uid.

    Args:
        client: Speaks to the API server.
        namespace: The namespace.
        uids: The pods and Jobs.
        turn: The number of the turn. In a namespace with too many Events, it chooses the pods that are asked about.

    Raises:
        ApiError: The API server refused.
        AnswerTooLarge: A single Event is too large.
    """
    newest: dict[str, PodWarning] = {}
    if await _read(client, namespace, _WARNINGS, uids, newest, most=_MOST_PAGES):
        return newest
    every = sorted(uids)
    first = turn * MOST_ASKED % len(every) if every else 0
    for uid in (every[first:] + every[:first])[:MOST_ASKED]:
        await asyncio.sleep(_PAUSE_SECONDS)
        about = {"fieldSelector": f"type=Warning,regarding.uid={uid}"}
        await _read(client, namespace, about, uids, newest, most=1)
    return newest


async def _read(
    client: KubeClient,
    namespace: str,
    query: Mapping[str, str],
    uids: Collection[str],
    newest: dict[str, PodWarning],
    *,
    most: int,
) -> bool:
    """Add the newest Events to those found; return True if all were read within so many pages."""
    pages = 0
    async for page in read_pages(client, EVENT.within(namespace), query, limit=_PAGE, most=_PAGE_BYTES):
        about = [one for one in reversed(page["items"] or ()) if (one.get("regarding") or {}).get("uid") in uids]
        read = set[str]()
        # The newest come first: a quotation of each of them all would take seconds.
        for event in sorted(about, key=time_of, reverse=True):
            found = None if event["regarding"]["uid"] in read else read_warning(event)
            if found is not None:
                read.add(found.uid)
                known = newest.get(found.uid)
                newest[found.uid] = found if known is None or found.at >= known.at else known
        pages += 1
        if pages == most:
            return not page["metadata"].get("continue")
    return True


class PodWarnings:
    """Asks for the Events of unready pods, for ever.

    Args:
        client: Speaks to the API server.
        unready: Returns the uids of the pods whose Events may say more, by namespace.
        found: Called with a namespace and the newest Event about each of its pods, by uid.
    """

    def __init__(
        self,
        client: KubeClient,
        unready: Callable[[], Mapping[str, Collection[str]]],
        found: Callable[[str, Mapping[str, PodWarning]], None],
    ) -> None:
        self._client = client
        self._unready = unready
        self._found = found
        self._has_failed = False
        self._turns = 0

    async def run(self) -> None:
        """Ask, for ever."""
        while True:
            await asyncio.sleep(_TURN_SECONDS)
            await self.turn()

    async def turn(self) -> None:
        """Ask once for each namespace with unready pods. A failure costs the message alone, and is logged once."""
        self._turns += 1
        for namespace, uids in self._unready().items():
            try:
                self._found(namespace, await read_warnings(self._client, namespace, uids, self._turns))
                self._has_failed = False
            except (ApiError, AnswerTooLarge, *UNREACHABLE) as error:
                if not self._has_failed:
                    _log.warning("Events not read", extra={"namespace": namespace, "error": str(error)})
                self._has_failed = True
            await asyncio.sleep(_PAUSE_SECONDS)
