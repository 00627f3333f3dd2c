"""The poster of Kubernetes Events: it posts in the background, and a lost Event never fails a reconcile.

Conditions are the lasting report; an Event only says when one of them changed.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import aiohttp

from interlock.api.shared_types import ObjectMeta
from interlock.reconcile.agent_events import EventNote
from interlock.telemetry import EVENTS_DROPPED
from interlock_contract.clock import write_time
from interlock_kube.client import CONFLICT, ApiError, Json, KubeClient
from interlock_kube.resource_types import DEPLOYMENT, EVENT

_log = logging.getLogger(__name__)

_NOTE_LENGTH = 1024  # the API server refuses longer notes
_CLOSE_SECONDS = 2.0


class Regarded(Protocol):
    """An object that an Event is about, such as an Agent."""

    @property
    def api_version(self) -> str:
        """Group and version of its kind."""

    @property
    def kind(self) -> str:
        """Its kind."""

    @property
    def metadata(self) -> ObjectMeta:
        """Its metadata."""


@dataclass(frozen=True)
class Program:
    """A Deployment of Interlock, as an Event regards it.

    Attributes:
        metadata: Its name and namespace.
        kind: Its kind.
        api_version: Group and version of its kind.
    """

    metadata: ObjectMeta
    kind: str = DEPLOYMENT.kind
    api_version: str = DEPLOYMENT.api_version


def operator_in(namespace: str) -> Program:
    """Return the operator's Deployment in its namespace."""
    return Program(ObjectMeta(name="interlock", namespace=namespace))


class EventPoster:
    """Posts Events.

    Args:
        client: Speaks to the API server.
        instance: Names this operator in the Events.
        clock: Returns the time.
    """

    def __init__(self, client: KubeClient, instance: str, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._instance = instance
        self._clock = clock
        self._posting: set[asyncio.Task[None]] = set()

    def post(self, about: Regarded, note: EventNote) -> None:
        """Post an Event in the background. One that cannot be posted is logged, counted and dropped."""
        event = self._build(about, note)
        task = asyncio.create_task(self._send(event))
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    async def close(self) -> None:
        """Wait a moment for the Events on their way, then drop the rest."""
        if not self._posting:
            return
        _, late = await asyncio.wait(self._posting, timeout=_CLOSE_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _send(self, event: Json) -> None:
        try:
            await self._client.create(EVENT.within(event["metadata"]["namespace"]), event)
        except ApiError as error:
            if error.status != CONFLICT:
                self._drop(event, error)
        except Exception as error:  # noqa: BLE001 - an Event that is lost harms nothing, whatever lost it
            self._drop(event, error)

    def _drop(self, event: Json, error: Exception) -> None:
        EVENTS_DROPPED.inc()
        is_expected = isinstance(error, (ApiError, aiohttp.ClientError, OSError, TimeoutError))
        _log.warning(
            "event not posted",
            extra={
                "object": event["regarding"]["name"],
                "reason": event["reason"],
                "error": str(error) or repr(error),
            },
            exc_info=None if is_expected else error,
        )

    def _build(self, about: Regarded, note: EventNote) -> dict[str, Any]:
        metadata = about.metadata
        known = hashlib.sha256(f"{metadata.uid}/{note.key}".encode()).hexdigest()[:16] if note.key else ""
        part = known or secrets.token_hex(8)
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata.name}.{part}", "namespace": metadata.namespace},
            "eventTime": write_time(self._clock()),
            "reportingController": "interlock.dev/operator",
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": note.type,
            "reason": note.reason,
            "note": note.message[:_NOTE_LENGTH],
            "regarding": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": metadata.namespace,
                "name": metadata.name,
                "uid": metadata.uid,
            },
        }
