"""The guard's decision about one request: pure, and a denial wherever something is missing, stale or unknown.

The names below are the package's public interface. The operator runs `decide` for the effective permissions.
"""

from interlock_guard.decision.decide import TOOLS_CALL, DecisionInput, Deny, decide
from interlock_guard.state import State

__all__ = ["TOOLS_CALL", "DecisionInput", "Deny", "State", "decide"]
