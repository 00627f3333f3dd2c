import base64
import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from interlock.deployment.children.verification_job import VerificationTarget, build_job
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.placement import Placement
from interlock.deployment.plan import desired_children
from interlock_contract.addresses import refuse_address
from interlock_contract.names import AGENT_LABEL
from interlock_contract.pod import SPOOL_BYTES
from interlock_guard.settings import read_settings
from tests.requirements import requirement
from tests.support.builders import a_binding, a_placement, a_policy, a_stage, an_agent

SECRET = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "crm-secret", "key": "token"}}}]
CRM = a_binding().with_server(env=[*SECRET, {"name": "MODE", "value": "sandbox"}], args=["--fast"])
SCRAPERS = {"namespaceSelector": {"matchLabels": {"interlock.dev/scrape": "allowed"}}}
MAIL = a_binding("mail").serving("mail", "development")
POLICY = a_policy().giving("triage", "mail", read=["inbox"])

GUARD_ENVIRONMENT = {
    "INTERLOCK_AGENT": "triage",
    "INTERLOCK_NAMESPACE": "agents",
    "INTERLOCK_POD": "triage-0123456789-abcde",
    "INTERLOCK_BUNDLE": "triage-0123456789",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
}


def a_full_placement() -> Placement:
    agent = an_agent().using("crm", "mail").with_files({"prompts/system.md": "Be kind.", "b.txt": ""})
    return a_placement(agent, policy=POLICY, bindings=(CRM, MAIL))


def pod_of(placement: Placement) -> Any:
    return build_workloads(placement)[0]["spec"]["template"]["spec"]


def containers_of(placement: Placement) -> dict[str, Any]:
    pod = pod_of(placement)
    return {one["name"]: one for one in (*pod["initContainers"], *pod["containers"])}


def mounts(container: Any) -> dict[str, str]:
    return {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}


@requirement("deployment.children")
def test_a_placement_wants_one_child_of_each_kind_and_two_config_maps_and_services() -> None:
    kinds = sorted(child["kind"] for child in desired_children(a_full_placement()))

    assert kinds == [
        "ConfigMap",
        "ConfigMap",
        "Deployment",
        "Lease",
        "NetworkPolicy",
        "Role",
        "RoleBinding",
        "Secret",
        "Service",
        "Service",
        "ServiceAccount",
    ]


@requirement("deployment.owned")
def test_every_child_stands_in_the_agents_namespace_and_is_owned_by_it() -> None:
    for child in desired_children(a_placement(an_agent().in_namespace("elsewhere"))):
        (owner,) = child["metadata"]["ownerReferences"]
        assert child["metadata"]["namespace"] == "elsewhere"
        assert (owner["apiVersion"], owner["kind"], owner["name"]) == ("interlock.dev/v1alpha1", "Agent", "triage")
        assert (owner["uid"], owner["controller"]) == ("uid-of-triage", True)
        assert child["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "interlock"
        assert child["metadata"]["labels"][AGENT_LABEL] == "triage"


def test_guard_servers_and_agent_start_in_this_order() -> None:
    pod = pod_of(a_full_placement())

    assert [one["name"] for one in pod["initContainers"]] == ["guard", "launcher", "mcp-crm", "mcp-mail"]
    assert [one["name"] for one in pod["containers"]] == ["agent"]
    sidecars = [one for one in pod["initContainers"] if one["name"] != "launcher"]
    assert {one["restartPolicy"] for one in sidecars} == {"Always"}
    assert all("startupProbe" in one for one in sidecars)


def test_every_container_has_a_uid_of_its_own_and_the_agent_a_group_of_its_own() -> None:
    security = [one["securityContext"] for one in containers_of(a_full_placement()).values()]

    assert [one["runAsUser"] for one in security] == [10001, 10004, 10010, 10011, 10002]
    assert [one["runAsGroup"] for one in security] == [2000, 10004, 2000, 2000, 10002]
    assert all(one["readOnlyRootFilesystem"] for one in security)
    assert "fsGroup" not in pod_of(a_full_placement())["securityContext"]
    assert pod_of(a_full_placement())["securityContext"]["supplementalGroupsPolicy"] == "Strict"


@requirement("deployment.no-secret-in-agent")
def test_the_agents_container_sees_no_secret_no_token_and_no_pipe() -> None:
    agent = containers_of(a_full_placement())["agent"]

    assert mounts(agent) == {"config": "/etc/interlock", "tmp-agent": "/tmp"}  # noqa: S108 - a path in the container
    assert "valueFrom" not in json.dumps(agent)
    assert "crm-secret" not in json.dumps(agent)
    assert "envFrom" not in agent


def test_no_kubernetes_token_is_mounted_but_the_guards_own() -> None:
    placement = a_full_placement()
    pod = pod_of(placement)
    account = next(child for child in desired_children(placement) if child["kind"] == "ServiceAccount")
    with_token = [volume["name"] for volume in pod["volumes"] if "serviceAccountToken" in json.dumps(volume)]

    assert pod["automountServiceAccountToken"] is False
    assert account["automountServiceAccountToken"] is False
    assert with_token == ["guard-token"]
    assert [name for name, one in containers_of(placement).items() if "guard-token" in mounts(one)] == ["guard"]


def test_only_the_server_that_names_a_secret_gets_it() -> None:
    containers = containers_of(a_full_placement())

    assert [name for name, one in containers.items() if "crm-secret" in json.dumps(one)] == ["mcp-crm"]
    assert containers["mcp-crm"]["env"] == [*SECRET, {"name": "MODE", "value": "sandbox"}]


def test_pipes_are_mounted_by_the_guard_and_the_servers_alone() -> None:
    containers = containers_of(a_full_placement())

    assert [name for name, one in containers.items() if "pipes" in mounts(one)] == ["guard", "mcp-crm", "mcp-mail"]


def test_servers_share_the_launcher_alone_and_see_none_of_each_others_pipes() -> None:
    containers = containers_of(a_full_placement())
    crm, mail = (containers[name] for name in ("mcp-crm", "mcp-mail"))

    assert set(mounts(crm)) & set(mounts(mail)) == {"pipes", "launcher"}
    for server, source in ((crm, "crm"), (mail, "mail")):
        (pipes,) = (one for one in server["volumeMounts"] if one["name"] == "pipes")
        assert pipes == {"name": "pipes", "mountPath": f"/run/interlock/pipes/{source}", "subPath": source}
    (all_pipes,) = (one for one in containers["guard"]["volumeMounts"] if one["name"] == "pipes")
    assert all_pipes == {"name": "pipes", "mountPath": "/run/interlock/pipes"}


def test_the_launcher_is_copied_once_from_the_guards_image_and_only_its_own_container_can_change_it() -> None:
    containers = containers_of(a_full_placement())
    launcher = containers["launcher"]
    ways = {
        name: mount.get("readOnly", False)
        for name, one in containers.items()
        for mount in one["volumeMounts"]
        if mount["name"] == "launcher"
    }

    assert launcher["image"] == a_full_placement().guard_image
    assert launcher["command"][-2:] == ["/opt/interlock/launch", "/run/interlock/launcher/launch"]
    assert "restartPolicy" not in launcher, "it ends before the first server starts"
    assert (mounts(launcher), "env" in launcher) == ({"launcher": "/run/interlock/launcher"}, False)
    assert ways == {"launcher": False, "mcp-crm": True, "mcp-mail": True}


def test_a_verification_starts_its_server_with_the_same_launcher() -> None:
    pod = build_job(VerificationTarget(CRM.build(), 1, "guard:1"))["spec"]["template"]["spec"]
    launcher, pipes, server = pod["initContainers"]
    volume = next(one for one in pod["volumes"] if one["name"] == "launcher")

    assert (launcher["name"], pipes["name"], server["name"]) == ("launcher", "pipes", "mcp-crm")
    assert launcher == {**containers_of(a_full_placement())["launcher"], "image": "guard:1"}
    assert server["command"] == containers_of(a_full_placement())["mcp-crm"]["command"]
    assert server["volumeMounts"] == containers_of(a_full_placement())["mcp-crm"]["volumeMounts"]
    assert volume == next(one for one in pod_of(a_full_placement())["volumes"] if one["name"] == "launcher")
    without = build_job(VerificationTarget(a_binding().over_http().build(), 1, "guard:1"))["spec"]["template"]["spec"]
    assert without["initContainers"] == []


def test_a_pod_without_stdio_servers_has_no_launcher() -> None:
    pod = pod_of(a_placement(bindings=(a_binding().over_http(),)))

    assert [one["name"] for one in pod["initContainers"]] == ["guard"]
    assert "launcher" not in [volume["name"] for volume in pod["volumes"]]


@requirement("deployment.no-shell")
def test_a_server_is_joined_to_its_own_pipes_and_no_shell_reads_its_words() -> None:
    nasty = a_binding().with_server(command=["crm; rm -rf /", "$(id)"], args=["`id`", "a b"])

    server = containers_of(a_placement(bindings=(nasty,)))["mcp-crm"]

    assert server["command"] == [
        "/run/interlock/launcher/launch",
        "/run/interlock/pipes/crm",
        "crm; rm -rf /",
        "$(id)",
    ]
    assert server["args"] == ["`id`", "a b"]
    assert server["startupProbe"]["httpGet"] == {"path": "/ready/crm", "port": 7411}


def test_an_agent_gets_its_identity_and_placement() -> None:
    scoped = a_stage("one-region", "production", scope={"region": ["eu-west", "eu-north"]})
    agent = an_agent().with_template(env=[{"name": "LEVEL", "value": "INFO"}]).with_stages(scoped)

    variables = {one["name"]: one["value"] for one in containers_of(a_placement(agent))["agent"]["env"]}

    assert variables == {
        "LEVEL": "INFO",
        "INTERLOCK_AGENT": "triage",
        "INTERLOCK_ENVIRONMENT": "production",
        "INTERLOCK_STAGE": "one-region",
        "INTERLOCK_SCOPE": '[{"dimension":"region","values":["eu-west","eu-north"]}]',
        "INTERLOCK_SCOPE_FILE": "/etc/interlock/scope.json",
        "INTERLOCK_MCP_CONFIG": "/etc/interlock/mcp.json",
        "INTERLOCK_FILES": "/etc/interlock/files",
    }


def test_without_a_limit_the_scope_is_an_empty_list() -> None:
    variables = {one["name"]: one["value"] for one in containers_of(a_placement())["agent"]["env"]}

    assert variables["INTERLOCK_SCOPE"] == "[]"


def test_an_agent_finds_its_sources_and_files_at_the_given_paths() -> None:
    placement = a_full_placement()
    children = {child["metadata"]["name"]: child for child in desired_children(placement)}
    volume = next(volume for volume in pod_of(placement)["volumes"] if volume["name"] == "config")
    laid_out = {}
    for source in volume["projected"]["sources"]:
        for kind, projected in source.items():
            found = children[projected["name"]]
            assert found["kind"].lower() == kind.lower()
            laid_out |= {item["path"]: found["data"][item["key"]] for item in projected["items"]}

    assert laid_out["files/prompts/system.md"] == "Be kind."
    assert laid_out["files/b.txt"] == ""
    base = f"http://127.0.0.1:7410/{placement.agent_key}"
    assert json.loads(base64.b64decode(laid_out["mcp.json"])) == {
        "mcpServers": {
            "crm": {"type": "http", "url": f"{base}/mcp/crm"},
            "mail": {"type": "http", "url": f"{base}/mcp/mail"},
        }
    }


def test_command_and_arguments_replace_the_images_only_where_they_are_given() -> None:
    plain = containers_of(a_placement())["agent"]
    given = containers_of(a_placement(an_agent().with_template(command=["run"], args=["--now"])))["agent"]

    assert {"command", "args"} & set(plain) == set()
    assert (given["command"], given["args"]) == (["run"], ["--now"])


def test_a_pod_ends_within_the_grace_period_that_a_kill_counts_on() -> None:
    assert pod_of(a_placement())["terminationGracePeriodSeconds"] == 1


def test_the_guard_knows_its_agent_and_its_bundle() -> None:
    placement = a_placement()
    bundle = next(child for child in desired_children(placement) if "bundle.json" in child.get("data", {}))
    variables = {one["name"]: one.get("value") for one in containers_of(placement)["guard"]["env"]}

    assert variables == {
        "INTERLOCK_AGENT": "triage",
        "INTERLOCK_NAMESPACE": "agents",
        "INTERLOCK_POD": None,
        "INTERLOCK_BUNDLE": bundle["metadata"]["name"],
    }


def test_the_guard_learns_its_pods_name_from_the_kubelet() -> None:
    pod = next(one for one in containers_of(a_placement())["guard"]["env"] if one["name"] == "INTERLOCK_POD")

    assert pod["valueFrom"] == {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}


def test_the_spool_is_the_guards_alone_and_larger_than_the_guard_lets_it_grow() -> None:
    placement = a_full_placement()
    spool = next(one for one in pod_of(placement)["volumes"] if one["name"] == "spool")

    assert [name for name, one in containers_of(placement).items() if "spool" in mounts(one)] == ["guard"]
    assert mounts(containers_of(placement)["guard"])["spool"] == str(read_settings(GUARD_ENVIRONMENT).spool)
    assert parse_quantity(spool["emptyDir"]["sizeLimit"]) > SPOOL_BYTES


def test_with_a_collector_the_guard_has_its_address_and_a_token_that_is_good_for_nothing_else() -> None:
    placement = replace(a_full_placement(), audit_url="http://interlock-audit.interlock-system.svc:7420")
    guard, pod = containers_of(placement)["guard"], pod_of(placement)
    token = next(one for one in pod["volumes"] if one["name"] == "audit-token")["projected"]["sources"]

    assert {"name": "INTERLOCK_AUDIT_URL", "value": placement.audit_url} in guard["env"]
    assert token == [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600, "audience": "interlock-audit"}}
    ]
    assert [name for name, one in containers_of(placement).items() if "audit-token" in mounts(one)] == ["guard"]
    settings = read_settings(GUARD_ENVIRONMENT)
    assert mounts(guard)["audit-token"] == str(settings.audit_token.parent)


def test_without_a_collector_there_is_no_token_for_it() -> None:
    placement = a_full_placement()

    assert placement.audit_url == ""
    assert "interlock-audit" not in json.dumps(pod_of(placement))


@requirement("deployment.guard-role")
def test_a_guard_may_read_its_own_agent_and_bundle_and_write_to_its_lease_and_nothing_else() -> None:
    placement = a_placement()
    children = {child["kind"]: child for child in desired_children(placement)}
    bundle = next(child for child in desired_children(placement) if "bundle.json" in child.get("data", {}))

    assert children["Role"]["rules"] == [
        {
            "apiGroups": ["interlock.dev"],
            "resources": ["agents"],
            "resourceNames": ["triage"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [bundle["metadata"]["name"]],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [children["Lease"]["metadata"]["name"]],
            "verbs": ["patch"],
        },
    ]
    account = children["ServiceAccount"]["metadata"]["name"]
    assert children["RoleBinding"]["roleRef"]["name"] == children["Role"]["metadata"]["name"]
    assert children["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "agents"}]
    assert pod_of(placement)["serviceAccountName"] == account


def test_selectors_find_the_placements_own_pods_and_no_others() -> None:
    agent = an_agent().with_stages(a_stage("staging"), a_stage("everywhere", "production"))
    deployments = [build_workloads(a_placement(agent, stage=stage))[0] for stage in (0, 1)]
    policies = [
        next(child for child in desired_children(a_placement(agent, stage=stage)) if child["kind"] == "NetworkPolicy")
        for stage in (0, 1)
    ]

    for index, (deployment, policy) in enumerate(zip(deployments, policies, strict=True)):
        wanted = deployment["spec"]["selector"]["matchLabels"]
        own, other = (deployments[at]["spec"]["template"]["metadata"]["labels"] for at in (index, 1 - index))
        assert policy["spec"]["podSelector"]["matchLabels"] == wanted
        assert wanted.items() <= own.items()
        assert not wanted.items() <= other.items()


def test_the_network_policy_admits_only_probes_and_nothing_out_to_cloud_metadata() -> None:
    policy = next(child for child in desired_children(a_placement()) if child["kind"] == "NetworkPolicy")["spec"]
    excepted = {cidr for peer in policy["egress"][0]["to"] for cidr in peer.get("ipBlock", {}).get("except", [])}

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"from": [SCRAPERS], "ports": [{"port": 7411, "protocol": "TCP"}]}]
    assert excepted == {
        *("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"),
        *("fe80::/10", "fd00:ec2::/32", "fd20:ce::/32", "64:ff9b:1::/48", "2002::/16", "2001::/32"),
        *("fd00:c1::a9fe:a9fe/128", "fd00:a9fe:a9fe::1/128", "fd00:42::42/128", "fd00:100::100:200/128"),
        *("64:ff9b::a9fe:0/112", "64:ff9b::a83f:8110/128", "64:ff9b::6464:64c8/128", "64:ff9b::c000:c0/128"),
    }
    assert all(refuse_address(str(ip_network(cidr)[0]), "Private") for cidr in excepted), "the guard dials none either"


def test_pods_roll_when_files_or_sources_change_and_at_nothing_else() -> None:
    def digest(placement: Placement) -> str:
        """Return what of a pod template tells of files and sources: a digest, and the name of the agent's Secret."""
        template = build_workloads(placement)[0]["spec"]["template"]
        config = next(volume for volume in template["spec"]["volumes"] if volume["name"] == "config")
        secret = config["projected"]["sources"][0]["secret"]["name"]
        return f"{template['metadata']['annotations']['interlock.dev/config-digest']} {secret}"

    same = digest(a_placement(an_agent().with_replicas(3).for_purpose("Another")))
    assert digest(a_placement()) == same
    assert digest(a_placement(an_agent().with_files({"a": "b"}))) != same
    assert digest(a_placement(bindings=(a_binding().serving("crm2", "development"),))) != same
