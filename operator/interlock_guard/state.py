"""What the guard knows of its Agent, as one frozen value, and the one holder that replaces it at each event."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from interlock_contract.bundle import Bundle, digest, parse_bundle
from interlock_contract.kill import KillLatch, observe
from interlock_contract.strict_fields import BundleInvalid

Watched = Literal["agent", "bundle"]

LEASE_SECONDS: Final = 30.0
"""How long the guard goes on without contact to the API server."""
UNPROVEN: Final = "The guard has not proven this policy on itself yet."
"""The doubt about every bundle that has just come in."""


@dataclass(frozen=True, slots=True)
class State:
    """The guard's knowledge at one instant; the default knows nothing and so opens nothing.

    `agent_uid` is None until the Agent was seen, and again once it is gone (`agent_gone`). `contact_at` is the time on
    the monotonic clock up to which everything watched is known to be fresh; None until all of it was heard of.
    `doubt` is why the bundle may not be obeyed although it can be read; empty once the guard has proven it on itself.
    """

    agent_uid: str | None = None
    agent_gone: bool = False
    kill: KillLatch = field(default_factory=KillLatch)
    contact_at: float | None = None
    lease_seconds: float = LEASE_SECONDS
    doubt: str = ""


class LiveState:
    """Holds the current state and bundle; each event replaces them and runs the reactions, in their order."""

    def __init__(self, *, lease_seconds: float = LEASE_SECONDS, log: Callable[[str], None] = lambda _: None) -> None:
        self.state = State(lease_seconds=lease_seconds)
        self.bundle: Bundle | None = None
        self.digest = ""
        """Of the bundle's text; empty without a bundle that can be read."""
        self.reactions: Sequence[Callable[[], None]] = ()
        """Called one after the other at each change, before the next event is handled."""
        self._contacts: dict[Watched, float] = {}
        self._log = log

    def see_agent(self, agent: Mapping[str, Any] | None) -> None:
        """Take in the Agent object as the API server has it now; None when there is none."""
        if agent is None:
            self.state = replace(self.state, agent_uid=None, agent_gone=True)
        else:
            metadata = agent.get("metadata", {})
            uid = str(metadata.get("uid"))
            latch = observe(self.state.kill, metadata.get("annotations"), agent.get("status"))
            self.state = replace(self.state, agent_uid=uid, agent_gone=False, kill=latch)
        self._react()

    def see_bundle(self, text: str | None) -> None:
        """Take in the bundle's text; one that is missing or invalid leaves the guard without a bundle, closed.

        One that can be read is in doubt until a listener settles that.
        """
        if text is not None and self.bundle is not None and digest(text) == self.digest:
            return  # the list that follows each watch brings it again
        self.bundle, self.digest = None, ""
        if text is not None:
            try:
                self.bundle = parse_bundle(text)
            except BundleInvalid as error:
                self._log(f"bundle refused: {error}")
            else:
                self.digest = digest(text)
                self.state = replace(self.state, doubt=UNPROVEN)
        self._react()

    def settle(self, doubt: str) -> None:
        """Take in what the proof of the bundle came to: why it may not be obeyed, or nothing."""
        if doubt and doubt != self.state.doubt:
            self._log(f"bundle {self.digest} is not obeyed: {doubt}")
        self.state = replace(self.state, doubt=doubt)

    def hear(self, watched: Watched, at: float) -> None:
        """Note that the API server has spoken about one of the watched objects at `at`, so that it is fresh."""
        self._contacts[watched] = at
        if len(self._contacts) == 2:  # noqa: PLR2004 - both kinds of Watched
            self.state = replace(self.state, contact_at=min(self._contacts.values()))
            if self.state.doubt:  # what could not be proven while out of contact can be now
                self._react()

    def _react(self) -> None:
        for reaction in self.reactions:
            reaction()
