"""The loop breaker: refuses calls that are repeated too often, as the bundle says, and reports those that kill.

Only calls that are allowed otherwise count. Each guard counts by itself, in memory: a restart forgets.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.loops import BundleLoops, LoopReport
from interlock_guard.decision.decide import TOOLS_CALL, Allow, Decision, DecisionInput, Deny, DenyReason
from interlock_guard.decision.loops import LoopDetector
from interlock_guard.state import LiveState

SAMPLING: Final = "sampling/createMessage"
_NOT_ASKED: Final = frozenset({"_meta", "maxTokens", "metadata", "modelPreferences", "stopSequences", "temperature"})
"""Parameters of sampling that say how the answer is made, and not what is asked."""
RULE: Final = "agentpolicy/loops"
"""What would have to change for a call that is a loop."""


class LoopBreaker:
    """Counts the calls of one guard.

    Args:
        live: The bundle in force.
        monotonic: Seconds on a clock that never goes back.
        clock: The time of day, for reports.
        on_kill: Called once for each loop for which the policy has the agent killed.
    """

    def __init__(
        self,
        live: LiveState,
        *,
        monotonic: Callable[[], float],
        clock: Callable[[], datetime],
        on_kill: Callable[[LoopReport], None],
    ) -> None:
        self._live, self._monotonic, self._clock, self._on_kill = live, monotonic, clock, on_kill
        self._terms: BundleLoops | None = None
        self._detector: LoopDetector | None = None

    @property
    def is_on(self) -> bool:
        """Whether the bundle in force limits identical calls."""
        return self._live.bundle is not None and self._live.bundle.loops is not None

    def check_tool(self, request: DecisionInput, decision: Decision) -> Decision:
        """Count a call of a tool that is allowed otherwise; return the denial if it is a loop, else the decision.

        The arguments are digested unless they were already.
        """
        if request.method != TOOLS_CALL or not self.is_on or not isinstance(decision, Allow):
            return decision
        if request.arguments_digest is None:
            request.arguments_digest = digest_of(canonicalize(request.arguments or {}))
        denial = self._check(f"{request.source}/{request.tool}", request.arguments_digest, "arguments")
        return decision if denial is None else replace(denial, tool=decision.tool)

    def check_sampling(self, source: str, method: str, params: Mapping[str, Any], decision: Decision) -> Decision:
        """Count a server's request that the agent asks a model; return the denial if it is a loop, else the decision.

        Args:
            source: Whose server it is.
            method: Another one than that of sampling does not count.
            params: The request's parameters.
            decision: The decision on it so far.
        """
        if method != SAMPLING or not self.is_on or not isinstance(decision, Allow):
            return decision
        asked = {name: value for name, value in params.items() if name not in _NOT_ASKED}
        denial = self._check(f"{source}/{method}", digest_of(canonicalize(asked)), "prompt")
        return decision if denial is None else denial

    def check_prompt(self, request: DecisionInput, prompt_digest: str) -> Deny | None:
        """Count a call of a model that is allowed otherwise; return the denial if it is a loop.

        Args:
            request: The call.
            prompt_digest: Of its body without what does not change the question.
        """
        return self._check(request.model or "", f"{request.method} {prompt_digest}", "prompt")

    def _check(self, called: str, digest: str, what: str) -> Deny | None:
        bundle, now = self._live.bundle, self._monotonic()
        terms = None if bundle is None else bundle.loops
        if terms is None:
            self._terms = self._detector = None
            return None
        if self._detector is None or terms != self._terms:
            self._terms, self._detector = terms, LoopDetector(terms.identical_calls, terms.window_seconds)
        key = hashlib.sha256(f"{what}\0{called}\0{digest}".encode()).digest()[:16]
        loop = self._detector.count(key, now)
        if loop is None:
            return None
        if loop.is_new and terms.action == "Kill":
            evidence = digest if what == "arguments" else ""  # nothing of prompts is recorded anywhere
            self._on_kill(LoopReport(called, loop.calls, terms.window_seconds, evidence, self._clock()))
        return Deny(DenyReason.LOOP_DETECTED, RULE, _explain(terms, loop.calls, what))


def _explain(terms: BundleLoops, calls: int, what: str) -> str:
    seconds = terms.window_seconds
    found = f"This call was made {calls} times in {seconds} s with the same {what}, which is a loop."
    if terms.action == "Kill":
        return f"{found} The policy has the agent killed for it."
    return f"{found} Do something else: the same call passes again after {seconds} s without it."
