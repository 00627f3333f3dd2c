"""Templates that try to reach what is not theirs: each is refused, or what it builds leaves everything as it was.

The policy allows every feature, since what a policy withholds is no boundary of the platform.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from interlock.action.actions_bound import check_action
from interlock.api.quantities import parse_quantity
from interlock.cluster.config_map_store import names_in
from interlock.deployment.names import Manifest, key_of
from interlock.deployment.placement import Placement
from interlock.deployment.plan import desired_children
from interlock.governance.governed import check_governance
from interlock_contract.names import SCHEDULING_DIGEST
from interlock_contract.pod import FIRST_RESERVED_PORT, GUARD_GID, LAST_RESERVED_PORT
from tests.support.builders import a_binding, a_placement, a_policy, a_separate_placement, an_agent
from tests.support.pod_security import restricted_violations
from tests.support.pod_templates import ALL_FEATURES

MOST = {"cpu": "8", "memory": "16Gi", "emptyDir": "64Gi"}
POLICY = a_policy().with_pod_template(allow=ALL_FEATURES, maxTerminationGracePeriodSeconds=300, max=MOST)
TOKEN = {"serviceAccountToken": {"path": "token", "audience": "interlock-audit"}}


def volume(**kind: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **kind}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}


def mount(path: str, name: str = "v", **members: Any) -> dict[str, Any]:
    mounts = [{"name": name, "mountPath": path, **members}]
    return {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": mounts}


def probe(**action: Any) -> dict[str, Any]:
    return {"livenessProbe": action}


def variable(**members: Any) -> dict[str, Any]:
    return {"env": [{"name": "A", **members}]}


def anti_affinity(**term: Any) -> dict[str, Any]:
    terms = [{"topologyKey": "kubernetes.io/hostname", **term}]
    return {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


def metadata(kind: str, key: str, value: str = "x") -> dict[str, Any]:
    return {"metadata": {kind: {key: value}}}


OF_AGENTS: dict[str, dict[str, Any]] = {
    "another agent's label": metadata("labels", "interlock.dev/agent", "another"),
    "the label of a guard": metadata("labels", "interlock.dev/guard", "triage"),
    "the label of an endpoint": metadata("labels", "interlock.dev/endpoint", "true"),
    "the label of an isolation": metadata("labels", "interlock.dev/isolation", "Shared"),
    "the component of a guard": metadata("labels", "app.kubernetes.io/component", "guard"),
    "the manager": metadata("labels", "app.kubernetes.io/managed-by", "helm"),
    "a Service of others": metadata("labels", "app", "web"),
    "a label in other letters": metadata("labels", "Interlock.dev/agent", "another"),
    "a label of a subdomain": metadata("labels", "x.interlock.dev/agent", "another"),
    "a key with a line break": metadata("labels", "user.interlock.dev/a\ninterlock.dev/agent"),
    "the AppArmor profile": metadata(
        "annotations", "container.apparmor.security.beta.kubernetes.io/agent", "unconfined"
    ),
    "the seccomp profile": metadata("annotations", "seccomp.security.alpha.kubernetes.io/pod", "unconfined"),
    "the digest of the files": metadata("annotations", "interlock.dev/config-digest", "0"),
    "the kill switch": metadata("annotations", "interlock.dev/kill-switch", "off"),
    "another network": metadata("annotations", "k8s.v1.cni.cncf.io/networks", "host"),
    "a sidecar with Secrets": metadata("annotations", "vault.hashicorp.com/agent-inject", "true"),
    "a proxy in front of the guard": metadata("labels", "sidecar.istio.io/inject", "true"),
    "a command in the guard": metadata("annotations", "pre.hook.backup.velero.io/container", "guard"),
    "a queue that keeps pods": metadata("labels", "kueue.x-k8s.io/queue-name", "x"),
    "an identity of the cloud": metadata("labels", "azure.workload.identity/use", "true"),
    "devices of the node": metadata("annotations", "io.kubernetes.cri-o.Devices/x", "/dev/mem"),
    "the programs that deploy the cluster": metadata("labels", "argocd.argoproj.io/instance", "interlock"),
    "their prunes": metadata("annotations", "kustomize.toolkit.fluxcd.io/prune", "enabled"),
    "a collector of metrics": metadata("annotations", "prometheus.io/scrape", "true"),
    "an unknown program": metadata("annotations", "inject.example.com/secrets", "all"),
    "a key like those for users": metadata("labels", "x.user.interlock.dev/agent", "another"),
    "a key that begins like those for users": metadata("labels", "user.interlock.dev.example.com/agent"),
    "the guard's claims": metadata("labels", "interlock.dev/has-claims", "true"),
    "memory without a limit": {"resources": {"limits": {"memory": "0"}}},
    "processors without a limit": {"resources": {"limits": {"cpu": 0}}},
    "more memory than the policy has": {"resources": {"limits": {"memory": "1Ti"}}},
    "more memory by a request": {"resources": {"requests": {"memory": "1Ti"}}},
    "more processors than the policy has": {"resources": {"limits": {"cpu": "512"}}},
    "the node's disk": volume(emptyDir={"sizeLimit": "1Pi"}),
    "the node's disk by no limit": volume(emptyDir={"sizeLimit": "0"}),
    "the node's memory": volume(emptyDir={"medium": "Memory", "sizeLimit": "1Ti"}),
    "the order of deletion": metadata("annotations", "controller.kubernetes.io/pod-deletion-cost", "9"),
    "root": {"securityContext": {"runAsUser": 0}},
    "the guard's user": {"securityContext": {"runAsUser": 10001}},
    "a server's user": {"securityContext": {"runAsUser": 10010}},
    "the group of the pipes": {"securityContext": {"runAsGroup": 2000}},
    "a group of files": {"securityContext": {"fsGroup": 2000}},
    "further groups": {"securityContext": {"supplementalGroups": [2000]}},
    "privileges": {"securityContext": {"privileged": True}},
    "capabilities": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
    "the node's files": volume(hostPath={"path": "/"}),
    "a Secret as a volume": volume(secret={"secretName": "crm-secret"}),
    "a token of the guard": volume(projected={"sources": [TOKEN]}),
    "a Secret in a projection": volume(projected={"sources": [{"secret": {"name": "crm-secret"}}]}),
    "a driver that reads Secrets": volume(csi={"driver": "secrets-store.csi.k8s.io"}),
    "a volume that it does not name": {"volumeMounts": [{"name": "pipes", "mountPath": "/v"}]},
    "the guard's token by its name": mount("/v", "guard-token"),
    "the pipes": {
        "volumes": [{"name": "pipes", "emptyDir": {}}],
        "volumeMounts": [{"name": "pipes", "mountPath": "/v"}],
    },
    "a volume of a server": mount("/v", "srv0-v"),
    "the folder of its configuration": mount("/etc/interlock"),
    "a folder above its configuration": mount("/etc"),
    "a file of its configuration": mount("/etc/interlock/mcp.json"),
    "the names of hosts": mount("/etc/hosts"),
    "the resolver": mount("/etc/resolv.conf"),
    "tokens": mount("/var/run/secrets/kubernetes.io/serviceaccount"),
    "tokens by another way": mount("/run/secrets"),
    "processes": mount("/proc/1"),
    "the kernel": mount("/sys/fs/cgroup"),
    "devices": mount("/dev"),
    "the root": mount("/"),
    "a path that climbs": mount("/v/../etc/interlock"),
    "a folder that climbs": mount("/v", subPath="../../pipes"),
    "a folder by a variable": mount("/v", subPathExpr="$(A)"),
    "mounts of the node": mount("/v", mountPropagation="Bidirectional"),
    "a probe of the guard": probe(httpGet={"port": 7411, "path": "/metrics"}),
    "a task by a probe": probe(httpGet={"port": 7412}),
    "the guard's port by its name": probe(tcpSocket={"port": "tasks"}),
    "the metadata service by a probe": probe(httpGet={"port": 80, "host": "169.254.169.254"}),
    "a longer end by a probe": probe(exec={"command": ["x"]}, terminationGracePeriodSeconds=86400),
    "the port of tasks": {"ports": [{"containerPort": 7412}]},
    "the name of the port of tasks": {"ports": [{"name": "tasks", "containerPort": 8080}]},
    "a port of the node": {"ports": [{"containerPort": 8080, "hostPort": 80}]},
    "a variable of Interlock": {"env": [{"name": "INTERLOCK_MCP_CONFIG", "value": "/v"}]},
    "a Secret in a variable": variable(valueFrom={"secretKeyRef": {"name": "crm-secret", "key": "token"}}),
    "another agent's bundle": volume(configMap={"name": "other-0123456789"}),
    "its own bundle by a key": variable(
        valueFrom={"configMapKeyRef": {"name": "triage-0123456789", "key": "bundle.json", "optional": True}}
    ),
    "variables of another agent": {"envFrom": [{"configMapRef": {"name": "other-0123456789-mapa"}}]},
    "a result of a verification": volume(
        projected={"sources": [{"configMap": {"name": "crm-verify-result", "optional": True}}]}
    ),
    "a ConfigMap by another path": variable(
        valueFrom={"configMapKeyRef": {"name": "../../other/configmaps/x", "key": "a", "optional": True}}
    ),
    "another agent's claim in a list": volume(
        persistentVolumeClaim={
            "claims": [{"environment": one, "claimName": f"other,{one}"} for one in ("development", "production")]
        }
    ),
    "an address of the node": variable(valueFrom={"fieldRef": {"fieldPath": "status.hostIP"}}),
    "nodes without other agents": anti_affinity(labelSelector={"matchLabels": {"interlock.dev/agent": "another"}}),
    "nodes without any pod": anti_affinity(labelSelector={}),
    "nodes without pods of other tenants": anti_affinity(namespaceSelector={}),
    "a node": {"nodeName": "control-plane"},
    "the priority of the system": {"priorityClassName": "system-node-critical"},
    "the priority of the kill controller": {"priorityClassName": "interlock-kill"},
    "an end that outlasts a kill": {"terminationGracePeriodSeconds": 86400},
    "a forced end": {"terminationGracePeriodSeconds": 0},
    "the node's network": {"hostNetwork": True},
    "the node's processes": {"hostPID": True},
    "processes of the guard": {"shareProcessNamespace": True},
    "names of hosts of its own": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["guard"]}]},
    "a resolver of its own": {"dnsPolicy": "Default"},
    "the guard's identity": {"serviceAccountName": "triage-0123456789-guard"},
    "a mounted token": {"automountServiceAccountToken": True},
    "containers before the guard": {"initContainers": [{"name": "x", "image": "x"}]},
    "a hook": {"lifecycle": {"preStop": {"exec": {"command": ["sleep", "86400"]}}}},
    "a container's name": {"name": "guard"},
    "everything at the same time": {
        **mount("/etc/app"),
        **anti_affinity(labelSelector={}),
        **metadata("labels", "user.interlock.dev/interlock.dev", "x"),
        "resources": {"requests": {"cpu": "0", "memory": "0"}},
        **probe(exec={"command": ["sh", "-c", "kill -9 -1"]}),
        "env": [{"name": "HTTP_PROXY", "value": "http://10.0.0.1:3128"}, {"name": "LD_PRELOAD", "value": "/v/x.so"}],
        "securityContext": {"runAsUser": 65534, "runAsGroup": 65534},
        "terminationGracePeriodSeconds": 300,
        "runtimeClassName": "runc",
        "imagePullSecrets": [{"name": "triage-eea1934347-key"}],
    },
}

OF_SERVERS: dict[str, dict[str, Any]] = {
    "the guard's user": {"securityContext": {"runAsUser": 10001}},
    "the user of the agent": {"securityContext": {"runAsUser": 10002}},
    "the group of the agent": {"securityContext": {"runAsUser": 20000, "runAsGroup": 10002}},
    "the pipes of other servers": mount("/run/interlock/pipes/mail"),
    "the launcher": mount("/run/interlock/launcher"),
    "keys of HTTP servers": mount("/run/interlock/secrets"),
    "records": mount("/var/lib/interlock/spool"),
    "the guard's token": mount("/v", "guard-token"),
    "a Secret as a volume": volume(secret={"secretName": "other"}),
    "a token": volume(projected={"sources": [TOKEN]}),
    "the guard's bundle": volume(configMap={"name": "triage-0123456789"}),
    "the guard's startup": {"startupProbe": {"exec": {"command": ["true"]}}},
    "the guard's liveness": {"livenessProbe": {"exec": {"command": ["true"]}}},
    "a readiness by the network": {"readinessProbe": {"httpGet": {"port": 7411}}},
    "its own pull of the guard's image": {"imagePullPolicy": "Never"},
    "a port": {"ports": [{"containerPort": 7411}]},
    "a label": metadata("labels", "interlock.dev/agent", "another"),
    "a variable of Interlock": {"env": [{"name": "INTERLOCK_BUNDLE", "value": "x"}]},
    "the pipes of all servers": mount("/run/interlock"),
    "memory without a limit": {"resources": {"limits": {"memory": 0}}},
    "more memory than the policy has": {"resources": {"limits": {"memory": "1Ti"}}},
    "the node's disk": volume(emptyDir={"sizeLimit": "1Pi"}),
    "everything at the same time": {
        **mount("/etc/app"),
        "workingDir": "/run/interlock/launcher",
        "readinessProbe": {"exec": {"command": ["false"]}},
        "securityContext": {"runAsUser": 65534},
        "tolerations": [{"operator": "Exists"}],
    },
}


def attempts() -> Iterator[Any]:
    for name, template in OF_AGENTS.items():
        yield pytest.param(template, {}, id=f"agent: {name}")
    for name, server in OF_SERVERS.items():
        yield pytest.param({}, server, id=f"server: {name}")
    yield pytest.param(
        {"securityContext": {"runAsUser": 20000}},
        {"securityContext": {"runAsUser": 20000}},
        id="both: one user",
    )


def build(template: dict[str, Any], server: dict[str, Any]) -> tuple[Placement, ...]:
    """Return the placements of agent and binding, none if anything refuses them."""
    agent, binding = an_agent().with_template(**template), a_binding().with_server(**server)
    try:
        built, governing, bound = agent.build(), POLICY.build(), binding.build()
    except ValidationError:
        return ()
    if check_governance(built, governing) or check_action(built, governing, (bound,)):
        return ()
    made = (make(agent, policy=POLICY, bindings=(binding,)) for make in (a_placement, a_separate_placement))
    return tuple(replace(one, revision="0" * 64, agent_key="key") for one in made)


@pytest.mark.parametrize(("template", "server"), list(attempts()))
def test_a_hostile_template_reaches_nothing(template: dict[str, Any], server: dict[str, Any]) -> None:
    for hostile, plain in zip(build(template, server), build({}, {}), strict=False):
        found, before = ({key_of(one): one for one in desired_children(side)} for side in (hostile, plain))
        assert found.keys() == before.keys()
        for key, manifest in found.items():
            if key.kind == "Deployment":
                check_deployment(manifest, before[key])
            elif key.kind != "Lease":
                assert manifest == before[key]


def test_the_plain_objects_are_built_so_that_hostile_ones_are_compared() -> None:
    assert len(build({}, {})) == 2
    assert len(list(attempts())) >= 60


def check_deployment(manifest: Manifest, plain: Manifest) -> None:
    template, before = manifest["spec"]["template"], plain["spec"]["template"]
    for one in (manifest, plain):
        one["metadata"]["annotations"].pop(SCHEDULING_DIGEST)  # which is of the template, and for the operator alone
    assert manifest["metadata"] == plain["metadata"]
    assert {**manifest["spec"], "template": None} == {**plain["spec"], "template": None}
    for kind in ("labels", "annotations"):
        found = template["metadata"][kind]
        assert before["metadata"][kind].items() <= found.items()
        assert all(key.startswith("user.interlock.dev/") for key in found.keys() - before["metadata"][kind].keys())
    check_pod(template["spec"], before["spec"])
    allowed = POLICY.build().spec.pod_template.max_termination_grace_period_seconds
    assert template["spec"]["terminationGracePeriodSeconds"] in (1, allowed)


CHOSEN = frozenset(
    (
        "nodeSelector",
        "tolerations",
        "affinity",
        "topologySpreadConstraints",
        "priorityClassName",
        "imagePullSecrets",
        "runtimeClassName",
        "terminationGracePeriodSeconds",
    )
)


HOOK = {"preStop": {"httpGet": {"path": "/pre-stop", "port": 7411}}}


def check_pod(pod: dict[str, Any], plain: dict[str, Any]) -> None:
    containers = ("initContainers", "containers")
    assert restricted_violations(pod) == []
    assert pod.keys() - CHOSEN == plain.keys() - CHOSEN
    for name in plain.keys() - CHOSEN - {*containers, "volumes"}:
        assert pod[name] == plain[name]
    assert pod["volumes"][: len(plain["volumes"])] != [] or plain["volumes"] == []
    sizes = [parse_quantity(one["emptyDir"]["sizeLimit"]) for one in pod["volumes"] if "emptyDir" in one]
    assert all(0 < size <= parse_quantity(MOST["emptyDir"]) for size in sizes)
    ours = {one["name"]: one for one in plain["volumes"]}
    theirs = [one for one in pod["volumes"] if one["name"] not in ours]
    assert [one for one in pod["volumes"] if one["name"] in ours] == plain["volumes"]
    assert all(one["name"].startswith(("user-", "srv0-")) for one in theirs)
    kinds = ("downwardAPI", "configMap")
    assert all(
        one.keys() - {"name"} == {"emptyDir"} or any(kind in json.dumps(one) for kind in kinds) for one in theirs
    )
    assert all(re.fullmatch(r"triage-[0-9a-f]{10}-map[a-p]?", name) for name in names_in(pod) - names_in(plain))
    found = {one["name"]: one for name in containers for one in pod.get(name, ())}
    before = {one["name"]: one for name in containers for one in plain.get(name, ())}
    assert list(found) == list(before)
    for name, container in found.items():
        # What follows the grace period, which the policy allows: one variable and the hook of the guard, and all probes
        # that end.
        if name == "guard":
            assert container.pop("lifecycle", HOOK) == HOOK
            container["env"] = [one for one in container["env"] if one["name"] != "INTERLOCK_GRACE_SECONDS"]
        for probe in ("livenessProbe", "startupProbe"):
            assert container.get(probe, {}).pop("terminationGracePeriodSeconds", 1) == 1
        if name not in {"agent", "mcp-crm"}:
            assert container == before[name]
        else:
            check_container(container, before[name])
    users = [one["securityContext"]["runAsUser"] for one in found.values()]
    assert len(set(users)) == len(users)
    check_affinity(pod.get("affinity", {}))


def check_container(container: dict[str, Any], plain: dict[str, Any]) -> None:
    security = container["securityContext"]
    is_server = container["name"] != "agent"
    assert {**security, "runAsUser": 0, "runAsGroup": 0} == {
        **plain["securityContext"],
        "runAsUser": 0,
        "runAsGroup": 0,
    }
    assert security["runAsUser"] > 0
    for kind, most in (("cpu", MOST["cpu"]), ("memory", MOST["memory"])):
        assert 0 < parse_quantity(container["resources"]["limits"][kind]) <= parse_quantity(most)
    assert (security["runAsGroup"] == GUARD_GID) is is_server
    assert container.get("command") == plain.get("command")
    mounts, own = container["volumeMounts"], len(plain["volumeMounts"])
    assert mounts[:own] == plain["volumeMounts"]
    assert all(one["name"].startswith("srv0-" if is_server else "user-") for one in mounts[own:])
    kept = {one["mountPath"] for one in plain["volumeMounts"]}
    assert all(f"{path}/" != f"{one['mountPath']}/" for one in mounts[own:] for path in kept)
    variables = {one["name"]: one for one in container.get("env", ())}
    assert all(variables[one["name"]] == one for one in plain.get("env", ()))
    assert "secretKeyRef" not in json.dumps([one for one in variables.values() if one not in plain.get("env", ())])
    for kind in ("startupProbe", "livenessProbe"):
        assert container.get(kind) == plain.get(kind) or not is_server
    ports = [
        value for name in ("startupProbe", "livenessProbe", "readinessProbe") for value in ports_of(container.get(name))
    ]
    ports += [port["containerPort"] for port in container.get("ports", ())]
    assert is_server or not any(FIRST_RESERVED_PORT <= port <= LAST_RESERVED_PORT for port in ports)


def ports_of(probe: dict[str, Any] | None) -> list[int]:
    actions = [one for one in (probe or {}).values() if isinstance(one, dict)]
    return [one["port"] for one in actions if isinstance(one.get("port"), int)]


def check_affinity(affinity: dict[str, Any]) -> None:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    for term in affinity.get("podAntiAffinity", {}).get(required, ()):
        assert term["labelSelector"]["matchLabels"]["interlock.dev/agent"] == "triage"
        assert term.keys().isdisjoint({"namespaces", "namespaceSelector"})
