"""Writes that the operator never makes: what is changed in one of its manifests, and the sentence that refuses this."""

from collections.abc import Callable

from tests.integration.callers import Json

Change = Callable[[Json], object]


def without_owner(one: Json) -> None:
    del one["metadata"]["ownerReferences"]


def not_controlled(one: Json) -> None:
    one["metadata"]["ownerReferences"][0]["controller"] = False


def owned_by_another_kind(one: Json) -> None:
    one["metadata"]["ownerReferences"][0] |= {"apiVersion": "apps/v1", "kind": "Deployment"}


def owned_by_a_policy(one: Json) -> None:
    one["metadata"]["ownerReferences"][0] |= {"kind": "AgentPolicy", "name": "support"}
    one["metadata"]["labels"]["interlock.dev/policy"] = "support"


def unlabelled(one: Json) -> None:
    del one["metadata"]["labels"]["app.kubernetes.io/managed-by"]


def labelled_for_another(one: Json) -> None:
    one["metadata"]["labels"]["interlock.dev/agent"] = "other"


def named(name: str) -> Change:
    return lambda one: one["metadata"].update(name=name)


def content(**values: object) -> Change:
    return lambda one: one.update(values)


def spec(**values: object) -> Change:
    return lambda one: one["spec"].update(values)


def rule(index: int, **values: object) -> Change:
    return lambda one: one["rules"][index].update(values)


def subject(**values: object) -> Change:
    return lambda one: one["subjects"][0].update(values)


OBJECTS: dict[str, tuple[str, str, Change, str]] = {
    "no owner": ("ConfigMap", "", without_owner, "as its controlling owner"),
    "an owner that does not control": ("ConfigMap", "", not_controlled, "as its controlling owner"),
    "an owner of another kind": ("ConfigMap", "", owned_by_another_kind, "as its controlling owner"),
    "no label": ("ConfigMap", "", unlabelled, "only with the labels and the name"),
    "another agent's label": ("ConfigMap", "", labelled_for_another, "only with the labels and the name"),
    "a name of another kind": ("ConfigMap", "", named("kube-root-ca.crt"), "only with the labels and the name"),
    "a name with another beginning": (
        "ConfigMap",
        "",
        named("eviler-0123456789"),
        "only with the labels and the name",
    ),
    "another name of a verification": (
        "ConfigMap",
        "-result",
        named("crm-verify-settings"),
        "only with the labels and the name",
    ),
    "a name of no verification": (
        "ConfigMap",
        "-result",
        named("cry-verify-result"),
        "only with the labels and the name",
    ),
    "another binding's label": (
        "ConfigMap",
        "-result",
        lambda one: one["metadata"]["labels"].update({"interlock.dev/binding": "other"}),
        "only with the labels and the name",
    ),
    "a revision without a number": (
        "ControllerRevision",
        "",
        named("triage-x-0123456789"),
        "only with the labels and the name",
    ),
    "a revision with the name of another object": (
        "ControllerRevision",
        "",
        named("triage-0123456789"),
        "only with the labels and the name",
    ),
    "a revision of a policy": (
        "ControllerRevision",
        "",
        owned_by_a_policy,
        "for no AgentPolicy",
    ),
    "a ConfigMap with the name of a revision": (
        "ConfigMap",
        "",
        named("triage-7-0123456789"),
        "only with the labels and the name",
    ),
    "a name of a user's": ("ConfigMap", "", named("triage-settings"), "only with the labels and the name"),
    "another account": ("ServiceAccount", "-guard", named("default"), "only with the labels and the name"),
    "the account of a placement of an agent whose name begins so": (
        "ServiceAccount",
        "-guard",
        named("triage-0123456789-0123456789-guard"),
        "only with the labels and the name",
    ),
    "an account of a user's": (
        "ServiceAccount",
        "-guard",
        named("triage-deployer"),
        "only with the labels and the name",
    ),
    "an account with tokens": (
        "ServiceAccount",
        "-guard",
        content(automountServiceAccountToken=True),
        "automountServiceAccountToken: false",
    ),
    "a Service of a user's": ("Service", "triage", named("payments"), "only with the labels and the name"),
    "a load balancer": ("Service", "triage", spec(type="LoadBalancer"), "only with type ClusterIP"),
    "an ExternalName": (
        "Service",
        "triage",
        content(
            spec={
                "type": "ExternalName",
                "externalName": "evil.example.com",
                "selector": {"interlock.dev/agent": "triage"},
            }
        ),
        "only with type ClusterIP",
    ),
    "external addresses": ("Service", "triage", spec(externalIPs=["203.0.113.1"]), "without externalIPs"),
    "pods of others": ("Service", "triage", spec(selector={"app": "payments"}), "for pods of its own agent"),
    "pods of another agent": (
        "Service",
        "triage",
        spec(selector={"interlock.dev/agent": "other"}),
        "for pods of its own agent",
    ),
    "a NetworkPolicy for all pods": ("NetworkPolicy", "-closed", spec(podSelector={}), "only for pods of its own"),
    "a NetworkPolicy for pods of others": (
        "NetworkPolicy",
        "-closed",
        spec(podSelector={"matchLabels": {"app": "payments"}}),
        "only for pods of its own",
    ),
    "a NetworkPolicy for another binding": (
        "NetworkPolicy",
        "-verify",
        spec(podSelector={"matchLabels": {"interlock.dev/binding": "other"}}),
        "only for pods of its own",
    ),
    "a PodDisruptionBudget for pods of others": (
        "PodDisruptionBudget",
        "-agent",
        spec(selector={"matchLabels": {"app": "payments"}}),
        "only for pods of its own agent",
    ),
    "a Role without names": (
        "Role",
        "",
        lambda one: one["rules"][0].pop("resourceNames"),
        "only the rights of a guard",
    ),
    "a Role for another Agent": ("Role", "", rule(0, resourceNames=["other"]), "only the rights of a guard"),
    "a Role for another bundle": ("Role", "", rule(1, resourceNames=["other"]), "only the rights of a guard"),
    "a Role that writes bundles": ("Role", "", rule(1, verbs=["get", "list", "watch", "patch"]), "only the rights"),
    "a Role with a further rule": (
        "Role",
        "",
        lambda one: one["rules"].append({"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}),
        "only the rights of a guard",
    ),
    "a Role with fewer rules": ("Role", "", lambda one: one["rules"].pop(), "only the rights of a guard"),
    "another name of a notifier": (
        "ConfigMap",
        "-notify-record",
        named("support-notify-settings"),
        "only with the labels and the name",
    ),
    "a name of a verification for a notifier": (
        "ConfigMap",
        "-notify-record",
        named("support-notify-result"),
        "only with the labels and the name of an object of AgentPolicy support",
    ),
    "a name of no notifier": (
        "ConfigMap",
        "-notify-record",
        named("supporu-notify-record"),
        "only with the labels and the name",
    ),
    "another policy's label": (
        "ConfigMap",
        "-notify-record",
        lambda one: one["metadata"]["labels"].update({"interlock.dev/policy": "other"}),
        "only with the labels and the name",
    ),
    "a Service for a policy": ("Service", "triage", owned_by_a_policy, "for no AgentPolicy"),
    "a NetworkPolicy for another policy": (
        "NetworkPolicy",
        "-notify",
        spec(podSelector={"matchLabels": {"interlock.dev/policy": "other"}}),
        "only for pods of its own",
    ),
    "a notifier's Role that reads ledgers by name": (
        "Role",
        "-notify",
        rule(0, verbs=["get", "list", "watch"]),
        "only the rights of a guard",
    ),
    "a notifier's Role that writes ledgers": (
        "Role",
        "-notify",
        rule(0, resources=["budgetledgers/status"], verbs=["update"]),
        "only the rights of a guard",
    ),
    "a notifier's Role for another record": (
        "Role",
        "-notify",
        rule(1, resourceNames=["other-notify-record"]),
        "only the rights of a guard",
    ),
    "another subject for a notifier": ("RoleBinding", "-notify", subject(name="triage-guard"), "may bind Role"),
    "a verifier's Role for all": ("Role", "-verify", rule(0, resourceNames=[]), "only the rights of a guard"),
    "another Role": ("RoleBinding", "", lambda one: one["roleRef"].update(name="other"), "may bind Role"),
    "a ClusterRole": ("RoleBinding", "", lambda one: one["roleRef"].update(kind="ClusterRole"), "may bind Role"),
    "no subject": ("RoleBinding", "", content(subjects=[]), "may bind Role"),
    "another placement's guard as subject": (
        "RoleBinding",
        "",
        subject(name="triage-0123456789-guard"),
        "may bind Role",
    ),
    "another subject": ("RoleBinding", "", subject(name="default"), "may bind Role"),
    "a user as subject": (
        "RoleBinding",
        "",
        content(subjects=[{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}]),
        "may bind Role",
    ),
    "a subject of another namespace": ("RoleBinding", "", subject(namespace="default"), "may bind Role"),
    "two subjects": (
        "RoleBinding",
        "",
        lambda one: one["subjects"].append({**one["subjects"][0], "name": "x"}),
        "may bind Role",
    ),
}


def pod_of(one: Json) -> Json:
    found: Json = one["spec"]["template"]["spec"]
    return found


def pod(**values: object) -> Change:
    return lambda one: pod_of(one).update(values)


def pod_security(**values: object) -> Change:
    return lambda one: pod_of(one)["securityContext"].update(values)


def container(field: str = "", **values: object) -> Change:
    """Change the agent's own container, or one of its fields."""

    def change(one: Json) -> None:
        first = pod_of(one)["containers"][0]
        (first.setdefault(field, {}) if field else first).update(values)

    return change


def config_map_variable(name: str) -> Json:
    return {"name": "X", "valueFrom": {"configMapKeyRef": {"name": name, "key": "x"}}}


def claim_mounted_by_guard(one: Json) -> None:
    pod = pod_of(one)
    pod["serviceAccountName"] = pod["serviceAccountName"].removesuffix("-agent") + "-guard"
    pod["volumes"].append({"name": "more", "persistentVolumeClaim": {"claimName": "x"}})


def volume(**values: object) -> Change:
    return lambda one: pod_of(one)["volumes"].append({"name": "more", **values})


def secret_mounted_by_agent(one: Json) -> None:
    source = {"secret": {"name": "s"}}
    pod_of(one)["volumes"].append({"name": "server-secrets", "projected": {"sources": [source]}})
    pod_of(one)["containers"][0]["volumeMounts"].append({"name": "server-secrets", "mountPath": "/s"})


def token_mounted_by_agent(one: Json) -> None:
    source = {"serviceAccountToken": {"path": "t"}}
    pod_of(one)["volumes"].append({"name": "t", "projected": {"sources": [source]}})
    pod_of(one)["containers"][0]["volumeMounts"].append({"name": "t", "mountPath": "/t"})


def certificate_mounted_by_agent(one: Json) -> None:
    """A certificate by which the agent would be its ServiceAccount at the API server."""
    certificate = {
        "signerName": "kubernetes.io/kube-apiserver-client-pod",
        "keyType": "ED25519",
        "credentialBundlePath": "c",
    }
    pod_of(one)["volumes"].append({"name": "c", "projected": {"sources": [{"podCertificate": certificate}]}})
    pod_of(one)["containers"][0]["volumeMounts"].append({"name": "c", "mountPath": "/c"})


def unconfined_by_annotation(one: Json) -> None:
    annotations = one["spec"]["template"]["metadata"]["annotations"]
    annotations["container.apparmor.security.beta.kubernetes.io/agent"] = "unconfined"


def unmasked(one: Json) -> None:
    pod_of(one)["hostUsers"] = False
    pod_of(one)["containers"][0]["securityContext"]["procMount"] = "Unmasked"


SECRET_VARIABLE = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
HTTP_ELSEWHERE = {"httpGet": {"host": "10.0.0.1", "port": 80}}
WORKLOADS: dict[str, tuple[Change, str]] = {
    "another account": (pod(serviceAccountName="default"), "own ServiceAccounts"),
    "another agent's account": (pod(serviceAccountName="other-0123456789-guard"), "own ServiceAccounts"),
    "an account of an agent with a name as long": (
        pod(serviceAccountName="sponge-0123456789-guard"),
        "own ServiceAccounts",
    ),
    "an account of an agent whose name begins so": (
        pod(serviceAccountName="triage-0123456789-0123456789-guard"),
        "own ServiceAccounts",
    ),
    "an account without a placement": (pod(serviceAccountName="triage-guard"), "own ServiceAccounts"),
    "a mounted token": (pod(automountServiceAccountToken=True), "without a mounted token"),
    "a template without labels": (
        lambda one: one["spec"]["template"]["metadata"]["labels"].pop("app.kubernetes.io/managed-by"),
        "by which kills and NetworkPolicies find them",
    ),
    **{
        f"{name}": (pod(**{name: True}), "share namespaces of the node")
        for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
    },
    "a node": (pod(nodeName="node-0"), "choose a node"),
    "a priority of Kubernetes' own": (pod(priorityClassName="system-node-critical"), "a priority of Kubernetes' own"),
    "root allowed": (pod_security(runAsNonRoot=False), "runAsNonRoot"),
    "root": (pod_security(runAsUser=0), "runAsNonRoot"),
    "no seccomp profile": (pod_security(seccompProfile={"type": "Unconfined"}), "a seccomp profile"),
    "sysctls": (pod_security(sysctls=[{"name": "kernel.shm_rmid_forced", "value": "1"}]), "no sysctls"),
    "SELinux": (pod_security(seLinuxOptions={"user": "system_u"}), "SELinux and AppArmor"),
    "AppArmor by an annotation": (unconfined_by_annotation, "SELinux and AppArmor"),
    "a pod's certificate": (certificate_mounted_by_agent, "only pods with volumes of kind"),
    "AppArmor": (pod_security(appArmorProfile={"type": "Unconfined"}), "SELinux and AppArmor"),
    "no security context": (lambda one: pod_of(one)["containers"][0].pop("securityContext"), "without privileges"),
    "privileged": (
        container("securityContext", privileged=True, allowPrivilegeEscalation=None),
        "without privileges",
    ),
    "escalation": (container("securityContext", allowPrivilegeEscalation=True), "without privileges"),
    "capabilities kept": (container("securityContext", capabilities={}), "without privileges"),
    "a capability": (
        container("securityContext", capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        "without privileges",
    ),
    "a container of root": (container("securityContext", runAsUser=0, runAsNonRoot=False), "without privileges"),
    "a container with the user of root": (container("securityContext", runAsUser=0), "without privileges"),
    "a container that may be root": (container("securityContext", runAsNonRoot=False), "without privileges"),
    "a container without seccomp": (
        container("securityContext", seccompProfile={"type": "Unconfined"}),
        "without privileges",
    ),
    "all of /proc": (unmasked, "without privileges"),
    "a container's SELinux": (container("securityContext", seLinuxOptions={"role": "x"}), "SELinux and AppArmor"),
    "a container's AppArmor": (
        container("securityContext", appArmorProfile={"type": "Unconfined"}),
        "SELinux and AppArmor",
    ),
    "a port of the node": (container(ports=[{"containerPort": 80, "hostPort": 80}]), "no hostPort"),
    "a probe elsewhere": (container(livenessProbe=HTTP_ELSEWHERE), "probes and hooks name no host"),
    "a connection elsewhere": (
        container(livenessProbe={"tcpSocket": {"host": "10.0.0.1", "port": 80}}),
        "probes and hooks name no host",
    ),
    "a hook elsewhere": (container(lifecycle={"preStop": HTTP_ELSEWHERE}), "probes and hooks name no host"),
    "a path of the node": (volume(hostPath={"path": "/"}), "only pods with volumes of kind"),
    "a guard's claim": (claim_mounted_by_guard, "only pods with volumes of kind"),
    "a driver's volume": (volume(csi={"driver": "x.example.com"}), "only pods with volumes of kind"),
    "a Secret": (volume(secret={"secretName": "s"}), "only pods with volumes of kind"),
    "a projected Secret": (
        volume(projected={"sources": [{"secret": {"name": "s"}}]}),
        "only pods with volumes of kind",
    ),
    "a guard's Secrets": (secret_mounted_by_agent, "Secrets and tokens only to guards"),
    "a guard's token": (token_mounted_by_agent, "Secrets and tokens only to guards"),
    "a Secret's variable": (container(env=[SECRET_VARIABLE]), "Secrets and tokens only to guards"),
    "a Secret's variables": (container(envFrom=[{"secretRef": {"name": "s"}}]), "Secrets and tokens only to guards"),
    "a ConfigMap's variable": (container(env=[config_map_variable("settings")]), "no ConfigMap but its copies"),
    "a variable of another agent": (
        container(env=[config_map_variable("other-0123456789-mapa")]),
        "no ConfigMap but its copies",
    ),
    "a ConfigMap's variables": (
        container(envFrom=[{"configMapRef": {"name": "settings"}}]),
        "no ConfigMap but its copies",
    ),
    "a further container": (
        lambda one: pod_of(one)["initContainers"].append({"name": "more", "image": "x"}),
        "without privileges",
    ),
}

AN_OWNER: Json = {"apiVersion": "interlock.dev/v1alpha1", "kind": "Agent", "name": "gone", "uid": "u"}
MANAGED: Json = {"app.kubernetes.io/managed-by": "interlock"}
OWNER: Json = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000001"}
FOUND: dict[str, tuple[str, Json, Json, bool]] = {
    "a managed object without owner": ("ConfigMap", {"labels": MANAGED}, {}, True),
    "an object of an Agent": ("ConfigMap", {"ownerReferences": [AN_OWNER]}, {}, True),
    "an object of an MCPBinding": ("ConfigMap", {"ownerReferences": [AN_OWNER | {"kind": "MCPBinding"}]}, {}, True),
    "an object of a policy": ("ConfigMap", {"ownerReferences": [AN_OWNER | {"kind": "AgentPolicy"}]}, {}, True),
    "an object of another group": ("ConfigMap", {"ownerReferences": [AN_OWNER | {"apiVersion": "v1"}]}, {}, False),
    "an object with an agent's label": ("ConfigMap", {"labels": {"interlock.dev/agent": "x"}}, {}, False),
    "a pod with a policy's label": ("Pod", {"labels": {"interlock.dev/policy": "x"}}, {}, True),
    "a pod with a binding's label": ("Pod", {"labels": {"interlock.dev/binding": "x"}}, {}, True),
    "a ReplicaSet with an agent's label": ("ReplicaSet", {"labels": {"interlock.dev/agent": "x"}}, {}, True),
    "a relabelled pod of a test": ("Pod", {}, {"serviceAccountName": "late-0123456789-test"}, True),
    "a relabelled pod": ("Pod", {}, {"serviceAccountName": "late-0123456789-guard"}, True),
    "a pod of a user's": ("Pod", {}, {}, False),
}
"""What the operator finds: its kind, its metadata, what its pods have, and whether the operator may delete it."""


COST = "controller.kubernetes.io/pod-deletion-cost"
LED_TO: Json = {"interlock.dev/endpoint": "true"}
NOT_LED_TO: Json = {"interlock.dev/endpoint": None}
LED_TO_FALSE: Json = {"interlock.dev/endpoint": "false"}
MARKS: dict[str, tuple[Json, Json, bool]] = {
    "which goes first": (LED_TO, {"metadata": {"annotations": {COST: "-1000"}}}, True),
    "that no Service leads to it": (
        LED_TO,
        {"metadata": {"labels": NOT_LED_TO, "annotations": {COST: "-1000"}}},
        True,
    ),
    "that Services lead to it again": ({}, {"metadata": {"labels": LED_TO, "annotations": {COST: None}}}, True),
    "another value of the label": (LED_TO, {"metadata": {"labels": LED_TO_FALSE}}, False),
    "the label with another value": ({}, {"metadata": {"labels": LED_TO_FALSE}}, False),
    "another label": (LED_TO, {"metadata": {"labels": {**NOT_LED_TO, "x": "y"}}}, False),
    "a label that is there": (LED_TO, {"metadata": {"labels": {"interlock.dev/guard": None}}}, False),
    "a finalizer": (LED_TO, {"metadata": {"finalizers": ["example.com/kept"]}}, False),
    "its owner": (LED_TO, {"metadata": {"ownerReferences": [OWNER]}}, False),
    "another annotation": (LED_TO, {"metadata": {"annotations": {COST: "-1000", "x": "y"}}}, False),
    "an annotation that is there": (LED_TO, {"metadata": {"annotations": {"example.com/of-others": None}}}, False),
    "its image": (LED_TO, {"spec": {"containers": [{"name": "a", "image": "registry.example.com/b:1"}]}}, False),
}
"""The labels of a pod of a guard, changes of it, and whether the operator may make them."""
