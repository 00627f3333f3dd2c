"""Obey no bundle before it has been proven here: the guard puts synthetic calls to its own gate.

This happens within the event that brings the bundle, so that no request is decided on in between. A bundle that has a
flaw, one of a guard that would let pass what it says must not, closes the guard.
"""

from collections.abc import Callable
from dataclasses import replace

from interlock_guard.decision.decide import Decision, Request, check_open
from interlock_guard.proof.attestation import Attestation
from interlock_guard.proof.cases import prove
from interlock_guard.state import LiveState, State

Judge = Callable[[Request, State], Decision]


class SelfProof:
    """Settles the doubt about each bundle, and has it told what came of it."""

    def __init__(
        self, live: LiveState, judge: Judge, monotonic: Callable[[], float], tell: Callable[[Attestation], None]
    ) -> None:
        self._live, self._judge, self._monotonic, self._tell = live, judge, monotonic, tell
        live.listeners.append(self.follow)

    def follow(self) -> None:
        """Prove the bundle that is in doubt; while the guard is closed for another reason nothing can be proven."""
        live = self._live
        certain = replace(live.state, doubt="")
        if live.bundle is None or not live.state.doubt:
            return
        if check_open(live.bundle, certain, self._monotonic()) is not None:
            return
        proof = prove(live.bundle, lambda request: self._judge(request, certain))
        live.settle(proof.flaw)
        self._tell(Attestation(live.digest, proof.calls, proof.flaw))
