"""The failures of pods that users meet, as the kubelet and the scheduler report them, and what Ready says of each."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
AGENT, GUARD, SERVER = "agent", "guard", "mcp-crm"


@dataclass(frozen=True)
class Failure:
    """One failure of a pod.

    Attributes:
        says: A part of the message of Ready.
        status: The status of the pod, on top of not being ready.
        event: Reason, note and container of the Warning Event about the pod; empty without one.
    """

    says: str
    status: Json = field(default_factory=dict)
    event: tuple[str, str, str] = ("", "", "")


def container(name: str, *, state: Json, last: Json | None = None, restarts: int = 0) -> Json:
    """Return the status of a container that is not ready."""
    return {
        "name": name,
        "image": "registry.example.com/x:1.0",
        "imageID": "",
        "ready": False,
        "restartCount": restarts,
        "state": state,
        "lastState": last or {},
    }


def waiting(reason: str, message: str = "", *, last: Json | None = None, name: str = AGENT) -> Json:
    """Return a pod's status with a container that waits."""
    kind = "containerStatuses" if name == AGENT else "initContainerStatuses"
    state = {"waiting": {"reason": reason, "message": message}}
    return {kind: [container(name, state=state, last=last, restarts=3 if last else 0)]}


def ended(code: int, reason: str = "Error", log: str = "") -> Json:
    """Return the state of a container that has ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "message": log}}


def crashing(code: int, reason: str = "Error", log: str = "", name: str = AGENT) -> Json:
    """Return a pod's status with a container that ends again and again."""
    back_off = "back-off 40s restarting failed container=agent pod=triage-6c"
    return waiting("CrashLoopBackOff", back_off, last=ended(code, reason, log), name=name)


def unscheduled(message: str, reason: str = "Unschedulable") -> Json:
    """Return the condition of a pod that no node takes."""
    return {"PodScheduled": {"status": "False", "reason": reason, "message": message}}


RUNNING = {"containerStatuses": [container(AGENT, state={"running": {"startedAt": "2026-01-01T00:00:00Z"}})]}
STARTING = waiting("ContainerCreating")
NO_NODE = "0/3 nodes are available: 3 Insufficient memory. preemption: not eligible."
TAINT = "0/3 nodes are available: 3 node(s) had untolerated taint {gpu: true}."
TRACE = "Traceback (most recent call last):\n  File main.py, line 3\nKeyError: 'CRM_URL'\n"

PULL = 'failed to pull and unpack image "docker.io/acme/agent:9": '
RATE_LIMIT = (
    f"{PULL}failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/acme/"
    "agent/manifests/9: 429 Too Many Requests - Server message: toomanyrequests: You have reached your unauthenticated "
    "pull rate limit. https://www.docker.com/increase-rate-limit"
)
DENIED = (
    f'{PULL}failed to resolve reference "docker.io/acme/agent:9": pull access denied, repository does not exist or '
    "may require authorization: server message: insufficient_scope: authorization failed"
)
RUNC = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: error during container init: "
)
MOUNT = (
    f'{RUNC}error mounting "/var/lib/kubelet/pods/3f2a9c1b-7d6e-5f4a-3b2c-1d0e9f8a7b6c/volumes/kubernetes.io~configmap'
    '/x" to rootfs at "/etc/x": mkdir /etc/x: read-only file system: unknown'
)
SPREAD = "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints."
NODE_JS = (
    "/app/index.js:3\nthrow new Error('CRM_URL is not set');\n^\n\nError: CRM_URL is not set\n"
    "    at Object.<anonymous> (/app/index.js:3:7)\n    at node:internal/main/run_main_module:28:49\n\n"
    "Node.js v22.11.0\n"
)
SANDBOX = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox "
    f'"{"3f2a9c1b" * 8}": plugin type="calico" failed (add): error getting ClusterInformation: connection is '
    "unauthorized: Unauthorized"
)

FAILURES: dict[str, Failure] = {
    # images
    "an image that does not exist": Failure(
        'container agent is in ErrImagePull ("registry.example.com/agent:9: not found")',
        waiting("ErrImagePull", "registry.example.com/agent:9: not found"),
    ),
    "a back-off of pulls": Failure(
        'container agent is in ImagePullBackOff ("Back-off pulling image registry.example.com/agent:9")',
        waiting("ImagePullBackOff", "Back-off pulling image registry.example.com/agent:9"),
    ),
    "a registry that wants credentials": Failure(
        'container agent is in ImagePullBackOff ("pull access denied, repository does not exist or may require auth")',
        waiting("ImagePullBackOff", "pull access denied, repository does not exist or may require auth"),
    ),
    "a limit of pulls": Failure(
        "toomanyrequests: You have reached your unauthenticated pull rate limit.", waiting("ErrImagePull", RATE_LIMIT)
    ),
    "a registry that denies": Failure(
        "require authorization: server message: insufficient_scope: authorization failed",
        waiting("ErrImagePull", DENIED),
    ),
    "a registry without credentials": Failure(
        "no basic auth credentials",
        waiting("ErrImagePull", 'Get "https://1.dkr.ecr.eu-west-1.amazonaws.com/v2/": no basic auth credentials'),
    ),
    "an image that cannot be inspected": Failure(
        'container agent is in ImageInspectError ("failed to get image status")',
        waiting("ImageInspectError", "failed to get image status"),
    ),
    "a name that is no image": Failure(
        'container agent is in InvalidImageName ("couldn\'t parse image name")',
        waiting("InvalidImageName", "couldn't parse image name"),
    ),
    "an image that must not be pulled": Failure(
        "container agent is in ErrImageNeverPull",
        waiting("ErrImageNeverPull", "Container image is not present with pull policy of Never"),
    ),
    "the guard's image": Failure(
        "container guard is in ImagePullBackOff", waiting("ImagePullBackOff", "not found", name=GUARD)
    ),
    "a server's image": Failure(
        "container mcp-crm is in ErrImagePull", waiting("ErrImagePull", "not found", name=SERVER)
    ),
    # configuration
    "a missing Secret": Failure(
        'container mcp-crm is in CreateContainerConfigError ("secret "crm-token" not found")',
        waiting("CreateContainerConfigError", 'secret "crm-token" not found', name=SERVER),
    ),
    "a missing key of a Secret": Failure(
        "couldn't find key url in Secret agents/crm-token",
        waiting("CreateContainerConfigError", "couldn't find key url in Secret agents/crm-token", name=SERVER),
    ),
    "a missing ConfigMap": Failure(
        'configmap "settings" not found', waiting("CreateContainerConfigError", 'configmap "settings" not found')
    ),
    "an image that runs as root": Failure(
        "container has runAsNonRoot and image will run as root",
        waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
    ),
    "a container that cannot be created": Failure(
        "container agent is in CreateContainerError", waiting("CreateContainerError", "context deadline exceeded")
    ),
    "a command that does not exist": Failure(
        "container agent is in RunContainerError (exit code 128, StartError: \"exec: 'agnet': not found in $PATH\")",
        waiting("RunContainerError", last=ended(128, "StartError", 'exec: "agnet": not found in $PATH')),
    ),
    "a long message of the container runtime": Failure(
        'error during container init: exec: "agnet": executable file not found in $PATH: unknown',
        waiting("CreateContainerError", f'{RUNC}exec: "agnet": executable file not found in $PATH: unknown'),
    ),
    "a read-only file system": Failure(
        "to rootfs at '/etc/x': mkdir /etc/x: read-only file system: unknown",
        waiting("CrashLoopBackOff", last=ended(128, "StartError", MOUNT)),
    ),
    "a name of a container that is in use": Failure(
        "container agent is in CreateContainerError",
        waiting("CreateContainerError", 'failed to reserve container name "agent_triage": it is reserved for "4b"'),
    ),
    # ends
    "a crash of Node.js": Failure('(exit code 1: "Error: CRM_URL is not set")', crashing(1, log=NODE_JS)),
    "an image of another architecture": Failure(
        'container agent is in CrashLoopBackOff (exit code 255: "exec /app/agent: exec format error")',
        crashing(255, log="exec /app/agent: exec format error"),
    ),
    "two servers that fail": Failure(
        "container mcp-crm is in CrashLoopBackOff (exit code 2); container mcp-git is in ErrImagePull",
        {
            "initContainerStatuses": [
                *crashing(2, name=SERVER)["initContainerStatuses"],
                *waiting("ErrImagePull", name="mcp-git")["initContainerStatuses"],
            ]
        },
    ),
    "a crash with its last line": Failure(
        "container agent is in CrashLoopBackOff (exit code 1: \"KeyError: 'CRM_URL'\")", crashing(1, log=TRACE)
    ),
    "a crash whose last line has a key": Failure(
        'container agent is in CrashLoopBackOff (exit code 1: "invalid api key: ***")',
        crashing(1, log="invalid api key: hunter2\n"),
    ),
    "too little memory": Failure(
        "container agent is in CrashLoopBackOff (exit code 137, OOMKilled)", crashing(137, "OOMKilled")
    ),
    "a program that ends well": Failure(
        "container agent is in CrashLoopBackOff (exit code 0)", crashing(0, "Completed")
    ),
    "a segmentation fault": Failure("container agent is in CrashLoopBackOff (exit code 139)", crashing(139)),
    "a server that crashes": Failure(
        'container mcp-crm is in CrashLoopBackOff (exit code 2: "no route to host")',
        crashing(2, log="no route to host\n", name=SERVER),
    ),
    "an end without a restart so far": Failure(
        'container agent ended (exit code 1: "no licence")',
        {"containerStatuses": [container(AGENT, state=ended(1, log="no licence"))]},
    ),
    "a container that runs again and is not ready": Failure(
        "container agent ended (exit code 143)",
        {"containerStatuses": [RUNNING["containerStatuses"][0] | {"lastState": ended(143), "restartCount": 1}]},
    ),
    # scheduling
    "no node with enough memory": Failure(
        f'a pod has no node: FailedScheduling, Unschedulable ("{NO_NODE}")', {"conditions": unscheduled(NO_NODE)}
    ),
    "no node without a taint": Failure(
        "3 node(s) had untolerated taint {gpu: true}", {"conditions": unscheduled(TAINT)}
    ),
    "no node that spreads the pods": Failure(
        "3 node(s) didn't match pod topology spread constraints", {"conditions": unscheduled(SPREAD)}
    ),
    "a scheduling gate": Failure(
        "a pod has no node: FailedScheduling, SchedulingGated",
        {"conditions": unscheduled("Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated")},
    ),
    # nodes
    "a node that is lost": Failure(
        'a pod: NodeLost ("Node node-1 which was running pod triage-6c is unresponsive")',
        {"reason": "NodeLost", "message": "Node node-1 which was running pod triage-6c is unresponsive"},
    ),
    "a readiness gate": Failure(
        "a pod: ReadinessGatesNotReady",
        RUNNING
        | {
            "conditions": {
                "Ready": {
                    "status": "False",
                    "reason": "ReadinessGatesNotReady",
                    "message": 'corresponding condition of pod readiness gate "elb.k8s.aws/x" does not exist.',
                }
            }
        },
    ),
    # what only Events say
    "a node that is not ready": Failure(
        'a pod: NodeNotReady ("Node is not ready")', RUNNING, ("NodeNotReady", "Node is not ready", "")
    ),
    "a volume whose Secret lacks a key": Failure(
        "references non-existent secret key: api-key",
        STARTING,
        ("FailedMount", 'MountVolume.SetUp failed for volume "s" : references non-existent secret key: api-key', ""),
    ),
    "a sandbox without a network": Failure(
        "connection is unauthorized: Unauthorized", STARTING, ("FailedCreatePodSandBox", SANDBOX, "")
    ),
    "a volume whose ConfigMap is missing": Failure(
        'a pod: FailedMount ("MountVolume.SetUp failed for volume "config" : configmap "triage-config" not found")',
        STARTING,
        ("FailedMount", 'MountVolume.SetUp failed for volume "config" : configmap "triage-config" not found', ""),
    ),
    "a volume whose Secret is missing": Failure(
        'secret "crm-token" not found',
        STARTING,
        ("FailedMount", 'MountVolume.SetUp failed for volume "secrets" : secret "crm-token" not found', ""),
    ),
    "a network plugin that fails": Failure(
        "a pod: FailedCreatePodSandBox", STARTING, ("FailedCreatePodSandBox", "plugin type=calico failed (add)", "")
    ),
    "a node without a network": Failure(
        "a pod: NetworkNotReady", STARTING, ("NetworkNotReady", "network is not ready: cni plugin not initialized", "")
    ),
    "a failing readiness probe": Failure(
        'container agent: Unhealthy ("Readiness probe failed: dial tcp 10.244.0.5:8080: connect: connection refused")',
        RUNNING,
        ("Unhealthy", "Readiness probe failed: dial tcp 10.244.0.5:8080: connect: connection refused", AGENT),
    ),
    "a failing startup probe": Failure(
        'container mcp-crm: Unhealthy ("Startup probe failed: HTTP probe failed with statuscode: 503")',
        RUNNING,
        ("Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 503", SERVER),
    ),
    "a container that its liveness probe ended": Failure(
        "container agent is in CrashLoopBackOff (exit code 137); container agent: Unhealthy "
        '("Liveness probe failed: timeout")',
        crashing(137),
        ("Unhealthy", "Liveness probe failed: timeout", AGENT),
    ),
}
"""One by one: the row's name, and what a user reads."""


def status_of(failure: Failure) -> Json:
    """Return the pod's status of a failure."""
    named = {"Ready": {"status": "False", "reason": "ContainersNotReady"}, **failure.status.get("conditions", {})}
    conditions = [{"type": kind, "lastTransitionTime": "2026-01-01T00:00:00Z", **said} for kind, said in named.items()]
    ready = container(AGENT, state={"waiting": {"reason": "PodInitializing"}})
    none = {"reason": None, "message": None, "initContainerStatuses": [], "containerStatuses": [ready]}
    return {**none, **failure.status, "conditions": conditions}
