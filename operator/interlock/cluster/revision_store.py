"""The store of revisions: ControllerRevisions, read when a reconcile needs one, and kept compressed within a bound.

No watch follows them: their data never changes, and an agent needs two of its ten.
"""

import json
import logging
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from interlock.api.agent import Agent
from interlock.api.status import AgentReason
from interlock.cluster.applier import ApplyFailed, because
from interlock.deployment.children.revisions import CONTROLLER_REVISION, REVISION, surplus_revisions
from interlock.deployment.content import parse_content
from interlock.deployment.names import Manifest
from interlock.reconcile.revisions import MissingRevision, read_known
from interlock.reconcile.snapshot import KnownRevision
from interlock_contract.clock import read_time
from interlock_contract.names import AGENT_LABEL, APP_COMPONENT_LABEL, CONTENT_DIGEST
from interlock_contract.revisions import RevisionNotes, RevisionUnreadableError, StoredRevision
from interlock_kube.client import METADATA_LIST, NOT_FOUND, UNREACHABLE, ApiError, Json, KubeClient, says_exists
from interlock_kube.resource_types import CONTROLLER_REVISION as RESOURCE

MOST_BYTES: Final = 32 * 1024 * 1024
"""Most bytes of compressed contents that are kept."""
MOST_PARSED: Final = 256
"""Most contents that are kept as objects, too."""
_MOST_LISTED: Final = 200
"""Most ControllerRevisions of one agent that are looked at for the history."""

_log = logging.getLogger(__name__)

_Key = tuple[str, str]
"""Uid of an Agent, and the digest of a revision."""


class RevisionStore:
    """Reads and creates ControllerRevisions.

    Args:
        client: Speaks to the API server.
        most: Most bytes that are kept.
    """

    def __init__(self, client: KubeClient, *, most: int = MOST_BYTES) -> None:
        self._client = client
        self._most = most
        self._size = 0
        self._stored: OrderedDict[_Key, bytes] = OrderedDict()
        self._parsed: OrderedDict[_Key, KnownRevision] = OrderedDict()

    def known(self, agent: Agent, digests: Iterable[str]) -> dict[str, KnownRevision]:
        """Return those of an Agent's revisions that are kept, by their digests."""
        found = ((digest, self._get((agent.metadata.uid, digest))) for digest in digests)
        return {digest: known for digest, known in found if known is not None}

    async def read(self, agent: Agent, missing: Iterable[MissingRevision]) -> dict[str, str]:
        """Read revisions and keep them; return why some cannot be read, by their digests.

        Raises:
            ApiError: The API server does not give an answer about one. That says nothing about it.
        """
        lost = {}
        for one in missing:
            try:
                found = await self._client.get(RESOURCE.path(agent.metadata.namespace, one.name))
                self._keep((agent.metadata.uid, one.digest), read_known(found, agent, one))
            except RevisionUnreadableError as error:
                lost[one.digest] = str(error)
            except ApiError as error:
                if error.status != NOT_FOUND:
                    raise
                lost[one.digest] = f"ControllerRevision {one.name} does not exist"
        return lost

    async def create(self, agent: Agent, manifests: Iterable[Manifest]) -> None:
        """Create ControllerRevisions. One that exists with the same content is left as it is.

        Raises:
            ApplyFailed: One cannot be created.
        """
        for manifest in manifests:
            name, digest = manifest["metadata"]["name"], manifest["metadata"]["annotations"][CONTENT_DIGEST]
            path = RESOURCE.within(agent.metadata.namespace)
            try:
                await self._client.create(path, manifest)
            except (ApiError, *UNREACHABLE) as error:
                if not isinstance(error, ApiError) or not says_exists(error):
                    raise ApplyFailed(f"{CONTROLLER_REVISION} {name}: {because(error)}") from error
                await self._check(agent, MissingRevision(digest, digest, name))

    async def _check(self, agent: Agent, wanted: MissingRevision) -> None:
        try:
            lost = await self.read(agent, [wanted])
        except (ApiError, *UNREACHABLE) as error:
            raise ApplyFailed(f"{CONTROLLER_REVISION} {wanted.name}: {because(error)}") from error
        if lost:
            delete = f"kubectl -n {agent.metadata.namespace} delete controllerrevisions.apps {wanted.name}"
            message = f"{CONTROLLER_REVISION} {wanted.name} exists and is not the operator's; run: {delete}"
            raise ApplyFailed(message, AgentReason.NAME_TAKEN)

    async def highest_number(self, agent: Agent) -> int:
        """Return the highest number of an Agent's revisions, 0 if it has none."""
        return max((one.number for one, _ in await self._list(agent)), default=0)

    async def prune(
        self,
        agent: Agent,
        needed: Collection[int],
        now: datetime,
        *,
        count: int,
        max_age: timedelta | None = None,
        passed: Collection[int] = (),
    ) -> frozenset[int]:
        """Delete the revisions that the history no longer keeps. A failure is logged: the next revision tries again.

        Args:
            agent: The Agent.
            needed: The numbers of revisions that stay in any case.
            now: The time.
            count: How many of the newest are kept.
            max_age: How long others are kept; None for no bound.
            passed: The numbers of revisions that a rollback can name, and that stay until they are too old.

        Returns:
            The numbers of those that were deleted.
        """
        deleted: set[int] = set()
        try:
            found = {one.number: (one, uid) for one, uid in await self._list(agent)}
            stored = [one for one, _ in found.values()]
            for surplus in surplus_revisions(stored, needed, now, count=count, max_age=max_age, passed=passed):
                path = RESOURCE.path(agent.metadata.namespace, f"{agent.metadata.name}-{surplus.name}")
                await self._client.delete(path, {"preconditions": {"uid": found[surplus.number][1]}})
                deleted.add(surplus.number)
        except (ApiError, *UNREACHABLE) as error:
            _log.warning("revisions of an agent were not deleted: %s", because(error))
        return frozenset(deleted)

    async def _list(self, agent: Agent) -> list[tuple[StoredRevision, str]]:
        """Return an Agent's revisions without their contents, each with its uid."""
        query = {
            "labelSelector": f"{AGENT_LABEL}={agent.metadata.name},{APP_COMPONENT_LABEL}={REVISION}",
            "limit": str(_MOST_LISTED),
        }
        found = await self._client.get(RESOURCE.within(agent.metadata.namespace), query, accept=METADATA_LIST)
        read = (_read_metadata(item["metadata"], agent) for item in found["items"] or ())
        return [one for one in read if one is not None]

    def _get(self, key: _Key) -> KnownRevision | None:
        text = self._stored.get(key)
        if text is None:
            return None
        self._stored.move_to_end(key)
        known = self._parsed.get(key)
        if known is None:
            data: Mapping[str, object] = json.loads(zlib.decompress(text))
            known = KnownRevision(parse_content(data), data)
        self._remember(key, known)
        return known

    def _keep(self, key: _Key, known: KnownRevision) -> None:
        text = zlib.compress(json.dumps(known.data, separators=(",", ":")).encode(), level=1)
        self._size += len(text) - len(self._stored.pop(key, b""))
        self._stored[key] = text
        self._remember(key, known)
        while self._size > self._most and len(self._stored) > 1:
            oldest, dropped = self._stored.popitem(last=False)
            self._size -= len(dropped)
            self._parsed.pop(oldest, None)

    def _remember(self, key: _Key, known: KnownRevision) -> None:
        self._parsed[key] = known
        self._parsed.move_to_end(key)
        while len(self._parsed) > MOST_PARSED:
            self._parsed.popitem(last=False)


def _read_metadata(metadata: Json, agent: Agent) -> tuple[StoredRevision, str] | None:
    """Return what the metadata of a ControllerRevision says of it; None if it belongs to something else."""
    name, digest = metadata["name"], (metadata.get("annotations") or {}).get(CONTENT_DIGEST, "")
    number = name.removeprefix(f"{agent.metadata.name}-").partition("-")[0]
    owners = [owner.get("uid") for owner in metadata.get("ownerReferences") or ()]
    if not number.isdecimal() or agent.metadata.uid not in owners or not digest:
        return None
    created_at = read_time(metadata.get("creationTimestamp"), datetime.max.replace(tzinfo=UTC))
    return StoredRevision(int(number), digest, created_at, RevisionNotes(), {}), metadata["uid"]
