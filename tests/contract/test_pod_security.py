import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.deployment.children.verification_job import VerificationTarget, build_job
from interlock.deployment.children.workload import build_workloads
from tests.requirements import requirement
from tests.support.builders import GUARD_IMAGE, BindingBuilder, a_binding, a_placement, a_policy, an_agent
from tests.support.pod_security import restricted_violations
from tests.support.pod_templates import EVERY_FIELD

ROOT = Path(__file__).parents[2]
SECRET_HEADER = {"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "mail", "key": "key"}}}
PLACEMENTS = {
    "no source": a_placement(an_agent().using(), bindings=()),
    "one source": a_placement(),
    "two sources and files": a_placement(
        an_agent().using("crm", "mail").with_files({"a/b": "c"}),
        policy=a_policy().giving("triage", "mail", read=["inbox"]),
        bindings=(a_binding(), a_binding("mail").serving("mail", "development")),
    ),
    "everything that a template may ask for": a_placement(an_agent().with_template(**EVERY_FIELD)),
    "a server over HTTP": a_placement(
        bindings=(
            a_binding().over_http(
                headers=[SECRET_HEADER],
                caFrom={"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
            ),
        )
    ),
}


def pod_of(name: str) -> dict[str, Any]:
    pod: dict[str, Any] = copy.deepcopy(build_workloads(PLACEMENTS[name])[0]["spec"]["template"]["spec"])
    return pod


def manifests() -> list[dict[str, Any]]:
    found = []
    for path in sorted((ROOT / "manifests").rglob("*.yaml")):
        found += [one for one in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader) if one]
    return [one for one in found if one["kind"] == "Deployment" and "template" in one.get("spec", {})]


@requirement("deployment.pod-security")
@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_pod_of_an_agent_passes_restricted(name: str) -> None:
    assert restricted_violations(pod_of(name)) == []


@requirement("deployment.pod-security")
@pytest.mark.parametrize(
    "binding",
    [a_binding(), a_binding().over_http(headers=[SECRET_HEADER])],
    ids=["on pipes", "over HTTP"],
)
def test_every_pod_of_a_verification_passes_restricted(binding: BindingBuilder) -> None:
    job = build_job(VerificationTarget(binding.build(), 1, GUARD_IMAGE))
    assert restricted_violations(job["spec"]["template"]["spec"]) == []


@pytest.mark.parametrize("deployment", manifests(), ids=lambda found: found["metadata"]["name"])
def test_every_pod_of_the_manifests_passes_restricted(deployment: dict[str, Any]) -> None:
    if "securityContext" in deployment["spec"]["template"]["spec"]:  # a patch of an overlay names a part only
        assert restricted_violations(deployment["spec"]["template"]["spec"]) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda pod: pod.update(hostNetwork=True), "hostNetwork is on"),
        (lambda pod: pod["volumes"].append({"name": "root", "hostPath": {"path": "/"}}), "volume root is hostPath"),
        (lambda pod: pod["securityContext"].pop("runAsNonRoot"), "agent may be root"),
        (lambda pod: pod["securityContext"].pop("seccompProfile"), "agent has no seccomp profile"),
        (lambda pod: pod["containers"][0]["securityContext"].update(privileged=True), "agent privileged"),
        (lambda pod: pod["containers"][0]["securityContext"].update(runAsUser=0), "agent runs as root"),
        (lambda pod: pod["containers"][0].pop("securityContext"), "agent keeps capabilities"),
        (
            lambda pod: pod["initContainers"][0]["securityContext"].update(allowPrivilegeEscalation=True),
            "guard may escalate",
        ),
        (
            lambda pod: pod["initContainers"][0]["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
            "guard adds capabilities",
        ),
        (lambda pod: pod["initContainers"][0]["ports"][0].update(hostPort=80), "guard has host ports"),
    ],
)
def test_the_check_sees_each_way_to_break_restricted(change: Any, says: str) -> None:
    pod = pod_of("one source")
    change(pod)

    assert says in restricted_violations(pod)
