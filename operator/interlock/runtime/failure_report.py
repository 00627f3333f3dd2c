"""The report of a failed reconcile on the object itself, so that `kubectl describe` shows it.

An Agent has `Deployed=False` and `Ready=False` with reason `ReconcileError`. AgentPolicies and MCPBindings have the
condition `ReconcileFailed=True`, which the next reconcile that succeeds removes: their other conditions stay as they
are, since Agents go by them.
"""

from collections.abc import Callable
from datetime import datetime

from interlock.api.shared_types import ObjectMeta
from interlock.api.status import RECONCILE_FAILED, AgentReason, AgentStatus, Condition
from interlock.api.stored_status import read_agent_status
from interlock.cluster.applier import ApplyFailed
from interlock.cluster.kept_metadata import has_changed
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.status_writer import StatusWriter
from interlock.reconcile.agent_status import with_failure
from interlock.reconcile.conditions import Finding, build_condition
from interlock.reconcile.snapshot import Unreadable
from interlock_contract.names import OPERATOR_NAMESPACE
from interlock_kube.client import Json
from interlock_kube.reconcile_loop import BACKOFF_SECONDS, Cause, cause_of, location_of
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING, Key, ResourceType


class FailureReporter:
    """Writes failures to the status of Agents, AgentPolicies and MCPBindings.

    Defects of the operator and refused children are shown. Other failures are those of reading or writing the status
    itself, or of the connection: an API server that fails there takes no condition either.

    Args:
        cache: The objects that users apply.
        writer: Writes the conditions.
        clock: Returns the time.
        wake_agent: Enqueues an Agent and its ledgers.
        handle_answer: Handles the answer to a write of another status, see `Router.handle_answer`.
    """

    def __init__(
        self,
        cache: ResourceCache,
        writer: StatusWriter,
        clock: Callable[[], datetime],
        wake_agent: Callable[[Key], None],
        handle_answer: Callable[[ResourceType, Json], object],
    ) -> None:
        self._cache = cache
        self._writer = writer
        self._clock = clock
        self._wake_agent = wake_agent
        self._handle_answer = handle_answer

    async def show_on_agent(self, key: Key, error: Exception) -> None:
        """Show a failure on an Agent; a refused child is shown already, by the reconcile itself."""
        raw = self._cache.agent(key)
        if raw is None or cause_of(error) is not Cause.DEFECT:
            return
        metadata = ObjectMeta.model_validate(raw["metadata"])
        status = read_agent_status(raw.get("status")) or AgentStatus()
        message = describe_failure("Agent", error)
        failed = with_failure(
            status, AgentReason.RECONCILE_ERROR, message, status.conditions, metadata.generation, self._clock()
        )
        written = await self._writer.write_conditions(AGENT, key, status.conditions, failed.conditions)
        if written is not None and self._cache.agent(key) is not None:
            self._cache.put_agent(written)
            if has_changed(metadata, written):
                self._wake_agent(key)

    async def show_on_policy(self, key: Key, error: Exception) -> None:
        """Show a failure on an AgentPolicy."""
        policy, status = self._cache.policy(key), self._cache.policy_status(key)
        if policy is None or isinstance(policy, Unreadable):
            return
        known = status.conditions if status else ()
        written = await self._show(AGENT_POLICY, key, policy.metadata.generation, known, error)
        if written is not None:
            self._handle_answer(AGENT_POLICY, written)

    async def show_on_binding(self, key: Key, error: Exception) -> None:
        """Show a failure on an MCPBinding."""
        binding = self._cache.binding(key)
        if binding is None or isinstance(binding, Unreadable):
            return
        known = binding.status.conditions if binding.status else ()
        written = await self._show(MCP_BINDING, key, binding.metadata.generation, known, error)
        if written is not None:
            self._handle_answer(MCP_BINDING, written)

    async def _show(
        self, kind: ResourceType, key: Key, generation: int, known: tuple[Condition, ...], error: Exception
    ) -> Json | None:
        """Write the condition ReconcileFailed; return the object as the API server has it then, if it was written."""
        if cause_of(error) not in (Cause.DEFECT, Cause.TOO_COSTLY) and not isinstance(error, ApplyFailed):
            return None
        finding = Finding(RECONCILE_FAILED, "True", AgentReason.RECONCILE_ERROR, describe_failure(kind.kind, error))
        others = tuple(one for one in known if one.type != RECONCILE_FAILED)
        conditions = (*others, build_condition(finding, generation, known, self._clock()))
        return await self._writer.write_conditions(kind, key, known, conditions)


def describe_failure(kind: str, error: Exception) -> str:
    """Return the condition's message; the same failure has the same message, so that it is written once."""
    if cause_of(error) is Cause.DEFECT:
        # The text of an exception may quote what a user wrote, secrets included: it is in the log alone.
        because = f"of a defect of the operator ({type(error).__name__} at {location_of(error)})"
    elif cause_of(error) is Cause.TOO_COSTLY:
        because = f"its computation was stopped: {error}; use fewer Agents, rows, sources or resources"
    elif isinstance(error, ApplyFailed) and error.reason is AgentReason.NAME_TAKEN:
        because = str(error)
    else:
        because = f"the API server refused {str(error)[:500]}"
    return (
        f"the operator could not reconcile this {kind} because {because}, and retries within "
        f"{BACKOFF_SECONDS[-1]:.0f} s; run: kubectl -n {OPERATOR_NAMESPACE} logs deploy/interlock"
    )
