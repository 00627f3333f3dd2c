"""Facts that a pod's manifest and the programs in the pod share: ports, paths, users, containers, variables.

The operator writes manifests with these constants and the programs read their defaults from them.
"""

from typing import Final

MCP_PORT: Final = 7410
"""Port for the agent: on the loopback interface in a shared pod, otherwise at the pod's own address."""
OBSERVE_PORT: Final = 7411
"""Port on every interface, for probes and metrics."""
TASK_PORT: Final = 7412
"""Port on every interface, for tasks."""
FIRST_RESERVED_PORT, LAST_RESERVED_PORT = 7410, 7419
"""Ports that no agent may listen on."""
PRE_STOP_PATH: Final = "/pre-stop"
"""Path at `OBSERVE_PORT` of the preStop hooks: answered once the guard's pod has nothing left to do."""
END_SECONDS: Final = 2
"""Seconds of a pod's grace period that are left for the end of its processes, once its preStop hooks have ended. A
kubelet gives them as many in any case, so that a pod with a shorter grace period has no hooks."""
PORT_NAMES: Final = ("mcp", "observe", "tasks")
"""Names of the guard's ports. Services and monitors that find ports by name must not find one of the agent's."""
AUDIT_PORT: Final = 7420
"""Port of the audit collector, for guards and readers."""
AUDIT_TELEMETRY_PORT: Final = 7421
"""Port of the audit collector, for probes and metrics."""

LOOPBACK: Final = "127.0.0.1"
GUARD_HOST: Final = "guard"
"""A guard's name in its agent's pod. The pod's own /etc/hosts holds the name, so no DNS is needed."""

PIPES_PATH: Final = "/run/interlock/pipes"
LAUNCHER_IN_IMAGE: Final = "/opt/interlock/launch"
"""The launcher of stdio servers in the guard's image."""
LAUNCHER_PATH: Final = "/run/interlock/launcher"
"""Folder of the launcher in the containers of stdio servers."""
SECRETS_PATH: Final = "/run/interlock/secrets"
CONFIG_PATH: Final = "/etc/interlock"
"""Where the agent finds its files, and the verifier its plan."""
TOKEN_PATH: Final = "/var/run/secrets/interlock"  # noqa: S105 - a path
SPOOL_PATH: Final = "/var/lib/interlock/spool"
JOURNAL_FOLDER: Final = "budget"
"""Folder below `SPOOL_PATH` of the journal of a guard's budget. The agent does not mount that volume."""
AUDIT_TOKEN_PATH: Final = "/var/run/secrets/interlock-audit"  # noqa: S105 - a path
TOKEN_FILE: Final = "token"  # noqa: S105 - a file's name
"""Name of the file below `TOKEN_PATH` and `AUDIT_TOKEN_PATH`."""
AUTHORITY_FILE: Final = "ca.crt"
"""Name of the file below `TOKEN_PATH` with the CA certificates of the API server."""
AUDIT_AUDIENCE: Final = "interlock-audit"
"""Audience of a guard's token for the audit collector, which refuses tokens for any other audience."""
OPERATOR_KEY_PATH: Final = "/var/run/secrets/interlock-key/key"
"""File of the operator with the key from which it derives the keys of agents."""
MODEL_KEYS_FOLDER: Final = ".models"
"""Folder below `SECRETS_PATH` with the providers' keys, next to one folder per source. No source has this name."""

SPOOL_BYTES: Final = 64 * 1024 * 1024
"""Largest size of the audit records that a guard keeps on its own disk."""

AGENT_CONTAINER: Final = "agent"
GUARD_CONTAINER: Final = "guard"
LAUNCHER_CONTAINER: Final = "launcher"
"""The init container that copies the launcher of stdio servers."""
EGRESS_CHECK_CONTAINER: Final = "egress-check"
NOTIFIER_CONTAINER: Final = "notifier"

GUARD_UID: Final = 10001
GUARD_GID: Final = 2000
"""Group of the guard and the MCP servers, for the pipes. The agent is never in it."""
AGENT_UID: Final = 10002
EGRESS_CHECK_UID: Final = 10003
LAUNCHER_UID: Final = 10004
NOTIFIER_UID: Final = 10005
FIRST_SERVER_UID: Final = 10010
FIRST_RESERVED_ID, LAST_RESERVED_ID = 10000, 10099
"""Users and groups that no template may ask for, as `GUARD_GID`: those of the containers above."""

RESERVED_PREFIX: Final = "INTERLOCK_"
"""Beginning of every variable that Interlock sets. No agent and no server may set such a variable itself."""
AGENT_VARIABLE: Final = "INTERLOCK_AGENT"
NAMESPACE_VARIABLE: Final = "INTERLOCK_NAMESPACE"
POD_VARIABLE: Final = "INTERLOCK_POD"
POD_UID_VARIABLE: Final = "INTERLOCK_POD_UID"
"""UID of the guard's pod, with which the names of the holders of its budget begin."""
BUNDLE_VARIABLE: Final = "INTERLOCK_BUNDLE"
"""Name of the ConfigMap that holds the guard's bundle."""
MODEL_REQUEST_VARIABLE: Final = "INTERLOCK_MODEL_REQUEST_BYTES"
"""Variable of the guard's container: the largest body of a call of a model in bytes, which its memory allows."""
GRACE_VARIABLE: Final = "INTERLOCK_GRACE_SECONDS"
"""Variable of the guard's container: the grace period of its pod in seconds, where it is longer than `END_SECONDS`."""
AUDIT_URL_VARIABLE: Final = "INTERLOCK_AUDIT_URL"
LISTEN_VARIABLE: Final = "INTERLOCK_LISTEN"
"""Address at which the guard serves the agent, in a pod of its own."""
HOST_VARIABLE: Final = "INTERLOCK_HOST"
"""Name by which the agent calls the guard, in a pod of its own."""
AGENT_HOST_VARIABLE: Final = "INTERLOCK_AGENT_HOST"
"""Name at which the guard finds the agent, in a pod of its own."""
SOURCE_VARIABLE: Final = "INTERLOCK_SOURCE"
"""Source whose pipes the verifier's init container makes."""
RESULT_VARIABLE: Final = "INTERLOCK_RESULT"
"""Name of the ConfigMap that the verifier writes its result to."""
LEDGERS_VARIABLE: Final = "INTERLOCK_LEDGERS"
"""Label selector of the BudgetLedgers whose alerts the notifier posts."""
RECORD_VARIABLE: Final = "INTERLOCK_RECORD"
"""Name of the ConfigMap in which the notifier records what it has delivered."""
WEBHOOKS_VARIABLE: Final = "INTERLOCK_WEBHOOKS"
"""The webhooks that the notifier posts to, as a document of `interlock_contract.webhooks`."""

GUARD_URL_VARIABLE: Final = "INTERLOCK_GUARD_URL"
EGRESS_CHECK_VARIABLE: Final = "INTERLOCK_EGRESS_CHECK"
"""`EGRESS_CHECK_REQUIRE` or `EGRESS_CHECK_REPORT`."""
EGRESS_CHECK_CLOSED_VARIABLE: Final = "INTERLOCK_EGRESS_CHECK_CLOSED"
"""Addresses with ports that must be closed, separated by spaces."""
EGRESS_CHECK_OPEN_VARIABLE: Final = "INTERLOCK_EGRESS_CHECK_OPEN"
"""What rows of egress open, as far as it can be tried: addresses with ports, and `EGRESS_CHECK_DNS` for the cluster's
DNS, separated by spaces. Without that word the DNS must be closed."""
EGRESS_CHECK_DNS: Final = "dns"
EGRESS_CHECK_DNS_UNTRIED: Final = "dns-untried"
"""A word of `EGRESS_CHECK_OPEN_VARIABLE`: a row may open the cluster's DNS, so that it need not be closed."""
EGRESS_CHECK_NODE_VARIABLE: Final = "INTERLOCK_EGRESS_CHECK_NODE"
"""Address of the pod's node, whose kubelet is tried at the end."""
EGRESS_CHECK_REQUIRE: Final = "Require"
"""An open network keeps the agent from starting."""
EGRESS_CHECK_REPORT: Final = "Report"
"""An open network is only reported."""
NETWORK_OPEN: Final = 3
"""Exit code of the egress check: an address answers that no policy allows."""
OPEN_MESSAGE: Final = "open:"
"""Beginning of the egress check's termination message where the network is open, whatever its exit code."""
UNANSWERED_MESSAGE: Final = "unanswered:"
"""Beginning of a line of its termination message where it passed, and something that rows open did not answer."""
NODE_MESSAGE: Final = "node:"
"""Beginning of a line of its termination message where it passed, and the kubelet of the pod's node answered."""
