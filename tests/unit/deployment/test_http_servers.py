import json
from typing import Any

import pytest

from interlock.deployment.children.config import compile_bundle
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.placement import Placement
from interlock.deployment.plan import desired_children, has_drifted
from interlock_contract.bundle import dump_bundle, parse_bundle
from interlock_contract.http_target import HttpTarget
from tests.requirements import requirement
from tests.support.builders import a_binding, a_placement, a_policy, an_agent

CA = {"configMapKeyRef": {"name": "company-ca", "key": "ca.crt"}}


def secret_header(name: str, secret: str, key: str = "token") -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


HEADERS = [secret_header("Authorization", "mail-secret"), {"name": "X-Tenant", "value": "blue"}]
MAIL = a_binding("mail").serving("mail", "development").over_http(headers=HEADERS, caFrom=CA)
POLICY = a_policy().giving("triage", "mail", read=["inbox"])


def a_mixed_placement() -> Placement:
    """A source that runs as a sidecar and one over HTTP."""
    return a_placement(an_agent().using("crm", "mail"), policy=POLICY, bindings=(a_binding(), MAIL))


def pod_of(placement: Placement) -> Any:
    return build_workloads(placement)[0]["spec"]["template"]["spec"]


def volume_of(placement: Placement) -> Any:
    found = [one for one in pod_of(placement)["volumes"] if one["name"] == "server-secrets"]
    return found[0]["projected"]["sources"] if found else None


def target_of(placement: Placement) -> HttpTarget:
    (target,) = [source.http for source in compile_bundle(placement).sources if source.http is not None]
    return target


def test_a_source_over_http_has_no_sidecar_and_the_others_keep_theirs() -> None:
    pod = pod_of(a_mixed_placement())
    assert [one["name"] for one in pod["initContainers"]] == ["guard", "launcher", "mcp-crm"]
    assert "tmp-mcp-mail" not in [one["name"] for one in pod["volumes"]]


@requirement("http.credentials")
def test_its_secrets_are_files_that_the_guard_alone_mounts() -> None:
    pod = pod_of(a_mixed_placement())
    containers = [*pod["initContainers"], *pod["containers"]]
    mounted = {
        one["name"]: mount for one in containers for mount in one["volumeMounts"] if mount["name"] == "server-secrets"
    }
    assert mounted == {"guard": {"name": "server-secrets", "mountPath": "/run/interlock/secrets", "readOnly": True}}
    assert "mail-secret" not in json.dumps(containers), "no variable holds it"
    assert "mail-secret" not in dump_bundle(compile_bundle(a_mixed_placement())), "the bundle does not name it"


def test_the_bundle_names_exactly_the_files_that_the_volume_has() -> None:
    target, sources = target_of(a_mixed_placement()), volume_of(a_mixed_placement())
    secret, authorities = sources
    assert secret == {
        "secret": {"name": "mail-secret", "items": [{"key": "token", "path": f"mail/{target.headers[0].file}"}]}
    }
    assert authorities == {
        "configMap": {"name": "company-ca", "items": [{"key": "ca.crt", "path": f"mail/{target.ca_file}"}]}
    }
    assert (target.url, target.network) == ("https://mail.example.com/mcp", "Public")
    assert (target.headers[1].name, target.headers[1].value, target.headers[1].file) == ("X-Tenant", "blue", None)


def test_the_guard_reads_back_what_was_compiled() -> None:
    bundle = compile_bundle(a_mixed_placement())
    assert [source.transport for source in bundle.sources] == ["stdio", "http"]
    assert parse_bundle(dump_bundle(bundle)) == bundle


def test_one_key_that_is_needed_twice_is_one_file() -> None:
    headers = [secret_header("Authorization", "s"), secret_header("X-Key", "s"), secret_header("X-Other", "s", "other")]
    placement = a_placement(bindings=(a_binding().over_http(headers=headers),))
    paths = [item["path"] for source in volume_of(placement) for item in source["secret"]["items"]]
    files = [header.file for header in target_of(placement).headers]
    assert paths == [f"crm/{files[0]}", f"crm/{files[2]}"]
    assert files[0] == files[1] != files[2]


@requirement("http.credentials")
def test_a_file_is_named_after_its_key_so_that_no_server_gets_the_credential_of_another() -> None:
    def files(*headers: dict[str, Any], **more: Any) -> list[str | None]:
        target = target_of(a_placement(bindings=(a_binding().over_http(headers=list(headers), **more),)))
        return [*(header.file for header in target.headers), target.ca_file]

    one, other = secret_header("Authorization", "one"), secret_header("X-Key", "other")
    assert files(one, other)[:2] == list(reversed(files(other, one)[:2])), "their order is nothing"
    assert files(one)[0] != files(secret_header("Authorization", "two"))[0]
    assert files(one)[0] != files(secret_header("Authorization", "one", "key"))[0]
    authorities = [{"secretKeyRef": {"name": "c", "key": "k"}}, {"configMapKeyRef": {"name": "c", "key": "k"}}]
    assert len({files(caFrom=ca)[0] for ca in authorities}) == 2


def test_where_no_credential_is_needed_there_is_no_volume() -> None:
    placement = a_placement(bindings=(a_binding().over_http(headers=[{"name": "X-Tenant", "value": "blue"}]),))
    assert volume_of(placement) is None
    assert "server-secrets" not in json.dumps(pod_of(placement))
    assert volume_of(a_placement()) is None


def test_a_pod_is_replaced_for_another_secret_and_not_for_another_url() -> None:
    def pod(url: str = "https://a.example.com/", secret: str = "s") -> Any:  # noqa: S107 - the name of one
        binding = a_binding().over_http(url, headers=[secret_header("Authorization", secret)])
        return build_workloads(a_placement(bindings=(binding,)))[0]["spec"]["template"]

    assert pod() == pod(url="https://b.example.com/")
    assert pod() != pod(secret="t")  # noqa: S106 - the name of one


@pytest.mark.parametrize("part", ["volume", "mount"])
@requirement("deployment.drift")
def test_credentials_that_were_removed_are_restored(part: str) -> None:
    (desired,) = [child for child in desired_children(a_mixed_placement()) if child["kind"] == "Deployment"]
    live = json.loads(json.dumps(desired))
    assert not has_drifted(desired, live)
    pod = live["spec"]["template"]["spec"]
    if part == "volume":
        (volume,) = [one for one in pod["volumes"] if one["name"] == "server-secrets"]
        volume["projected"]["sources"][0]["secret"]["name"] = "another"
    else:
        pod["initContainers"][0]["volumeMounts"].pop()
    assert has_drifted(desired, live)
