"""What no policy can allow: the types of a pod template refuse it."""

from posixpath import dirname
from typing import Any

import pytest
from pydantic import ValidationError

from interlock.api.pod_template import Template
from interlock_contract import pod
from tests.support.pod_templates import CASES


def refusal(**members: Any) -> str:
    try:
        Template.model_validate({"image": "example/agent:1", **members})
    except ValidationError as error:
        return str(error)
    return ""


def test_each_case_of_a_field_is_a_template() -> None:
    assert [name for name, case in CASES.items() if refusal(**case.members)] == []


@pytest.mark.parametrize(
    "name",
    [
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "hostAliases",
        "hostname",
        "nodeName",
        "initContainers",
        "containers",
        "shareProcessNamespace",
        "serviceAccountName",
        "automountServiceAccountToken",
        "dnsPolicy",
        "dnsConfig",
        "schedulerName",
        "schedulingGates",
        "lifecycle",
        "volumeDevices",
        "stdin",
        "terminationMessagePath",
        "activeDeadlineSeconds",
        "resourceClaims",
        "overhead",
    ],
)
def test_what_is_not_in_the_template_does_not_exist(name: str) -> None:
    assert "Extra inputs are not permitted" in refusal(**{name: None})


@pytest.mark.parametrize(
    "members",
    [
        {"envFrom": [{"secretRef": {"name": "s"}}]},
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
    ],
)
def test_an_agent_gets_no_secret_and_no_token(members: dict[str, object]) -> None:
    assert "Extra inputs are not permitted" in refusal(**members)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a/b.txt", ""),
        ("a/..data", ""),
        *((path, "without ..") for path in ("../b", "/b", "a//b", "..data", "..data/a", "..2026")),
    ],
)
def test_a_key_of_a_config_map_is_a_file_in_its_volume(path: str, said: str) -> None:
    volume = {"name": "v", "configMap": {"name": "settings", "items": [{"key": "a", "path": path}]}}
    assert said in refusal(volumes=[volume]) if said else refusal(volumes=[volume]) == ""
    field = {"items": [{"path": path, "fieldRef": {"fieldPath": "metadata.name"}}]}
    projected = {"name": "v", "projected": {"sources": [{"downwardAPI": field}]}}
    assert said in refusal(volumes=[projected]) if said else refusal(volumes=[projected]) == ""


@pytest.mark.parametrize("key", ["a-b_c.d", ".a", ".", "..", "..a", "a/b", "a b"])
def test_what_can_be_no_key_of_a_config_map_is_refused_before_the_api_server_does(key: str) -> None:
    variable = {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": key}}}
    volume = {"name": "v", "configMap": {"name": "settings", "items": [{"key": key, "path": "a"}]}}
    for found in (refusal(env=[variable]), refusal(volumes=[volume])):
        assert found == "" if key in {"a-b_c.d", ".a"} else f'"{key}" is not a key of a ConfigMap' in found


@pytest.mark.parametrize("prefix", ["", "my-app.", "1", "a b", "A=", "a\n", "\u00c4"])
def test_variables_of_a_config_map_have_names_that_kubernetes_takes(prefix: str) -> None:
    found = refusal(envFrom=[{"prefix": prefix, "configMapRef": {"name": "s"}}])
    assert found == "" if prefix in {"", "my-app.", "1", "a b"} else "is not the beginning of names" in found


def test_two_sources_of_a_projected_volume_write_no_file_twice() -> None:
    item = {"key": "a", "path": "same"}
    field = {"path": "same", "fieldRef": {"fieldPath": "metadata.name"}}
    sources = [{"configMap": {"name": "s", "items": [item]}}, {"downwardAPI": {"items": [field]}}]
    assert "the same path same" in refusal(volumes=[{"name": "v", "projected": {"sources": sources}}])
    assert refusal(volumes=[{"name": "v", "projected": {"sources": sources[:1]}}]) == ""


SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
TEAM = {"matchLabels": {"example.com/team": "a"}}


@pytest.mark.parametrize(
    ("spreads", "said"),
    [
        ([SPREAD | {"matchLabelKeys": ["pod-template-hash"]}], ""),
        ([SPREAD | {"whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}, SPREAD], ""),
        ([SPREAD | {"matchLabelKeys": ["example.com/team"], "labelSelector": TEAM}], "minDomains needs"),
        ([SPREAD | {"minDomains": 2}], "minDomains needs"),
        ([SPREAD, SPREAD | {"maxSkew": 2}], "have the same topologyKey"),
    ],
)
def test_a_spread_that_kubernetes_refuses_is_refused(spreads: list[dict[str, Any]], said: str) -> None:
    found = refusal(topologySpreadConstraints=spreads)
    assert said in found if said else found == ""


TERM = {"topologyKey": "zone", "matchLabelKeys": ["pod-template-hash"]}
NEEDED = "need a labelSelector"
PREFERRED, REQUIRED = (f"{one}DuringSchedulingIgnoredDuringExecution" for one in ("preferred", "required"))


@pytest.mark.parametrize(
    ("affinity", "said"),
    [
        ({"podAntiAffinity": {REQUIRED: [TERM]}}, ""),
        ({"podAffinity": {REQUIRED: [TERM | {"labelSelector": TEAM}]}}, ""),
        ({"podAffinity": {REQUIRED: [TERM]}}, NEEDED),
        ({"podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": TERM}]}}, NEEDED),
        ({"podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": TERM}]}}, NEEDED),
        ({"podAntiAffinity": {REQUIRED: [TERM | {"mismatchLabelKeys": TERM["matchLabelKeys"]}]}}, NEEDED),
    ],
)
def test_keys_of_an_affinity_that_kubernetes_refuses_are_refused(affinity: dict[str, Any], said: str) -> None:
    found = refusal(affinity=affinity)
    assert said in found if said else found == ""


def test_the_message_about_a_field_names_all_that_may_be_used() -> None:
    said = refusal(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}])
    named = ("metadata.name", "metadata.uid", "spec.nodeName", "status.podIP", "status.podIPs")
    for path in named:
        assert refusal(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}]) == ""
    assert [path for path in named if f" {path}" not in said] == []


OUR_PATHS = [
    pod.CONFIG_PATH,
    pod.PIPES_PATH,
    pod.LAUNCHER_PATH,
    pod.SECRETS_PATH,
    pod.TOKEN_PATH,
    pod.AUDIT_TOKEN_PATH,
    pod.SPOOL_PATH,
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "/proc",
    "/sys/fs/cgroup",
    "/dev/shm",  # noqa: S108 - a path in the container
    "/etc/hosts",
    "/etc/resolv.conf",
    "/tmp",  # noqa: S108 - a path in the container
]


def above(path: str) -> set[str]:
    parent = dirname(path)
    return set() if parent == path else {parent, *above(parent)}


RESERVED = sorted({one for path in OUR_PATHS for one in (path, *above(path))} | {"/proc/1/root", "/etc/interlock/x"})


@pytest.mark.parametrize("path", RESERVED)
def test_no_volume_is_mounted_over_a_path_of_ours_or_above_one(path: str) -> None:
    mounts = {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": path}]}
    assert refusal(**mounts) != ""


@pytest.mark.parametrize("path", ["/data", "/tmp/cache", "/var/cache/app", "/etc/app", "/opt/interlock"])  # noqa: S108
def test_a_volume_may_be_mounted_elsewhere(path: str) -> None:
    mounts = {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": path}]}
    assert refusal(**mounts) == ""


@pytest.mark.parametrize(
    "path", ["data", "/data/", "//etc/interlock", "/data/../etc/interlock", "/./proc", "/a:b", "/a\n", "", "/$(A)"]
)
def test_a_mount_path_is_written_as_the_kernel_would(path: str) -> None:
    mounts = {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": path}]}
    assert "is not an absolute path" in refusal(**mounts)
    assert path in {"", "/$(A)", "/data/", "/a:b"} or refusal(workingDir=path) != ""


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", "$(A)"])
def test_a_sub_path_stays_in_its_volume(path: str) -> None:
    mount = {"name": "v", "mountPath": "/data", "subPath": path}
    assert refusal(volumes=[{"name": "v", "emptyDir": {}}], volumeMounts=[mount]) != ""


@pytest.mark.parametrize(
    "volume",
    [
        {"secret": {"secretName": "x"}},
        {"hostPath": {"path": "/"}},
        {"csi": {"driver": "x"}},
        {"nfs": {"server": "x", "path": "/"}},
        {"ephemeral": {}},
        {"image": {"reference": "x"}},
        {"downwardAPI": {"items": []}},
        {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        {"projected": {"sources": [{"secret": {"name": "x"}}]}},
        {"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}},
        {"projected": {"sources": [{"podCertificate": {}}]}},
        {"projected": {"sources": []}},
        {"emptyDir": {"medium": "HugePages"}},
        {},
    ],
    ids=lambda one: str(one)[:40],
)
def test_other_volumes_do_not_exist(volume: dict[str, Any]) -> None:
    assert refusal(volumes=[{"name": "v", **volume}]) != ""


@pytest.mark.parametrize("number", [0, 1, 65536, *range(7410, 7420)])
def test_no_probe_and_no_port_is_one_of_ours(number: int) -> None:
    is_ours = number != 1
    probes: list[dict[str, Any]] = [{kind: {"port": number}} for kind in ("httpGet", "tcpSocket", "grpc")]
    for probe in probes:
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert bool(refusal(**{name: probe})) is is_ours
    assert bool(refusal(ports=[{"containerPort": number}])) is is_ours


@pytest.mark.parametrize("name", ["observe", "tasks", "mcp"])
def test_no_port_has_a_name_of_ours(name: str) -> None:
    assert "names of the guard's ports" in refusal(ports=[{"name": name, "containerPort": 8080}])
    assert "names of the guard's ports" in refusal(livenessProbe={"httpGet": {"port": name}})


@pytest.mark.parametrize("name", ["7411", "-a", "a-", "a--b", "A", "a" * 16, ""])
def test_the_name_of_a_port_is_one_of_iana(name: str) -> None:
    assert refusal(ports=[{"name": name, "containerPort": 8080}]) != ""
    assert refusal(livenessProbe={"tcpSocket": {"port": name}}) != ""


@pytest.mark.parametrize(
    "probe",
    [
        {"httpGet": {"port": 80, "host": "169.254.169.254"}},
        {"tcpSocket": {"port": 80, "host": "10.96.0.1"}},
        {"httpGet": {"port": 80, "path": "http://x/"}},
        {"httpGet": {"port": 80, "path": "/a\r\nX: y"}},
        {"httpGet": {"port": 80, "httpHeaders": [{"name": "a b", "value": "c"}]}},
        {"httpGet": {"port": 80}, "exec": {"command": ["x"]}},
        {"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 86400},
        {"periodSeconds": 1},
    ],
    ids=str,
)
def test_probes_reach_their_own_pod_alone(probe: dict[str, Any]) -> None:
    assert refusal(livenessProbe=probe) != ""


@pytest.mark.parametrize("number", [0, -1, 2000, 10001, 10002, 10003, 10004, 10010, 10041, 10099, 2**31])
def test_no_user_and_no_group_is_root_or_one_of_ours(number: int) -> None:
    assert refusal(securityContext={"runAsUser": number}) != ""
    assert refusal(securityContext={"runAsGroup": number}) != ""


def test_all_users_of_interlock_are_reserved() -> None:
    ours = [value for name, value in vars(pod).items() if name.endswith(("_UID", "_GID"))]
    assert len(ours) >= 7
    assert all(refusal(securityContext={"runAsUser": one}) for one in ours)
    assert refusal(securityContext={"runAsUser": pod.FIRST_SERVER_UID + 31})


@pytest.mark.parametrize("member", ["privileged", "capabilities", "fsGroup", "supplementalGroups", "seccompProfile"])
def test_there_is_no_other_security_context(member: str) -> None:
    assert "Extra inputs are not permitted" in refusal(securityContext={member: None})


@pytest.mark.parametrize(
    "key",
    [
        "app",
        "app.kubernetes.io/name",
        "interlock.dev/agent",
        "x.interlock.dev/agent",
        "kubernetes.io/egress-bandwidth",
        "container.apparmor.security.beta.kubernetes.io/agent",
        "kubectl.kubernetes.io/default-container",
        "controller.kubernetes.io/pod-deletion-cost",
        "k8s.io/x",
        "pod-security.kubernetes.io/enforce",
        "Interlock.dev/agent",
        "interlock.dev/agent/x",
        "/agent",
        "example.com/",
        "example.com/a\n",
        "user.interlock.dev/",
        "user.interlock.dev/a\n",
        "user.interlock.dev/a/b",
        "x.user.interlock.dev/a",
        "user.kubernetes.io/a",
    ],
)
def test_reserved_keys_cannot_be_set(key: str) -> None:
    assert refusal(metadata={"labels": {key: "x"}}) != ""
    assert refusal(metadata={"annotations": {key: "x"}}) != ""


def test_users_have_keys_of_their_own() -> None:
    assert refusal(metadata={"labels": {"user.interlock.dev/team": "a"}}) == ""
    assert refusal(metadata={"annotations": {"user.interlock.dev/team": "a b"}}) == ""


def test_a_pod_can_ask_to_stay_by_the_one_annotation_of_kubernetes() -> None:
    key = "cluster-autoscaler.kubernetes.io/safe-to-evict"
    assert refusal(metadata={"annotations": {key: "false"}}) == ""
    assert refusal(metadata={"labels": {key: "false"}}) != ""


@pytest.mark.parametrize("name", ["system-node-critical", "system-cluster-critical", "interlock-kill", "A", ""])
def test_no_priority_is_that_of_kubernetes_or_of_the_kill_controller(name: str) -> None:
    assert refusal(priorityClassName=name) != ""


@pytest.mark.parametrize(
    "path",
    [
        "status.hostIP",
        "status.hostIPs",
        "spec.restartPolicy",
        "metadata.labels",
        "metadata.annotations['a'b']",
        "metadata.resourceVersion",
        "metadata.name\n",
        "",
    ],
)
def test_a_variable_has_no_other_field_of_its_pod(path: str) -> None:
    assert refusal(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}]) != ""


@pytest.mark.parametrize(
    "source",
    [
        {"secretKeyRef": {"name": "x", "key": "y"}},
        {"resourceFieldRef": {"resource": "limits.cpu"}},
        {"fileKeyRef": {"key": "x", "path": "y", "volumeName": "z"}},
        {},
    ],
    ids=str,
)
def test_a_variable_has_no_other_source(source: dict[str, Any]) -> None:
    assert refusal(env=[{"name": "A", "valueFrom": source}]) != ""


def test_a_variable_has_a_value_or_a_source() -> None:
    source = {"fieldRef": {"fieldPath": "metadata.name"}}
    assert "exactly one of value and valueFrom" in refusal(env=[{"name": "A", "value": "x", "valueFrom": source}])


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"volumeMounts": [{"name": "gone", "mountPath": "/data"}]}, "no volume is named gone"),
        ({"volumes": [{"name": "v", "emptyDir": {}}] * 2}, "two volumes have the same name"),
        ({"ports": [{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]}, "two ports have the same"),
        ({"tolerations": [{}]}, "a toleration without a key needs operator Exists"),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}, "a toleration without a key"),
        ({"tolerations": [{"key": "a", "tolerationSeconds": 5}]}, "a toleration without a key"),
        ({"nodeSelector": {"a b": "c"}}, ""),
        ({"terminationGracePeriodSeconds": 0}, ""),
        ({"terminationGracePeriodSeconds": 301}, ""),
    ],
    ids=str,
)
def test_a_template_that_kubernetes_would_refuse_is_refused(members: dict[str, Any], says: str) -> None:
    found = refusal(**members)
    assert found
    assert says in found


@pytest.mark.parametrize("member", ["namespaces", "namespaceSelector"])
def test_affinity_is_to_pods_of_the_same_namespace(member: str) -> None:
    term = {"topologyKey": "kubernetes.io/hostname", member: None}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert "Extra inputs are not permitted" in refusal(affinity=affinity)
