"""The tests of a stage: for each a Job that runs once, and for all of them a ServiceAccount and a NetworkPolicy.

A test's image comes from the agent's author, so its pod is locked down like an agent's: no token, no rights, no DNS, a
read-only root. It reaches the guards of the placement that it tests, at the port of tasks, and nothing else.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from interlock.api.gates import StageTest
from interlock.api.shared_types import parse_duration
from interlock.deployment.children.pod_parts import (
    LAST_LINES,
    build_tmp_volume,
    container_security,
    pod_security,
)
from interlock.deployment.children.resources import build_resources, defaults_of
from interlock.deployment.children.scheduling import build_node_choice, build_pull_secrets
from interlock.deployment.names import (
    AGENT_POD,
    GUARD_POD,
    STAGE_TEST,
    Manifest,
    build_placement_child,
    placement_labels,
    selector,
    stage_test_account,
    stage_test_job,
)
from interlock.deployment.placement import Placement
from interlock_contract.kill import GRACE_SECONDS
from interlock_contract.names import AGENT_LABEL, APP_COMPONENT_LABEL, GUARD_LABEL, REVISION_LABEL, STAGE_LABEL
from interlock_contract.pod import TASK_PORT

TEST_CONTAINER: Final = "test"
TASK_URL: Final = "INTERLOCK_TASK_URL"
"""Variable of a test: the URL at which the stage takes tasks."""
START_TIME: Final = timedelta(minutes=5)
"""How long a Job may take beyond its test's deadline, which begins when a node has taken its pod."""
_TMP: Final = "tmp-test"


@dataclass(frozen=True)
class StageService:
    """The Service of the stage that is tested.

    Attributes:
        name: Its name.
        addresses: Its cluster IPs. Tests have no DNS and find it in /etc/hosts.
    """

    name: str
    addresses: tuple[str, ...]


def build_test_support(placement: Placement) -> tuple[Manifest, ...]:
    """Return what the tests of a placement share: a ServiceAccount without rights and a NetworkPolicy."""
    name = stage_test_account(placement)
    guards = selector(placement, GUARD_POD if placement.is_separate else AGENT_POD)
    to_guards = {
        "to": [{"podSelector": {"matchLabels": {**guards, GUARD_LABEL: placement.agent.metadata.name}}}],
        "ports": [{"port": TASK_PORT, "protocol": "TCP"}],
    }
    spec = {
        "podSelector": {"matchLabels": stage_test_selector(placement)},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [to_guards],
    }
    return (
        build_placement_child(placement, "v1", "ServiceAccount", name, STAGE_TEST, automountServiceAccountToken=False),
        build_placement_child(placement, "networking.k8s.io/v1", "NetworkPolicy", name, STAGE_TEST, spec=spec),
    )


def stage_test_selector(placement: Placement) -> dict[str, str]:
    """Return the labels that select the pods of a placement's tests and no others."""
    labels = placement_labels(placement, STAGE_TEST)
    return {key: labels[key] for key in (AGENT_LABEL, APP_COMPONENT_LABEL, STAGE_LABEL, REVISION_LABEL)}


def build_test_job(placement: Placement, test: StageTest, number: int, service: StageService) -> Manifest:
    """Return the Job of a test. It is never changed and never repeated, and stays until the placement goes.

    Its pod's own deadline ends the test and keeps the pod with its exit code and log. The Job's deadline would delete
    the pod, so it comes later and only ends a test whose pod never started.

    Args:
        placement: The placement that is tested.
        test: The test.
        number: The number of the placement's revision.
        service: The Service of the stage.
    """
    deadline = parse_duration(test.deadline)
    return build_placement_child(
        placement,
        "batch/v1",
        "Job",
        stage_test_job(placement.agent.metadata, placement.stage.name, placement.revision, number, test.name),
        STAGE_TEST,
        spec={
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": _seconds(deadline + START_TIME),
            "template": {
                "metadata": {"labels": placement_labels(placement, STAGE_TEST)},
                "spec": _pod(placement, test, _seconds(deadline), service),
            },
        },
    )


def _pod(placement: Placement, test: StageTest, seconds: int, service: StageService) -> dict[str, Any]:
    defaults = defaults_of(placement)
    variables = [
        *({"name": one.name, "value": one.value} for one in test.env),
        {"name": TASK_URL, "value": f"http://{service.name}"},
    ]
    return {
        "serviceAccountName": stage_test_account(placement),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": seconds,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        **build_node_choice(placement.policy.spec.pod_template.default, placement.agent.spec.template),
        **build_pull_secrets(
            placement.pull_secrets, placement.policy.spec.pod_template.default, placement.agent.spec.template
        ),
        "securityContext": pod_security(),
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},  # no server listens there, so a look-up fails immediately
        "hostAliases": [{"ip": address, "hostnames": [service.name]} for address in service.addresses],
        "containers": [
            {
                "name": TEST_CONTAINER,
                "image": test.image,
                "imagePullPolicy": "IfNotPresent",
                **({"command": list(test.command)} if test.command else {}),
                **({"args": list(test.args)} if test.args else {}),
                "env": variables,
                "resources": build_resources(None, defaults),
                "terminationMessagePolicy": LAST_LINES,
                "securityContext": container_security(placement.users.agent),
                "volumeMounts": [{"name": _TMP, "mountPath": "/tmp"}],  # noqa: S108 - a path in the container
            }
        ],
        "volumes": [build_tmp_volume(_TMP, defaults)],
    }


def _seconds(span: timedelta) -> int:
    """Return whole seconds, never less than the span."""
    return -(-span // timedelta(seconds=1))
