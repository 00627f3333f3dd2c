"""What a guard and its pod agree on: ports, paths, audiences and exit codes."""

from typing import Final

NETWORK_OPEN: Final = 3
"""Exit code: something answers that no policy allows."""
OPEN_MESSAGE: Final = "open:"
"""What the termination message begins with where the network is open, whatever becomes of it."""


MCP_PORT = 7410  # for the agent alone: on loopback in a shared pod, else at the pod's own address
OBSERVE_PORT = 7411
TASK_PORT = 7412
GUARD_HOST = "guard"
"""A guard's name in the pod of its agent: it stands in the pod's own /etc/hosts, so no DNS is needed."""
PIPES_PATH = "/run/interlock/pipes"
TOKEN_PATH = "/var/run/secrets/interlock"  # noqa: S105 - a path
SPOOL_PATH = "/var/lib/interlock/spool"
AUDIT_TOKEN_PATH = "/var/run/secrets/interlock-audit"  # noqa: S105 - a path
AUDIT_AUDIENCE = "interlock-audit"
