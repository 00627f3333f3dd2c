"""The names of BudgetLedgers: DNS names, and no two ledgers of a namespace have the same one.

A ledger of an agent has exactly one dot, because names of agents and environments are DNS labels. That of a policy ends
with `.total`, and no environment has that name. A digest stands for a policy's name that is too long. Such a name has
two dots and does not end with `.total`.
"""

import hashlib
from typing import Final

TOTAL: Final = "total"
"""The name that no environment may have."""
_HASHED: Final = ".policy.total-ledger"
_MAX_NAME: Final = 253
"""Most characters of an object's name."""


def ledger_name(agent: str, environment: str) -> str:
    """Return the name of the ledger of one agent in one environment.

    Args:
        agent: Its name, a DNS label.
        environment: Name of the environment, a DNS label other than `total`.

    Raises:
        ValueError: The environment is called `total`, or a name has a dot.
    """
    if environment == TOTAL or "." in agent or "." in environment:
        raise ValueError(f"no ledger for the agent {agent!r} in the environment {environment!r}")
    return f"{agent}.{environment}"


def total_ledger_name(policy: str) -> str:
    """Return the name of the ledger of all agents of one policy.

    Args:
        policy: Name of the AgentPolicy, a DNS subdomain.
    """
    name = f"{policy}.{TOTAL}"
    if len(name) <= _MAX_NAME:
        return name
    return f"{hashlib.sha256(policy.encode()).hexdigest()[:40]}{_HASHED}"
