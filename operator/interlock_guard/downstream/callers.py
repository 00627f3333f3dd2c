"""The check that a request for the agent's port comes from the agent's container, and from no other in its pods.

MCP servers share the guard's pod, and no NetworkPolicy holds a pod from itself. So the agent shows a key that no server
has, and a guard in a pod of its own refuses every caller of that pod. The answer is 403: to 401, MCP clients begin a
login.
"""

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from typing import Final

from aiohttp import web

from interlock_contract.agent_key import is_agent_key
from interlock_contract.exposition import Metric
from interlock_guard.downstream.exchange import to_response
from interlock_guard.downstream.replies import Reply
from interlock_guard.state import LiveState
from interlock_guard.wire.jsonrpc import REFUSED, dump_error
from interlock_http.own_pod import OwnPod

_LOG_SECONDS: Final = 60.0
"""Shortest time between two lines of the log about one reason."""


class CallerReason(StrEnum):
    """Why a caller was refused; stable words."""

    AGENT_KEY_REFUSED = "AgentKeyRefused"
    """The URL does not hold the agent's key."""
    OWN_POD = "OwnPod"
    """The caller is in the guard's own pod, and the agent is not."""
    IMAGE_CHANGED = "ImageChanged"
    """The caller's pod runs another image of the agent than the revision was Ready with, or its image is not known."""


_MESSAGES: Final = {
    CallerReason.AGENT_KEY_REFUSED: (
        "The URL does not hold the key of this agent: use the URL of this source in the file that "
        "INTERLOCK_MCP_CONFIG names."
    ),
    CallerReason.OWN_POD: "Callers in the pod of the guard are not its agent.",
    CallerReason.IMAGE_CHANGED: (
        "A tag has moved, so this pod runs another image of the agent than its revision was Ready with, or the image "
        "of this pod is not known yet. In the latter case, try again in a few seconds."
    ),
}

CALLERS_REFUSED: Final = Metric(
    "interlock_guard_callers_refused_total",
    "counter",
    "Requests on the agent's port that are not the agent's.",
    ("reason",),
)


class Callers:
    """Refuses requests that are not the agent's, and counts them. What was shown is neither logged nor recorded.

    Args:
        live: The bundle, which holds the digest of the agent's key.
        own_pod: Tells callers in the guard's own pod from others; None where the agent is in that pod.
        log: Writes a line.
        monotonic: Returns seconds that never go back.
    """

    def __init__(
        self,
        live: LiveState,
        *,
        own_pod: OwnPod | None = None,
        log: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._live, self._own_pod, self._log, self._monotonic = live, own_pod, log, monotonic
        self.refused: Counter[CallerReason] = Counter()
        self._logged: dict[CallerReason, float] = {}

    def refuse_peer(self, http: web.Request, *, by_image: bool = True) -> web.Response | None:
        """Refuse a caller in the guard's own pod, unless the agent is there too, and a pod with a changed image.

        Args:
            http: The request.
            by_image: Whether the image of the agent's pod matters.
        """
        if self._own_pod is not None and self._own_pod.has(http.remote):
            return self._refuse(CallerReason.OWN_POD)
        bundle = self._live.bundle if by_image else None
        if bundle is not None and bundle.changed_addresses and _address_of(http) in bundle.changed_addresses:
            return self._refuse(CallerReason.IMAGE_CHANGED)
        return None

    def refuse_key(self, shown: str) -> web.Response | None:
        """Refuse a request without the agent's key. Without a bundle the guard is closed, and no key is known."""
        bundle = self._live.bundle
        if bundle is None or is_agent_key(shown, bundle.agent_key_digest):
            return None
        return self._refuse(CallerReason.AGENT_KEY_REFUSED)

    def lines(self) -> list[str]:
        """Return the counts in Prometheus' text format."""
        return CALLERS_REFUSED.render_by(((reason,), self.refused[reason]) for reason in CallerReason)

    def _refuse(self, reason: CallerReason) -> web.Response:
        self.refused[reason] += 1
        now = self._monotonic()
        if reason not in self._logged or now - self._logged[reason] >= _LOG_SECONDS:
            self._logged[reason] = now
            self._log(f"{self.refused[reason]} requests on the agent's port were refused until now: {reason}")
        message = _MESSAGES[reason]
        data = {"reason": reason.value, "message": message}
        return to_response(Reply(403, dump_error(None, REFUSED, message, data)))


def _address_of(http: web.Request) -> str:
    """Return the address of a caller in its canonical form, an empty text where it has none."""
    try:
        address = ip_address((http.remote or "").partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
