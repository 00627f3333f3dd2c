"""The guard's settings, read once from the environment of its container."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from interlock_contract import pod
from interlock_contract.environment import SettingsInvalid, read_api_server, read_number, require
from interlock_contract.model_access import MAX_REQUEST_BYTES
from interlock_guard.state import LEASE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """Where the guard is, what it watches, where it listens and where its records go.

    `dialable` are addresses of MCP servers that are dialled although no binding allows them: those of tests, whose
    servers are on loopback. The operator never sets it, and takes out what others add to a guard's container.
    `own_pod_exempt` are addresses of this pod that may call as if they were other pods': those of tests, too.
    `listen` is the address at which the agent is served, and `host` the name that it calls the guard by; empty on
    loopback.
    `agent_host` is where the agent listens for tasks: here, unless it has a pod of its own. `audit_url` is the
    collector's address; empty where there is none. Without `pod_uid` no money is spent. `model_request_bytes` bounds
    the body of a call of a model. `grace_seconds` is the grace period of the pod.
    """

    agent: str
    namespace: str
    pod: str
    pod_uid: str
    bundle: str
    api_server: str
    credentials: Path
    pipes: Path
    secrets: Path
    dialable: frozenset[str]
    own_pod_exempt: frozenset[str]
    listen: str
    host: str
    mcp_port: int
    observe_port: int
    task_port: int
    agent_host: str
    lease_seconds: float
    spool: Path
    spool_bytes: int
    audit_url: str
    audit_token: Path
    model_request_bytes: int
    grace_seconds: float


def read_settings(environment: Mapping[str, str]) -> GuardSettings:
    """Read the settings.

    Only the first four variables, the address of the collector and, in a pod of the guard's own, where it listens are
    set in a pod; the others have defaults and exist for tests and odd clusters.

    Raises:
        SettingsInvalid: A variable is missing or wrong.
    """
    return GuardSettings(
        agent=require(environment, pod.AGENT_VARIABLE),
        namespace=require(environment, pod.NAMESPACE_VARIABLE),
        pod=require(environment, pod.POD_VARIABLE),
        pod_uid=environment.get(pod.POD_UID_VARIABLE, ""),
        bundle=require(environment, pod.BUNDLE_VARIABLE),
        api_server=read_api_server(environment),
        credentials=Path(environment.get("INTERLOCK_CREDENTIALS", pod.TOKEN_PATH)),
        pipes=Path(environment.get("INTERLOCK_PIPES", pod.PIPES_PATH)),
        secrets=Path(environment.get("INTERLOCK_SECRETS", pod.SECRETS_PATH)),
        dialable=frozenset(environment.get("INTERLOCK_DIALABLE", "").split()),
        own_pod_exempt=frozenset(environment.get("INTERLOCK_OWN_POD_EXEMPT", "").split()),
        listen=_address(environment, pod.LISTEN_VARIABLE, pod.LOOPBACK),
        host=environment.get(pod.HOST_VARIABLE, ""),
        mcp_port=int(read_number(environment, "INTERLOCK_MCP_PORT", pod.MCP_PORT)),
        observe_port=int(read_number(environment, "INTERLOCK_OBSERVE_PORT", pod.OBSERVE_PORT)),
        task_port=int(read_number(environment, "INTERLOCK_TASK_PORT", pod.TASK_PORT)),
        agent_host=environment.get(pod.AGENT_HOST_VARIABLE, pod.LOOPBACK),
        lease_seconds=read_number(environment, "INTERLOCK_LEASE_SECONDS", LEASE_SECONDS),
        spool=Path(environment.get("INTERLOCK_SPOOL", pod.SPOOL_PATH)),
        spool_bytes=int(read_number(environment, "INTERLOCK_SPOOL_BYTES", pod.SPOOL_BYTES, most=1e12)),
        audit_url=_audit_url(environment.get(pod.AUDIT_URL_VARIABLE, "")),
        audit_token=Path(environment.get("INTERLOCK_AUDIT_TOKEN", f"{pod.AUDIT_TOKEN_PATH}/{pod.TOKEN_FILE}")),
        model_request_bytes=int(
            read_number(environment, pod.MODEL_REQUEST_VARIABLE, MAX_REQUEST_BYTES, most=MAX_REQUEST_BYTES + 1)
        ),
        grace_seconds=read_number(environment, pod.GRACE_VARIABLE, pod.END_SECONDS),
    )


def _address(environment: Mapping[str, str], name: str, default: str) -> str:
    try:
        return str(ip_address(environment.get(name, default)))
    except ValueError:
        raise SettingsInvalid(f"{name} is no numeric address") from None


def _audit_url(url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise SettingsInvalid(f"{pod.AUDIT_URL_VARIABLE} must start with http:// or https://")
    return url.rstrip("/")
