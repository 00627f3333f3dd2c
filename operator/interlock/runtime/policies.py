"""Keep `status.access` of every AgentPolicy true; many changes at once are one look, and no change is no write."""

import logging
from collections.abc import Callable, Iterator

import aiohttp

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.cluster.resource_cache import Key, ResourceCache, parse_agent
from interlock.cluster.status_writer import StatusWriter
from interlock.reconcile.effective_permissions import AgentAccess, build_policy_status
from interlock.reconcile.snapshot import Unreadable
from interlock_kube.client import ApiError

_log = logging.getLogger(__name__)

REVIEW_SECONDS = 1.0
"""How long a change waits for others: a hundred Agents that come together are one write."""


class PolicyReconciler:
    """Looks at policies as the queue asks for it.

    Args:
        primaries: What is known.
        reporter: Writes the status.
        ask: Asks for a look at an agent.
    """

    def __init__(self, primaries: ResourceCache, reporter: StatusWriter, ask: Callable[[Key], None]) -> None:
        self._primaries = primaries
        self._reporter = reporter
        self._ask = ask

    async def look(self, key: Key) -> bool:
        """Write what one policy comes to, where it has changed; False asks for another try."""
        policy = self._primaries.policy(key)
        if policy is None or isinstance(policy, Unreadable):
            return True  # of one that cannot be read its agents tell
        bindings = tuple(binding for binding in self._primaries.bindings(key[0]) if isinstance(binding, MCPBinding))
        names = sorted(self._primaries.agents_under(key))
        status = build_policy_status(AgentAccess(policy, bindings), self._read(names), len(names))
        try:
            written = await self._reporter.report_policy(policy, self._primaries.policy_status(key), status)
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("access table not written", extra={"policy": "/".join(key), "error": str(error)})
            return False
        if written is not None and self._primaries.policy(key) is not None:  # else it was deleted meanwhile
            for agent in self._primaries.put_policy(written):
                self._ask(agent)  # the answer held a user's change, and the watch will bring what is known by then
        return True

    def _read(self, names: list[Key]) -> Iterator[Agent | None]:
        """Yield the agents one by one, as far as there is room for them: to parse a thousand takes a second."""
        for name in names:
            raw = self._primaries.agent(name)
            parsed = None if raw is None or raw["metadata"].get("deletionTimestamp") else parse_agent(raw)
            yield None if isinstance(parsed, Unreadable) else parsed
