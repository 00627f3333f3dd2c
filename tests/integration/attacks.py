"""Requests by which users have tried to change what guards obey, each with the admission policy that refuses it.

All that change an object are dry runs, which admission judges alike.
"""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from tests.integration.callers import APPLY, MERGE, Caller, Json, Reply, path_of
from tests.integration.kubectl import edited
from tests.integration.protected import AGENT_ACCOUNT, GUARD_ACCOUNT, POD_SECONDS, TEST_ACCOUNT, UNSCHEDULED, Protected

DRY = "?dryRun=All"
STRATEGIC = "application/strategic-merge-patch+json"
AGENT_LABEL = {"interlock.dev/agent": "triage"}
MANAGED = {"app.kubernetes.io/managed-by": "interlock"}
Send = Callable[[Protected, Caller], Reply]


def patch(path: Callable[[Protected], str], body: Json, content_type: str = MERGE) -> Send:
    return lambda at, caller: caller.send("PATCH", path(at) + DRY, body, content_type)


def delete(path: Callable[[Protected], str], **options: Any) -> Send:
    # The API server reads no query where there is a body.
    return lambda at, caller: caller.send("DELETE", path(at), {**options, "dryRun": ["All"]})


def evict(grace: int | None = None) -> Send:
    """Evict a guard's pod, with this grace period or the pod's own."""

    def send(at: Protected, caller: Caller) -> Reply:
        path = at.pod("guard")
        body: Json = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": path.rsplit("/", 1)[1]}}
        if grace is not None:
            body["deleteOptions"] = {"gracePeriodSeconds": grace}
        return caller.send("POST", f"{path}/eviction{DRY}", body)

    return send


def create(manifest: Json) -> Send:
    text = json.dumps(manifest)
    path = path_of(manifest, "{namespace}", is_new=True) + DRY
    return lambda at, caller: caller.send("POST", path.format(namespace=at.namespace), json.loads(at.filled(text)))


A_LOOP: Json = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {
        "name": "forged",
        "labels": {**MANAGED, **AGENT_LABEL, "interlock.dev/on-loop": "Kill"},
        "annotations": {"loops.interlock.dev/p": "{}"},
    },
}
"""A Lease that would have the kill controller kill the agent, if its owner were right, too."""


def child(kind: str, name: str = "") -> Callable[[Protected], str]:
    return lambda at: at.child(kind, name)


def pod(component: str, subresource: str = "") -> Callable[[Protected], str]:
    return lambda at: at.pod(component) + (f"/{subresource}" if subresource else "")


def a_pod(labels: Json | None = None, **spec: Any) -> Json:
    container = {"name": "a", "image": "registry.example.com/a:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"own-{uuid4().hex[:8]}", "labels": {"app": "own", **(labels or {})}},
        "spec": {"containers": [container], **spec},
    }


def workload(kind: str, labels: Json | None = None, **spec: Any) -> Json:
    """Return an object of a built-in kind with this pod template."""
    made = a_pod(labels, **spec)
    template = {"metadata": {"labels": made["metadata"]["labels"]}, "spec": made["spec"]}
    metadata = {"name": made["metadata"]["name"]}
    selected = {"selector": {"matchLabels": {"app": "own"}}, "template": template}
    once = {"template": {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}}
    bodies: dict[str, tuple[str, Json]] = {
        "Deployment": ("apps/v1", {"spec": selected}),
        "ReplicaSet": ("apps/v1", {"spec": selected}),
        "StatefulSet": ("apps/v1", {"spec": {**selected, "serviceName": "own"}}),
        "DaemonSet": ("apps/v1", {"spec": selected}),
        "Job": ("batch/v1", {"spec": once}),
        "CronJob": ("batch/v1", {"spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": once}}}),
        "ReplicationController": ("v1", {"spec": {"selector": {"app": "own"}, "template": template}}),
        "PodTemplate": ("v1", {"template": template}),
        "Pod": ("v1", {"spec": made["spec"]}),
    }
    version, body = bodies[kind]
    if kind == "Pod":
        metadata = made["metadata"]
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}


KINDS = (
    "Pod",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "ReplicationController",
    "PodTemplate",
)


def config_map(labels: Json) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"own-{uuid4().hex[:8]}", "labels": labels}}


def token_called_managed(at: Protected, caller: Caller) -> Reply:
    return caller.send(
        "POST",
        f"{at.path('serviceaccounts')}/{at.filled(GUARD_ACCOUNT)}/token{DRY}",
        {"metadata": {"labels": MANAGED}, "spec": {}},
    )


def token(name: str, **bound: Any) -> Send:
    return lambda at, caller: caller.send(
        "POST", f"{at.path('serviceaccounts')}/{at.filled(name)}/token{DRY}", {"spec": {**bound}}
    )


def token_for_the_guards_pod(at: Protected, caller: Caller) -> Reply:
    found = at.admin.must("GET", at.pod("guard"))
    reference = {"kind": "Pod", "apiVersion": "v1", "name": found["metadata"]["name"], "uid": found["metadata"]["uid"]}
    return token(GUARD_ACCOUNT, boundObjectRef=reference)(at, caller)


def connect(method: str, path: Callable[[Protected], str], query: str = "") -> Send:
    return lambda at, caller: caller.send(method, path(at) + query)


def proxied(component: str, form: str) -> Callable[[Protected], str]:
    return lambda at: f"{at.path('pods')}/{form.format(at.pod(component).rsplit('/', 1)[1])}/proxy/metrics"


def service_proxy(form: str, name: str = "guard-triage") -> Callable[[Protected], str]:
    return lambda at: f"{at.path('services')}/{form.format(name)}/proxy/metrics"


def report(at: Protected, caller: Caller, key: str = "selftest.interlock.dev/p") -> Reply:
    """Write an annotation of the placement's Lease, as a guard does."""
    return caller.send("PATCH", at.lease + DRY, {"metadata": {"annotations": {key: "{}"}}}, MERGE)


def result(at: Protected, caller: Caller) -> Reply:
    """Write the result of a verification."""
    return caller.send("PATCH", at.result + DRY, {"data": {"result.json": "{}"}}, MERGE)


def status(path: Callable[[Protected], str], body: Json) -> Send:
    return patch(lambda at: f"{path(at)}/status", body)


def a_replica_set(at: Protected) -> str:
    items = at.admin.must("GET", at.path("replicasets", "apps"))["items"]
    return f"{at.path('replicasets', 'apps')}/{items[0]['metadata']['name']}"


def bound_with_a_label(at: Protected, caller: Caller) -> Reply:
    """Bind a pod to a node, which sets labels of the pod."""
    target = {"kind": "Node", "name": "node-000000"}
    metadata = {"name": UNSCHEDULED, "labels": {"interlock.dev/agent": "other"}}
    path = f"{at.path('pods')}/{UNSCHEDULED}/binding{DRY}"
    return caller.send("POST", path, {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target})


_LACKING = (
    "interlock.dev/binding",
    "interlock.dev/endpoint",
    "interlock.dev/guard",
    "interlock.dev/has-claims",
    "interlock.dev/policy",
)
"""Labels that separate pods of agents do not have."""
LABELS_OF_PODS = (
    "interlock.dev/agent",
    "interlock.dev/binding",
    "interlock.dev/endpoint",
    "interlock.dev/guard",
    "interlock.dev/has-claims",
    "interlock.dev/isolation",
    "interlock.dev/policy",
    "interlock.dev/revision",
    "interlock.dev/stage",
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/name",
    "app.kubernetes.io/part-of",
    "pod-template-hash",
)
RELABELLED = {
    f"a pod's label {key} {done}": ("pods-reserved", patch(pod("agent"), {"metadata": {"labels": {key: value}}}))
    for key in LABELS_OF_PODS
    for done, value in (("set", "other"), ("removed", None))
    if not (value is None and key in _LACKING)
}
TEMPLATES = {
    f"{article} {kind} with {what}": (policy, create(workload(kind, labels, **spec)))
    for kind in KINDS
    for article, what, policy, labels, spec in (
        ("a", "an agent's label", "pods-reserved", AGENT_LABEL, {}),
        ("a", "the label of what is managed", "pods-reserved", MANAGED, {}),
        ("a", "the guard's account", "accounts-reserved", {}, {"serviceAccountName": GUARD_ACCOUNT}),
        ("a", "the agent's account", "accounts-reserved", {}, {"serviceAccountName": AGENT_ACCOUNT}),
        ("a", "the account of tests", "accounts-reserved", {}, {"serviceAccountName": TEST_ACCOUNT}),
        ("a", "the verifier's account", "accounts-reserved", {}, {"serviceAccount": "crm-verify"}),
        ("a", "the notifier's account", "accounts-reserved", {}, {"serviceAccountName": "support-notify"}),
    )
}
LABELLED = {
    **{
        f"a pod with the label {key}": ("pods-reserved", create(a_pod({key: "x"})))
        for key in LABELS_OF_PODS
        if key.startswith("interlock.dev/")
    },
    "a Deployment with the annotation of files": (
        "pods-reserved",
        create(
            edited(workload("Deployment"), spec__template__metadata__annotations={"interlock.dev/config-digest": "x"})
        ),
    ),
}
GUARDS = child("Deployment", "-guard")
NEW_CONTAINER = {"containers": [{"name": "more", "image": "registry.example.com/a:1"}]}

AUDIT_TOKEN: Json = {
    "name": "t",
    "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "interlock-audit"}}]},
}
FORGED_RECORDS: dict[str, Send] = {
    "a token": token("late-0123456789-guard", audiences=["another", "interlock-audit"]),
    "a pod": create(a_pod(serviceAccountName="late-0123456789-guard", volumes=[AUDIT_TOKEN])),
}
"""Ways to send audit records as the guard of an agent that does not exist."""

OBJECTS: dict[str, tuple[str, Send]] = {
    "the bundle, changed": ("managed-objects", patch(lambda at: at.bundle, {"data": {"bundle.json": "{}"}})),
    "a Lease that reports a loop": ("managed-objects", create(A_LOOP)),
    "a report of a loop in the Lease": (
        "managed-objects",
        patch(lambda at: at.lease, {"metadata": {"annotations": {"loops.interlock.dev/p": "{}"}}}),
    ),
    "the bundle, immutable": ("managed-objects", patch(lambda at: at.bundle, {"immutable": True})),
    "the bundle, without its label": (
        "managed-objects",
        patch(lambda at: at.bundle, {"metadata": {"labels": dict.fromkeys(MANAGED)}}),
    ),
    "the bundle, applied in the operator's name": (
        "managed-objects",
        lambda at, caller: caller.send(
            "PATCH",
            f"{at.bundle}{DRY}&fieldManager=interlock&force=true",
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": at.bundle.rsplit("/", 1)[1]},
                "data": {"bundle.json": "{}"},
            },
            APPLY,
        ),
    ),
    "the bundle, deleted": ("managed-objects", delete(lambda at: at.bundle)),
    "all ConfigMaps, deleted": ("managed-objects", delete(lambda at: at.path("configmaps"))),
    "a ConfigMap of one's own, called managed": ("managed-objects", create(config_map(MANAGED))),
    "the agent's files": ("managed-objects", patch(child("ConfigMap", "-files"), {"data": {"x": "y"}})),
    "a ControllerRevision of the agent, with another digest": (
        "managed-objects",
        patch(child("ControllerRevision"), {"metadata": {"annotations": {"interlock.dev/content-digest": "0" * 64}}}),
    ),
    "a ControllerRevision of the agent, deleted": ("managed-objects", delete(child("ControllerRevision"))),
    "a ControllerRevision of one's own, called managed": (
        "managed-objects",
        create(
            {
                "apiVersion": "apps/v1",
                "kind": "ControllerRevision",
                "metadata": {"name": "triage-8-0123456789", "labels": MANAGED},
                "revision": 8,
                "data": {},
            }
        ),
    ),
    "a plan of a verification": ("managed-objects", patch(child("ConfigMap", "-plan"), {"data": {"x": "y"}})),
    "a result of a verification": ("managed-objects", result),
    "a guard's report": ("managed-objects", report),
    "a Lease, held": ("managed-objects", patch(lambda at: at.lease, {"spec": {"holderIdentity": "x"}})),
    "a Lease, deleted": ("managed-objects", delete(lambda at: at.lease)),
    "a NetworkPolicy that selects nothing": (
        "managed-objects",
        patch(
            child("NetworkPolicy", "-closed"),
            {"spec": {"podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}},
        ),
    ),
    "a NetworkPolicy, deleted": ("managed-objects", delete(child("NetworkPolicy", "-closed"))),
    "a PodDisruptionBudget that lets no pod be evicted": (
        "managed-objects",
        patch(child("PodDisruptionBudget", "-agent"), {"spec": {"maxUnavailable": 0}}),
    ),
    "a PodDisruptionBudget, deleted": ("managed-objects", delete(child("PodDisruptionBudget", "-agent"))),
    "a Service": ("managed-objects", patch(child("Service"), {"metadata": {"labels": {"a": "b"}}})),
    "a Service, by its status": (
        "managed-objects",
        status(child("Service"), {"metadata": {"labels": dict.fromkeys(MANAGED)}}),
    ),
    "a Service, deleted": ("managed-objects", delete(child("Service"))),
    "a ServiceAccount": (
        "managed-objects",
        patch(child("ServiceAccount"), {"metadata": {"annotations": {"cloud.example.com/role": "x"}}}),
    ),
    "a ServiceAccount, deleted": ("managed-objects", delete(child("ServiceAccount"))),
    "a Secret of one's own, called managed": (
        "managed-objects",
        create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own", "labels": MANAGED}}),
    ),
    "a Deployment, deleted": ("managed-objects", delete(GUARDS)),
    "a Job, deleted": ("managed-objects", delete(child("Job"))),
    "all ReplicaSets, deleted": ("managed-objects", delete(lambda at: at.path("replicasets", "apps"))),
}

RESTARTED = {
    "spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}}
}
ANNOTATED = patch(pod("agent"), {"metadata": {"annotations": {"example.com/x": "y"}}})
FREED: Json = {"metadata": {"labels": {"interlock.dev/agent": None}, "ownerReferences": None}}
WORKLOADS: dict[str, tuple[str, Send]] = {
    "a ReplicaSet, by its status": ("pods-reserved", status(a_replica_set, FREED)),
    "a Deployment's status": ("pods-reserved", status(GUARDS, {"status": {"observedGeneration": 7}})),
    "a Job, by its status": ("pods-reserved", status(child("Job"), {"metadata": {"ownerReferences": None}})),
    "a pod, by its binding": ("pods-reserved", bound_with_a_label),
    "a pod's label of a user's own": ("pods-reserved", patch(pod("guard"), {"metadata": {"labels": {"team": "x"}}})),
    "a Deployment's image": (
        "pods-reserved",
        patch(
            GUARDS, {"spec": {"template": {"spec": {"initContainers": [{"name": "guard", "image": "x:1"}]}}}}, STRATEGIC
        ),
    ),
    "a Deployment's host network": (
        "pods-reserved",
        patch(GUARDS, {"spec": {"template": {"spec": {"hostNetwork": True}}}}),
    ),
    "a Deployment's further container": (
        "pods-reserved",
        patch(GUARDS, {"spec": {"template": {"spec": NEW_CONTAINER}}}, STRATEGIC),
    ),
    "a Deployment's replicas": ("pods-reserved", patch(GUARDS, {"spec": {"replicas": 5}})),
    "a Deployment, paused": ("pods-reserved", patch(GUARDS, {"spec": {"paused": True}})),
    "a Deployment's label": ("pods-reserved", patch(GUARDS, {"metadata": {"labels": {"interlock.dev/agent": None}}})),
    "a Deployment's owner": ("pods-reserved", patch(GUARDS, {"metadata": {"ownerReferences": None}})),
    "a Deployment's finalizer": ("pods-reserved", patch(GUARDS, {"metadata": {"finalizers": ["example.com/stay"]}})),
    "a restart with more than a restart": (
        "pods-reserved",
        patch(
            GUARDS,
            {
                "spec": {
                    "template": {
                        "metadata": {
                            "annotations": {"kubectl.kubernetes.io/restartedAt": "x", "example.com/inject": "y"}
                        }
                    }
                }
            },
        ),
    ),
    "a restart with a finalizer for new pods": (
        "pods-reserved",
        patch(GUARDS, {"spec": {"template": {"metadata": {"finalizers": ["example.com/stay"]}}}}),
    ),
    "a ReplicaSet, restarted": ("pods-reserved", patch(a_replica_set, RESTARTED, STRATEGIC)),
    "the labels of a Deployment's pods": (
        "pods-reserved",
        patch(GUARDS, {"spec": {"template": {"metadata": {"labels": {"team": "x"}}}}}),
    ),
    "an annotation of a Deployment's pods, removed": (
        "pods-reserved",
        patch(
            GUARDS,
            {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/default-container": None}}}}},
        ),
    ),
    "a Job, suspended": ("pods-reserved", patch(child("Job"), {"spec": {"suspend": True}})),
    "a Deployment, scaled": ("workloads-scale", patch(lambda at: f"{GUARDS(at)}/scale", {"spec": {"replicas": 0}})),
    "a pod's image": (
        "pods-reserved",
        patch(pod("agent"), {"spec": {"containers": [{"name": "agent", "image": "x:1"}]}}, STRATEGIC),
    ),
    "a pod's owner": ("pods-reserved", patch(pod("agent"), {"metadata": {"ownerReferences": None}})),
    "a pod's finalizer": ("pods-reserved", patch(pod("agent"), {"metadata": {"finalizers": ["example.com/stay"]}})),
    "a pod's annotation of a user's own": ("pods-reserved", ANNOTATED),
    "a pod's deadline": ("pods-reserved", patch(pod("agent"), {"spec": {"activeDeadlineSeconds": 1}})),
    "a pod's digest of its files": (
        "pods-reserved",
        patch(pod("agent"), {"metadata": {"annotations": {"interlock.dev/config-digest": "x"}}}),
    ),
    "a pod's list of what it was started with": (
        "pods-reserved",
        patch(pod("agent"), {"metadata": {"annotations": {"interlock.dev/openings": "x"}}}),
    ),
    "a verifier's pod, relabelled": (
        "pods-reserved",
        patch(pod("verification"), {"metadata": {"labels": {"interlock.dev/binding": "other"}}}),
    ),
    "a pod's resources": (
        "pods-reserved",
        patch(
            lambda at: f"{at.path('pods')}/{UNSCHEDULED}/resize",
            {"spec": {"containers": [{"name": "a", "resources": {"limits": {"memory": "32Mi"}}}]}},
            STRATEGIC,
        ),
    ),
    **{
        f"an ephemeral container of the {component}": (
            "pods-reserved",
            patch(
                pod(component, "ephemeralcontainers"),
                {"spec": {"ephemeralContainers": [{"name": "debugger", "image": "busybox"}]}},
                STRATEGIC,
            ),
        )
        for component in ("guard", "verification")
    },
}
CHANGED_PODS: dict[str, Send] = {
    what: send
    for what, (_, send) in {**WORKLOADS, **RELABELLED}.items()
    if what.startswith("a pod's ") and send is not ANNOTATED
}
"""Changes of pods but of their annotations."""
IDENTITIES: dict[str, tuple[str, Send]] = {
    "a guard's token": ("accounts-reserved", token(GUARD_ACCOUNT)),
    "a guard's token, called managed": ("accounts-reserved", token_called_managed),
    "a guard's token for the guard's own pod": ("accounts-reserved", token_for_the_guards_pod),
    "a guard's token for another audience": ("accounts-reserved", token(GUARD_ACCOUNT, audiences=["another"])),
    "an agent pod's token": ("accounts-reserved", token(AGENT_ACCOUNT)),
    "a test's token": ("accounts-reserved", token(TEST_ACCOUNT)),
    "a verifier's token": ("accounts-reserved", token("crm-verify")),
    "a token in a Secret": (
        "accounts-reserved",
        create(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/service-account-token",
                "metadata": {"name": "own", "annotations": {"kubernetes.io/service-account.name": GUARD_ACCOUNT}},
            }
        ),
    ),
    "an impersonated guard": (
        "managed-objects",
        lambda at, caller: report(
            at, caller.impersonating(f"system:serviceaccount:{at.namespace}:{at.filled(GUARD_ACCOUNT)}")
        ),
    ),
    "an impersonated verifier": (
        "managed-objects",
        lambda at, caller: result(at, caller.impersonating(f"system:serviceaccount:{at.namespace}:crm-verify")),
    ),
}
CONNECTIONS: dict[str, tuple[str, Send]] = {
    **{
        f"{method} {subresource} of the {component}": (
            "pods-debug",
            connect(method, pod(component, subresource), query),
        )
        for component in ("agent", "guard", "verification")
        for method in ("GET", "POST")
        for subresource, query in (
            ("exec", "?command=id&stdout=true"),
            ("attach", "?stdout=true"),
            ("portforward", "?ports=7410"),
        )
    },
    **{
        f"{method} of a pod's proxy as {form}": ("pods-debug", connect(method, proxied("guard", form)))
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        for form in ("{}", "{}:7410", "https:{}:7410", "http:{}:", ":{}:7410")
    },
    **{
        f"a Service's proxy as {form}": ("services-debug", connect("GET", service_proxy(form)))
        for form in ("{}", "{}:tasks", "https:{}:tasks", "http:{}:", ":{}:7412")
    },
}
SLOW_ENDS: dict[str, tuple[str, Send]] = {
    "an agent's pod, deleted slowly": ("pods-grace", delete(pod("agent"), gracePeriodSeconds=86400)),
    "a guard's pod, deleted a second slower than it would end": (
        "pods-grace",
        delete(pod("guard"), gracePeriodSeconds=POD_SECONDS + 1),
    ),
    "all pods, deleted slowly": ("pods-grace", delete(lambda at: at.path("pods"), gracePeriodSeconds=86400)),
    "a guard's pod, evicted slowly": ("evictions-grace", evict(86400)),
}
"""Ends of pods that a kill could not shorten."""
REFUSED = {**OBJECTS, **WORKLOADS, **RELABELLED, **LABELLED, **TEMPLATES, **IDENTITIES, **CONNECTIONS}
ALLOWED: dict[str, Send] = {
    "delete an agent's pod": delete(pod("agent")),
    "delete all pods": delete(lambda at: at.path("pods")),
    "evict a guard's pod": evict(),
    "delete an agent's pod with the grace period of its template": delete(pod("agent"), gracePeriodSeconds=1),
    "force the end of an agent's pod": delete(pod("agent"), gracePeriodSeconds=0),
    "evict a guard's pod with the grace period of its template": evict(1),
    "delete a pod of one's own slowly": delete(lambda at: f"{at.path('pods')}/own-pod", gracePeriodSeconds=3600),
    "restart a Deployment": patch(GUARDS, RESTARTED, STRATEGIC),
    "restart a Deployment again": patch(lambda at: f"{at.path('deployments', 'apps')}/restarted", RESTARTED, STRATEGIC),
    "make a ConfigMap with labels of Interlock's domain": create(
        config_map({**AGENT_LABEL, "app.kubernetes.io/managed-by": "helm"})
    ),
    "ask for a token of one's own account": token("own-guard"),
    "scale a Deployment of one's own": patch(
        lambda at: f"{at.path('deployments', 'apps')}/own-deployment/scale", {"spec": {"replicas": 2}}
    ),
    "scale a Deployment of one's own with a label like ours": patch(
        lambda at: f"{at.path('deployments', 'apps')}/own-team/scale", {"spec": {"replicas": 2}}
    ),
    "enter a pod of one's own": lambda at, caller: caller.send(
        "POST", f"{at.path('pods')}/own-pod/exec?command=id&stdout=true"
    ),
    "proxy to a pod of one's own": lambda at, caller: caller.send("GET", f"{at.path('pods')}/own-pod:80/proxy/"),
    "proxy to a Service of one's own": lambda at, caller: caller.send(
        "GET", f"{at.path('services')}/own-service:80/proxy/"
    ),
    "change the selector of a Service of one's own": patch(
        lambda at: f"{at.path('services')}/own-service", {"spec": {"selector": {"app": "other"}}}
    ),
    **{f"make a {kind}": create(workload(kind)) for kind in KINDS},
    **{f"make a {kind} with a label like ours": create(workload(kind, {"interlock.dev/team": "x"})) for kind in KINDS},
    **{
        f"make a {kind} with an account like a guard's": create(workload(kind, serviceAccountName="own-guard"))
        for kind in KINDS
    },
}
"""What users may do with pods of agents, and with objects of their own."""
FIRST: dict[str, Send] = {
    "accounts-reserved": token(GUARD_ACCOUNT),
    "audit-reserved": token("late-0123456789-guard", audiences=["interlock-audit"]),
    "evictions-grace": evict(86400),
    "managed-objects": delete(lambda at: at.bundle),
    "pods-debug": connect("GET", proxied("verification", "{}")),
    "pods-grace": delete(pod("agent"), gracePeriodSeconds=86400),
    "pods-reserved": create(a_pod(AGENT_LABEL)),
    "services-debug": connect("GET", service_proxy("{}")),
    "workloads-scale": patch(lambda at: f"{GUARDS(at)}/scale", {"spec": {"replicas": 0}}),
}
"""A request for each policy that is refused once it is in force."""
SELECTORS: list[Json] = [
    {"interlock.dev/agent": "triage"},
    {"app.kubernetes.io/instance": "triage"},
    {"app.kubernetes.io/component": "guard", "app.kubernetes.io/name": "interlock-agent"},
    {"app.kubernetes.io/managed-by": "interlock"},
    {"topology.kubernetes.io/zone": "a"},
    {"app.kubernetes.io/part-of": "interlock"},
    {"app.kubernetes.io/component": "agent"},
    {"app.kubernetes.io/component": "verification", "app.kubernetes.io/name": "interlock-verification"},
    {"app.kubernetes.io/component": "notifier", "app.kubernetes.io/name": "interlock-notifier"},
    {"pod-template-hash": "x"},
    {"example.com/team": "x"},
    {"controller-uid": "x"},
    {"batch.kubernetes.io/job-name": "crm-verify-0"},
    {"job-name": "crm-verify-0"},
]
"""Selectors of Services that can select a pod of Interlock."""
