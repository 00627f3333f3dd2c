"""The state of the Agent as the guard knows it: one frozen value, and the one holder that replaces it at each event."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from interlock_contract.bundle import Bundle, digest, parse_bundle, read_bundle_digests
from interlock_contract.kill import KillLatch, observe
from interlock_contract.strict_fields import BundleInvalid

Watched = Literal["agent", "bundle"]

LEASE_SECONDS: Final = 30.0
"""How long the guard goes on without contact to the API server."""
UNVERIFIED: Final = "The guard has not tested this policy on itself yet."
"""The reason of every bundle that has just arrived."""


@dataclass(frozen=True, slots=True)
class State:
    """The guard's knowledge at one instant; the default knows nothing and so opens nothing.

    `agent_uid` is None until the Agent was seen, and again once it is gone (`agent_gone`). `contact_at` is the time on
    the monotonic clock up to which everything watched is known to be fresh; None until each object was read once.
    `unverified_reason` is why a readable bundle may not be enforced; empty once the self-test has passed.
    `is_unconfirmed` is True while the bundle that was read is none that the status of the Agent names. `pod` is the
    name of the guard's own pod.
    """

    agent_uid: str | None = None
    agent_gone: bool = False
    kill: KillLatch = field(default_factory=KillLatch)
    contact_at: float | None = None
    lease_seconds: float = LEASE_SECONDS
    unverified_reason: str = ""
    is_unconfirmed: bool = False
    pod: str = ""


class LiveState:
    """Holds the current state and bundle; each event replaces them and runs the reactions, in their order.

    A bundle is in force only while the status of the Agent names its digest. Many people may write ConfigMaps, but only
    the operator writes the status. So a forged or an earlier bundle is not obeyed.

    Status and ConfigMap come by two watches. A status that names only the next bundle may come first. The bundle in
    force then stays until `read_bundle` has brought the ConfigMap, or `end_grace` is called:

        status [b]       ConfigMap b   b is in force
        status [c]                     b is in force, read_bundle() is called
                         ConfigMap c   c is in force
        end_grace()                    c is in force; no bundle is, where ConfigMap c did not come
    """

    def __init__(
        self, *, lease_seconds: float = LEASE_SECONDS, log: Callable[[str], None] = lambda _: None, pod: str = ""
    ) -> None:
        self.state = State(lease_seconds=lease_seconds, pod=pod)
        self.bundle: Bundle | None = None
        self.digest = ""
        """Of the bundle's text; empty without a bundle in force."""
        self.reactions: Sequence[Callable[[], None]] = ()
        """Called one after the other at each change, before the next event is handled."""
        self.read_bundle: Callable[[], None] | None = None
        """Starts a read of the ConfigMap that ends with `end_grace`. Without it there is no grace."""
        self._text: str | None = None
        """The ConfigMap's text as it was read last."""
        self._named: frozenset[str] = frozenset()
        """The digests in the Agent's status."""
        self._parsed = ""
        """Digest of the text that was parsed last, whether that succeeded or not."""
        self._contacts: dict[Watched, float] = {}
        self._log = log

    def handle_agent(self, agent: Mapping[str, Any] | None) -> None:
        """Handle the Agent object as the API server has it now; None if there is none.

        An Agent that is being deleted is gone: a finalizer may keep its object for ever.
        """
        if agent is None or "deletionTimestamp" in agent.get("metadata", {}):
            self.state = replace(self.state, agent_uid=None, agent_gone=True)
        else:
            metadata, status = agent.get("metadata", {}), agent.get("status")
            uid = str(metadata.get("uid"))
            latch = observe(self.state.kill, metadata.get("annotations"), status)
            self.state = replace(self.state, agent_uid=uid, agent_gone=False, kill=latch)
            self._named = read_bundle_digests(status)
            self._choose_bundle()
            if self._is_in_grace() and self.read_bundle is not None:
                self.read_bundle()
        self._react()

    def handle_bundle(self, text: str | None) -> None:
        """Handle the bundle's text; without one the guard is closed.

        A valid bundle is unverified until the self-test, one of the reactions, has passed.
        """
        self._text = text
        if text is not None and self.bundle is not None and digest(text) == self.digest:
            return  # the list that follows each watch returns it again
        self._choose_bundle()
        self._react()

    def end_grace(self) -> None:
        """Drop the bundle in force if the status does not name it: the ConfigMap was read again, or cannot be."""
        self._choose_bundle(has_grace=False)
        self._react()

    def _choose_bundle(self, *, has_grace: bool = True) -> None:
        """Put the text into force if the status names it.

        A text that the status does not name changes nothing while the status names the bundle in force, or until the
        ConfigMap was read again. A status that names no bundle at all leaves none in force. The status of a later Agent
        of the same name says nothing about a bundle that was made for an earlier one. Nor does a status that was not
        read yet: at a guard's start either object may come first.
        """
        read = "" if self._text is None else digest(self._text)
        if self._text is not None and read in self._named:
            if read != self._parsed:
                self._parse(self._text, read)
            is_unconfirmed = False
        elif self._text is not None and (
            self.digest in self._named or self._is_of_another_agent() or (has_grace and self._is_in_grace())
        ):
            return
        else:
            self.bundle, self.digest, self._parsed = None, "", ""
            is_unconfirmed = self._text is not None and self._has_read_agent()
        if is_unconfirmed and not self.state.is_unconfirmed:
            self._log(f"bundle {read} is not obeyed: the status of the Agent does not name it")
        self.state = replace(self.state, is_unconfirmed=is_unconfirmed)

    def _is_in_grace(self) -> bool:
        """Return True if the status names other bundles than the one in force, and a read may bring one of them."""
        is_other_named = bool(self._named) and self.digest not in self._named
        return self.bundle is not None and is_other_named and self.read_bundle is not None

    def _has_read_agent(self) -> bool:
        return self.state.agent_uid is not None or self.state.agent_gone

    def _is_of_another_agent(self) -> bool:
        return self.bundle is not None and self.bundle.agent.uid != self.state.agent_uid

    def _parse(self, text: str, read: str) -> None:
        self.bundle, self.digest, self._parsed = None, "", read
        try:
            self.bundle = parse_bundle(text)
        except BundleInvalid as error:
            self._log(f"bundle refused: {error}")
        else:
            self.digest = read
            self.state = replace(self.state, unverified_reason=UNVERIFIED)

    def set_unverified_reason(self, reason: str) -> None:
        """Note the result of the bundle's self-test: why it may not be enforced, or an empty text."""
        if reason and reason != self.state.unverified_reason:
            self._log(f"bundle {self.digest} is not enforced: {reason}")
        self.state = replace(self.state, unverified_reason=reason)

    def record_contact(self, watched: Watched, at: float) -> None:
        """Note that one watched object was read from the API server at `at`, in seconds on the monotonic clock."""
        self._contacts[watched] = at
        if len(self._contacts) == 2:  # noqa: PLR2004 - both kinds of Watched
            self.state = replace(self.state, contact_at=min(self._contacts.values()))
            if self.state.unverified_reason:  # a self-test that failed without contact can pass now
                self._react()

    def _react(self) -> None:
        for reaction in self.reactions:
            reaction()
