"""The environment variables that programs read, as the programs themselves read them, and their meanings."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from typing_extensions import override

from interlock_audit.settings import read_settings as read_collector
from interlock_contract.environment import require
from interlock_contract.pod import EGRESS_CHECK_CLOSED_VARIABLE, GUARD_URL_VARIABLE, SOURCE_VARIABLE, WEBHOOKS_VARIABLE
from interlock_contract.webhooks import Webhook, WebhookPlan, dump_webhooks
from interlock_guard.egress_check import read_settings as read_egress_check
from interlock_guard.settings import read_settings as read_guard
from interlock_guard.verification.program import read_verify_settings
from interlock_kill.__main__ import Settings as KillSettings
from interlock_notify.settings import read_settings as read_notifier

_PREFIX: Final = "INTERLOCK_"
_SET_IN_PODS: Final = {
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    GUARD_URL_VARIABLE: "http://127.0.0.1:7411",
    EGRESS_CHECK_CLOSED_VARIABLE: "127.0.0.1:443",
    WEBHOOKS_VARIABLE: dump_webhooks(WebhookPlan(1, "x", (Webhook("x", "0", "Public", "Slack"),))),
}
"""Values without which a program does not start, and which have to have a form."""

_OPTIONAL: Final = (
    "INTERLOCK_API_SERVER",
    "INTERLOCK_AUDIT_URL",
    "INTERLOCK_DIALABLE",
    "INTERLOCK_EGRESS_CHECK_NODE",
    "INTERLOCK_EGRESS_CHECK_OPEN",
    "INTERLOCK_HOST",
    "INTERLOCK_KUBECONFIG",
    "INTERLOCK_OWN_POD_EXEMPT",
    "INTERLOCK_POSTGRES",
)
"""Variables whose default is empty."""

AGENT: Final[dict[str, str]] = {
    "INTERLOCK_AGENT": "Name of the Agent.",
    "INTERLOCK_ENVIRONMENT": "Environment of the stage.",
    "INTERLOCK_STAGE": "Name of the stage.",
    "INTERLOCK_SCOPE": "Scope of the stage at the start of the container, as JSON: "
    '`[{"dimension":"region","values":["eu-west"]}]`, `[]` for all.',
    "INTERLOCK_SCOPE_FILE": 'Path of a file with the scope of today as JSON: `{"scope":[...],"excluded":[[...]]}`. '
    "Other placements of the agent serve the scopes in `excluded`, of which `[]` is all work. The kubelet updates it "
    "within about a minute, without a restart. The guard enforces a change immediately.",
    "INTERLOCK_MCP_CONFIG": "Path of the `mcpServers` file, which names the guard's URL for each source.",
    "INTERLOCK_FILES": "Folder with the files of `spec.files`.",
}
"""What the operator sets in the agent's container, and its meaning."""
STAGE_TEST: Final[dict[str, str]] = {
    "INTERLOCK_TASK_URL": "URL at which the stage takes tasks, the only one that the test reaches.",
}
"""What the operator sets in the container of a stage's test."""


def _read_verification(environment: Mapping[str, str]) -> tuple[object, str]:
    """Read what the verifier reads, and the init containers that make its pipes."""
    return read_verify_settings(environment), require(environment, SOURCE_VARIABLE)


PROGRAMS: Final[dict[str, Callable[[Mapping[str, str]], Any]]] = {
    "Kill controller": KillSettings.read,
    "Collector": read_collector,
    "Guard": read_guard,
    "Notifier": read_notifier,
    "Verification": _read_verification,
    "Egress check": read_egress_check,
}
"""The programs with settings of their own, each with the reader of its environment."""

MEANINGS: Final[dict[str, str]] = {
    "INTERLOCK_AGENT": "Name of the Agent.",
    "INTERLOCK_AGENT_HOST": "Where the agent listens for tasks.",
    "INTERLOCK_AGENT_QUOTA_BYTES": "Bytes that the records of one agent may take, 0 for no quota.",
    "INTERLOCK_API_SERVER": "URL of the API server with `https://`. By default the one that Kubernetes names in a pod.",
    "INTERLOCK_AUDIT_TOKEN": "File with the token for the collector.",
    "INTERLOCK_AUDIT_URL": "Where the guard sends audit records. If empty, it keeps them.",
    "INTERLOCK_BUNDLE": "Name of the ConfigMap with the bundle.",
    "INTERLOCK_CREDENTIALS": "Folder with the token for the API server, and its CA certificate.",
    "INTERLOCK_DIALABLE": "Addresses that are dialled although no binding or webhook allows them. For tests alone.",
    "INTERLOCK_EGRESS_CHECK": "`Require` ends with an error while the network is open, `Report` only says so.",
    "INTERLOCK_EGRESS_CHECK_CLOSED": "Addresses that must be closed, next to the API server.",
    "INTERLOCK_EGRESS_CHECK_MESSAGE": "File for the result, which Kubernetes shows in the pod's status.",
    "INTERLOCK_EGRESS_CHECK_NODE": "Address of the pod's node. If its kubelet answers, that is only reported.",
    "INTERLOCK_EGRESS_CHECK_OPEN": "Addresses that rows of `egress` open, and `dns` if they open the cluster's DNS.",
    "INTERLOCK_GUARD_URL": "URL of the guard, which must answer.",
    "INTERLOCK_HOST": "The name by which the agent calls the guard, empty on loopback.",
    "INTERLOCK_KEEP_DAYS": "Days for which a record is stored after its receipt, 0 for ever.",
    "INTERLOCK_KUBECONFIG": "A kubeconfig file. Without one, the ServiceAccount of the pod.",
    "INTERLOCK_LEASE_SECONDS": "Seconds for which a guard decides on requests without an answer of the API server.",
    "INTERLOCK_LEDGERS": "Label selector of the BudgetLedgers whose alerts are posted.",
    "INTERLOCK_LISTEN": "The address at which the agent is served.",
    "INTERLOCK_LOG_LEVEL": "The lowest level that is logged.",
    "INTERLOCK_MCP_PORT": "Port for the agent.",
    "INTERLOCK_GRACE_SECONDS": "Grace period of the pod in seconds. From 3 on, the preStop hook waits for tasks.",
    "INTERLOCK_MODEL_REQUEST_BYTES": "Most bytes of the body of a request to a model.",
    "INTERLOCK_NAMESPACE": "Namespace of the objects. For the kill controller, that of the operator.",
    "INTERLOCK_NAMESPACE_QUOTA_BYTES": "Bytes that the records of all agents of a namespace may take, 0 for no quota.",
    "INTERLOCK_OBSERVE_PORT": "Port for probes and metrics.",
    "INTERLOCK_OWN_POD_EXEMPT": "Addresses of the guard's own pod that may call it. For tests alone.",
    "INTERLOCK_PIPES": "Folder with the pipes to stdio servers.",
    "INTERLOCK_PLAN": "Folder with the plan of the verification.",
    "INTERLOCK_POD": "Name of the pod.",
    "INTERLOCK_POD_UID": "UID of the pod. Without it the guard spends no money of a budget.",
    "INTERLOCK_PORT": "Port for guards and readers.",
    "INTERLOCK_POSTGRES": "A connection string of libpq. If set, records are in PostgreSQL.",
    "INTERLOCK_RECORD": "Name of the ConfigMap that records which alerts were delivered.",
    "INTERLOCK_RESULT": "Name of the ConfigMap for the result.",
    "INTERLOCK_SECRETS": "Folder with the Secrets of MCP servers and models, or of webhooks.",
    "INTERLOCK_SOURCE": "The source whose pipes an init container makes.",
    "INTERLOCK_SPOOL": "Folder for records that the collector has not confirmed.",
    "INTERLOCK_SPOOL_BYTES": "Most bytes of these records.",
    "INTERLOCK_SQLITE": "The SQLite file.",
    "INTERLOCK_TASK_PORT": "Port for tasks.",
    "INTERLOCK_TELEMETRY_PORT": "Port for probes and metrics. With 0, a free one.",
    "INTERLOCK_WEBHOOKS": "The webhooks of the AgentPolicy as JSON, without their secrets.",
}
"""One sentence a variable, whichever program reads it."""


class _Recorder(Mapping[str, str]):
    """An environment that notes each variable that is read, with its default."""

    def __init__(self) -> None:
        self.read: dict[str, str] = {}

    @override
    def get(self, name: str, default: Any = "") -> Any:
        """Note the variable; return a value with which the program would start."""
        self.read.setdefault(name, str(default))
        return _SET_IN_PODS.get(name) or default or ("" if name in _OPTIONAL else "x")

    @override
    def __getitem__(self, name: str) -> str:
        value: str = self.get(name)
        return value

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.read)

    @override
    def __len__(self) -> int:
        return len(self.read)


def variables_of(program: str) -> dict[str, str]:
    """Return the default of each of Interlock's variables that a program reads, in the order of its reads."""
    environment = _Recorder()
    PROGRAMS[program](environment)
    return {name: default for name, default in environment.read.items() if name.startswith(_PREFIX)}
