"""What an administrator of one namespace tries, against another tenant and against Interlock's own programs."""

import json
from dataclasses import dataclass
from typing import Any

from tests.e2e.live import Live
from tests.e2e.probes import a_pod

AGENT = "first-agent"
SYSTEM = "interlock-system"
ADMINISTRATOR = "tenant-admin"
PORT = 8000
POLICY = "ValidatingAdmissionPolicy"
PATCH = ("patch", "--type=merge")


@dataclass(frozen=True)
class Tenants:
    """The cluster as its administrator sees it, and two namespaces.

    Attributes:
        victim: The other tenant's namespace, seen with all rights.
        hostile: The administrator's namespace, seen with all rights.
        administrator: The administrator's namespace, seen with a token of `admin` in it.
    """

    victim: Live
    hostile: Live
    administrator: Live


@dataclass(frozen=True)
class Attempt:
    """One thing that the administrator tries with kubectl.

    Attributes:
        what: In words.
        arguments: Of kubectl; without any, the objects are created.
        objects: What goes to its standard input.
        refused: A part of the answer that says who refused it.
    """

    what: str
    arguments: tuple[str, ...] = ()
    objects: tuple[dict[str, Any], ...] = ()
    refused: str = "orbidden"


def against_the_other_tenant(tenants: Tenants) -> list[Attempt]:
    """Return what the administrator tries in the other tenant's namespace."""
    there = ("-n", tenants.victim.namespace)
    pod = tenants.victim.pods_with(AGENT, "guard")[-1]["metadata"]["name"]
    [bundle, *_] = tenants.victim.items("configmaps", f"interlock.dev/agent={AGENT}")
    kill = ("annotate", "agents.interlock.dev", AGENT, "interlock.dev/kill-switch=mine", "--overwrite")
    return [
        Attempt("kills its agent", (*there, *kill)),
        Attempt("deletes its agent", (*there, "delete", "agents.interlock.dev", AGENT)),
        Attempt("reads its bundle", (*there, "get", "configmap", bundle["metadata"]["name"])),
        Attempt("deletes its pod", (*there, "delete", "pod", pod, "--grace-period=0", "--force")),
        Attempt("runs a command in its guard", (*there, "exec", pod, "-c", "guard", "--", "true")),
        Attempt("forwards its guard's port", (*there, "port-forward", f"pod/{pod}", "0:7410")),
        Attempt("runs a pod there", objects=(a_pod("mine", PORT, tenants.victim.namespace),)),
        Attempt("reads its guard's log", (*there, "logs", pod, "-c", "guard")),
    ]


def against_the_programs(tenants: Tenants) -> list[Attempt]:
    """Return what the administrator tries against the operator, the kill controller and the collector."""
    there = ("-n", SYSTEM)
    operator = f"system:serviceaccount:{SYSTEM}:interlock"
    return [
        Attempt("scales the kill controller to zero", (*there, "scale", "deployment/interlock-kill", "--replicas=0")),
        Attempt("deletes the operator's pods", (*there, "delete", "pods", "--all", "--force")),
        Attempt("keeps the kill controller's Lease", (*there, "delete", "lease", "interlock-kill")),
        Attempt("reads the operator's Secrets", (*there, "get", "secrets")),
        Attempt("mints a token of the operator", (*there, "create", "token", "interlock")),
        Attempt("mints a token of the kill controller", (*there, "create", "token", "interlock-kill")),
        Attempt("acts as the operator", ("--as", operator, "get", "agents.interlock.dev", "-A")),
        Attempt("acts as an administrator", ("--as", "x", "--as-group", "system:masters", "get", "nodes")),
        Attempt("acts as a controller", ("--as", "system:kube-controller-manager", "get", "pods")),
        Attempt("forwards the collector's port", (*there, "port-forward", "deployment/interlock-audit", "0:7420")),
        Attempt("runs a pod beside the operator", objects=(a_pod("mine", PORT, SYSTEM),)),
        Attempt(
            "deletes a policy of admission", ("delete", "validatingadmissionpolicy", "agents-status.interlock.dev")
        ),
        Attempt("takes the kill controller's seats", ("delete", "flowschema", "interlock-kill")),
        Attempt("deletes a kind", ("delete", "crd", "agents.interlock.dev")),
        Attempt("binds cluster-admin in the cluster", objects=(cluster_admin(tenants, "ClusterRoleBinding"),)),
    ]


def at_home(tenants: Tenants) -> list[Attempt]:
    """Return what the administrator tries in the own namespace, to become a guard, the operator or an agent's pod."""
    live = tenants.hostile
    here = ("-n", live.namespace)
    guard = live.pods_with(AGENT, "guard")[-1]
    account, pod = guard["spec"]["serviceAccountName"], guard["metadata"]["name"]
    [bundle, *_] = live.items("configmaps", f"interlock.dev/agent={AGENT}")
    [lease, *_] = live.items("leases", f"interlock.dev/agent={AGENT}")
    as_guard = ("--as", f"system:serviceaccount:{live.namespace}:{account}")
    data = json.dumps({"data": dict.fromkeys(bundle["data"], "{}")})
    name = bundle["metadata"]["name"]
    own = {"interlock.dev/agent": AGENT}
    status = json.dumps({"status": {"kill": None}})
    return [
        Attempt("binds cluster-admin at home", objects=(cluster_admin(tenants, "RoleBinding"),)),
        Attempt("grants itself the verb reconcile", objects=(a_reconciler(live.namespace),)),
        Attempt(
            "writes an agent's status",
            (*here, *PATCH, "agents.interlock.dev", AGENT, "--subresource=status", "-p", status),
        ),
        Attempt("writes a bundle", (*here, *PATCH, "configmap", name, "-p", data), refused=POLICY),
        Attempt("freezes a bundle", (*here, *PATCH, "configmap", name, "-p", '{"immutable":true}'), refused=POLICY),
        Attempt("deletes a bundle", (*here, "delete", "configmap", name), refused=POLICY),
        Attempt(
            "reports as a guard that it acts as",
            (*as_guard, "apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-"),
            (a_report(lease, pod),),
            refused=POLICY,
        ),
        Attempt("mints a token of a guard", (*here, "create", "token", account), refused=POLICY),
        Attempt(
            "runs a pod as a guard",
            objects=(with_account(a_pod("mine", PORT, live.namespace), account),),
            refused=POLICY,
        ),
        Attempt("runs a Deployment as a guard", objects=(a_deployment(live.namespace, account),), refused=POLICY),
        Attempt("runs a CronJob as a guard", objects=(a_cron_job(live.namespace, account),), refused=POLICY),
        Attempt(
            "labels a pod as an agent's", objects=(labelled(a_pod("mine", PORT, live.namespace), own),), refused=POLICY
        ),
        Attempt("hides an agent's pod", (*here, "label", "pod", pod, "interlock.dev/agent-"), refused=POLICY),
        Attempt("runs a command in a guard", (*here, "exec", pod, "-c", "guard", "--", "true"), refused=POLICY),
        Attempt("attaches to an agent", (*here, "attach", pod, "-c", "agent"), refused=POLICY),
        Attempt("forwards a guard's port", (*here, "port-forward", f"pod/{pod}", "0:7410"), refused=POLICY),
        Attempt(
            "asks a guard by the API server", (*here, "get", "--raw", proxied(live, f"pods/{pod}:7410")), refused=POLICY
        ),
        Attempt(
            "adds a container to a guard",
            (
                *here,
                "debug",
                pod,
                "--image=registry.invalid/interlock/example-agent:dev",
                "--target=guard",
                "--profile=restricted",
            ),
        ),
        Attempt("makes endpoints of its own", objects=(endpoints(tenants),)),
        Attempt(
            "runs with the kill controller's priority",
            objects=(with_priority(live.namespace, "interlock-kill"),),
            refused=POLICY,
        ),
        Attempt(
            "runs with the system's priority",
            objects=(with_priority(live.namespace, "system-node-critical"),),
            refused="quota",
        ),
    ]


def cluster_admin(tenants: Tenants, kind: str) -> dict[str, Any]:
    namespace = tenants.hostile.namespace
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": f"mine-{namespace}"} | ({"namespace": namespace} if kind == "RoleBinding" else {}),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": ADMINISTRATOR, "namespace": namespace}],
    }


def a_reconciler(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "mine", "namespace": namespace},
        "rules": [{"apiGroups": ["interlock.dev"], "resources": ["agents"], "verbs": ["reconcile"]}],
    }


def a_report(lease: dict[str, Any], pod: str) -> dict[str, Any]:
    """Return a guard's Lease with a report that no guard wrote."""
    metadata = {part: lease["metadata"][part] for part in ("name", "namespace")}
    annotations = {f"selftest.interlock.dev/{pod}": "[[[[[["}
    return {"apiVersion": lease["apiVersion"], "kind": "Lease", "metadata": metadata | {"annotations": annotations}}


def with_account(pod: dict[str, Any], account: str) -> dict[str, Any]:
    return {**pod, "spec": {**pod["spec"], "serviceAccountName": account}}


def labelled(pod: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    return {**pod, "metadata": {**pod["metadata"], "labels": labels}}


def with_priority(namespace: str, name: str) -> dict[str, Any]:
    pod = a_pod("mine", PORT, namespace)
    return {**pod, "spec": {**pod["spec"], "priorityClassName": name}}


def template(namespace: str, account: str) -> dict[str, Any]:
    pod = with_account(a_pod("mine", PORT, namespace), account)
    return {"metadata": {"labels": {"app": "mine"}}, "spec": pod["spec"]}


def a_deployment(namespace: str, account: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mine", "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": "mine"}}, "template": template(namespace, account)},
    }


def a_cron_job(namespace: str, account: str) -> dict[str, Any]:
    pod = template(namespace, account)
    job = {"template": {**pod, "spec": {**pod["spec"], "restartPolicy": "Never"}}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "mine", "namespace": namespace},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}},
    }


def endpoints(tenants: Tenants) -> dict[str, Any]:
    """Return an EndpointSlice that leads a Service of the hostile namespace to the other tenant's guard."""
    address = tenants.victim.pods_with(AGENT, "guard")[-1]["status"]["podIP"]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "mine",
            "namespace": tenants.hostile.namespace,
            "labels": {"kubernetes.io/service-name": "mine"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]}],
        "ports": [{"port": 7410}],
    }


def proxied(live: Live, what: str) -> str:
    return f"/api/v1/namespaces/{live.namespace}/{what}/proxy/"


def tried(live: Live, attempt: Attempt) -> str:
    """Return what is wrong with the answer to an attempt; nothing if it was refused as it should be."""
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": attempt.objects})
    done = live.attempt("--request-timeout=20s", *(attempt.arguments or ("create", "-f", "-")), stdin=listed)
    said = done.stdout + done.stderr
    return "" if done.returncode and attempt.refused in said else f"{attempt.what}: {said[-600:]}"
