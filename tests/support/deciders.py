"""The decider of a reconciler of Agents in tests: it stores revisions through the client of the test."""

from typing import Any

from interlock.cluster.applier import Applier
from interlock.cluster.revision_store import RevisionStore
from interlock.runtime.agent_decision import AgentDecider
from interlock.runtime.guard_updates import GuardUpdates
from interlock.runtime.rollout_limiter import RolloutLimiter
from interlock.runtime.snapshot_reader import SnapshotReader
from interlock.settings import OperatorSettings
from interlock_contract.clock import monotonic
from interlock_kube.installed_policies import InstalledPolicies


def a_decider(client: Any, reader: SnapshotReader, applier: Applier) -> AgentDecider:
    """Return a decider with a store of revisions."""
    revisions = RevisionStore(client)
    reader.revisions_of = revisions.known
    limiter = RolloutLimiter(lambda _: set(), reader.status, lambda _: None)
    updates = GuardUpdates(set, reader.status, lambda _: None, lambda *_: None, OperatorSettings(), b"")
    decider = AgentDecider(reader, applier, revisions, InstalledPolicies(client, monotonic), client, limiter, updates)
    reader.may_update = lambda _: ""
    return decider
