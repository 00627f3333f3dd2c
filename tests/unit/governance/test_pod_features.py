import re
from typing import Any

import pytest

from interlock.api.pod_policy import DEFAULT_FEATURES, PodFeature, PodTemplatePolicy
from interlock.api.pod_template import Template
from interlock.api.shared_types import STORED
from interlock.api.status import AgentReason
from interlock.governance.governed import check_governance
from interlock.governance.pod_features import ALWAYS, FEATURES, feature_of, is_key_allowed, template_refusals
from tests.support.builders import a_policy, a_stage, an_agent
from tests.support.pod_templates import ALL_FEATURES, CASES, switched_fields
from tools.crds.kinds import AGENT, MCP_BINDING
from tools.reference.pod_template import fields_below, template_fields

DIGEST = f"registry.example.com/agent@sha256:{'0' * 64}"


def refused(template: dict[str, object], **rules: object) -> str | None:
    """Return reason and message of the refusal, None if there is none."""
    agent, policy = an_agent().with_template(**template), a_policy().with_pod_template(**rules)
    refusal = check_governance(agent.build(), policy.build())
    return None if refusal is None else f"{refusal.reason}: {refusal.message}"


def template_paths() -> list[str]:
    """Return the paths of all fields of agents' templates and of stdio servers, as the table has them."""
    fields = [*fields_below(AGENT, "spec.template"), *fields_below(MCP_BINDING, "spec.server.stdio")]
    return [re.sub(r"^spec\.(template|server\.stdio)\.", "", path).removesuffix("[]") for path, _ in fields]


def test_each_field_of_the_template_has_a_feature_or_is_always_allowed() -> None:
    leaves = [path for path, field in template_fields() if not {"properties"} & {*field, *field.get("items", {})}]
    without = [path for path in leaves if not has_row(path.removeprefix("spec.template.").removesuffix("[]"))]
    assert len(leaves) > 100
    assert without == []
    assert not has_row("hostNetwork")


def has_row(path: str) -> bool:
    try:
        feature_of(path)
    except KeyError:
        return False
    return True


def test_each_row_of_the_table_is_a_field_and_has_a_case() -> None:
    rows = {member for _, member in switched_fields()}
    assert (rows | set(ALWAYS)) - set(template_paths()) == set()
    assert set(CASES) == rows
    assert set(FEATURES) == set(PodFeature)


@pytest.mark.parametrize(("feature", "member"), switched_fields(), ids=str)
def test_a_policy_allows_a_field_and_withholds_it(feature: PodFeature, member: str) -> None:
    template = CASES[member].members
    others = [one for one in ALL_FEATURES if one != feature]
    assert refused(template, allow=[feature.value]) is None
    assert refused(template, allow=others) == (
        f"TemplateNotAllowed: spec.template.{member}: AgentPolicy support does not allow {feature}: add {feature} to "
        "spec.podTemplate.allow there, or remove the field"
    )
    assert (refused(template) is None) == (feature in DEFAULT_FEATURES)


def test_all_refused_fields_are_named() -> None:
    found = refused({"workingDir": "/app", "priorityClassName": "high"}, allow=[])
    assert found is not None
    assert "spec.template.workingDir: " in found
    assert "; spec.template.priorityClassName: " in found


def test_an_empty_list_uses_no_feature() -> None:
    assert refused({"tolerations": [], "volumes": [], "metadata": {"labels": {}}}, allow=[]) is None


def test_a_longer_grace_period_needs_the_policys_leave() -> None:
    template = {"terminationGracePeriodSeconds": 30}
    assert refused(template, maxTerminationGracePeriodSeconds=30) is None
    assert refused(template) == (
        "TemplateNotAllowed: spec.template.terminationGracePeriodSeconds: 30 is above the 1 of AgentPolicy "
        "support: lower it, or raise "
        "spec.podTemplate.maxTerminationGracePeriodSeconds there"
    )


OBEYED = (
    "sidecar.istio.io/inject",
    "vault.hashicorp.com/agent-inject",
    "k8s.v1.cni.cncf.io/networks",
    "azure.workload.identity/use",
    "io.kubernetes.cri-o.userns/mode",
    "pre.hook.backup.velero.io/container",
    "kueue.x-k8s.io/queue-name",
    "argocd.argoproj.io/instance",
    "kustomize.toolkit.fluxcd.io/name",
    "prometheus.io/scrape",
    "example.com/whatever-a-program-of-yours-obeys",
)


@pytest.mark.parametrize("key", OBEYED)
def test_any_key_but_those_for_users_needs_the_policys_leave(key: str) -> None:
    annotated = {"metadata": {"annotations": {key: "x"}}}
    assert refused(annotated) == (
        f"TemplateNotAllowed: spec.template.metadata: AgentPolicy support does not allow the key {key}: add it to "
        "spec.podTemplate.metadataKeys there, or give it the prefix user.interlock.dev/"
    )
    assert refused({"metadata": {"labels": {key: "x"}}}) is not None
    assert refused(annotated, metadataKeys=[key]) is None


@pytest.mark.parametrize("keys", [[], ["example.com/team"]])
def test_keys_for_users_and_the_one_of_the_autoscaler_need_no_entry(keys: list[str]) -> None:
    labels = {"user.interlock.dev/team": "a"}
    annotations = labels | {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    template = {"metadata": {"labels": labels, "annotations": annotations}}
    assert refused(template, metadataKeys=keys) is None
    assert refused(template, metadataKeys=keys, allow=[]) is not None


@pytest.mark.parametrize(
    ("keys", "allowed", "refused_keys"),
    [
        ([], [], ["example.com/team", "user.interlock.dev.example.com/team", "x.user.interlock.dev/team"]),
        (["example.com/*"], ["example.com/team"], ["sub.example.com/team", "example.org/team"]),
        (["example.com/team"], ["example.com/team"], ["example.com/other", "example.com/*"]),
    ],
)
def test_a_policy_can_name_more_keys_of_labels_and_annotations(
    keys: list[str], allowed: list[str], refused_keys: list[str]
) -> None:
    rules = a_policy().with_pod_template(metadataKeys=keys).build().spec.pod_template
    assert [key for key in allowed if not is_key_allowed(key, rules)] == []
    assert [key for key in refused_keys if is_key_allowed(key, rules)] == []


MOST = {"cpu": "2", "memory": "4Gi", "emptyDir": "10Gi"}


@pytest.mark.parametrize("kind", ["cpu", "memory", "emptyDir"])
def test_a_limit_of_zero_from_an_earlier_version_is_above_each_maximum(kind: str) -> None:
    volume = {"name": "v", "emptyDir": {"sizeLimit": "0"}}
    stated = {"volumes": [volume]} if kind == "emptyDir" else {"resources": {"limits": {kind: "0"}}}
    template = Template.model_validate({"image": "a", **stated}, context=STORED)
    rules = PodTemplatePolicy.model_validate({"max": {kind: MOST[kind]}})
    (found,) = template_refusals(template, "support", rules)
    assert f"0 is above the {MOST[kind]} of AgentPolicy support" in found
    requested = {"image": "a", "resources": {"requests": {"cpu": "0", "memory": "0"}}}
    assert template_refusals(Template.model_validate(requested), "support", rules) == []


@pytest.mark.parametrize(
    ("template", "field", "amount", "kind"),
    [
        ({"resources": {"limits": {"cpu": "2001m"}}}, "resources.limits.cpu", "2001m", "cpu"),
        ({"resources": {"requests": {"cpu": 3}}}, "resources.requests.cpu", "3", "cpu"),
        ({"resources": {"limits": {"memory": "5G"}}}, "resources.limits.memory", "5G", "memory"),
        ({"resources": {"requests": {"memory": "1Ti"}}}, "resources.requests.memory", "1Ti", "memory"),
        (
            {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Pi"}}]},
            "volumes[v].emptyDir.sizeLimit",
            "1Pi",
            "emptyDir",
        ),
    ],
)
def test_a_policy_bounds_the_amounts_of_templates(template: dict[str, Any], field: str, amount: str, kind: str) -> None:
    assert refused(template) is None
    assert refused(template, max={kind: amount}) is None
    assert refused(template, max={other: "1" for other in MOST if other != kind}) is None
    assert refused(template, max=MOST) == (
        f"TemplateNotAllowed: spec.template.{field}: {amount} is above the {MOST[kind]} of AgentPolicy support: lower "
        f"it, or raise spec.podTemplate.max.{kind} there"
    )


def test_an_amount_that_is_no_quantity_is_within_no_bound() -> None:
    template = {"resources": {"limits": {"memory": "plenty"}}}
    assert refused(template, max=MOST) is not None


def test_a_template_cannot_contradict_the_policys_node_selector() -> None:
    default = {"nodeSelector": {"pool": "agents"}}
    assert refused({"nodeSelector": {"pool": "agents", "disk": "ssd"}}, default=default) is None
    assert refused({"nodeSelector": {"pool": "gpu"}}, default=default) == (
        "TemplateNotAllowed: spec.template.nodeSelector: pool=gpu contradicts pool=agents, which is in "
        "spec.podTemplate.default.nodeSelector of AgentPolicy support: write the same value, or leave it out"
    )


@pytest.mark.parametrize("image", ["registry.example.com/agent:1", f"{DIGEST}0", DIGEST.upper(), DIGEST[:-1]])
def test_a_policy_can_require_images_by_digest(image: str) -> None:
    assert refused({"image": DIGEST}, imageReferences="Digest") is None
    assert refused({"image": image}) is None
    assert refused({"image": image}, imageReferences="Digest") == (
        f"DigestRequired: spec.template.image: AgentPolicy support requires images by digest, "
        f"and {image} has none: write it as "
        "name@sha256: and 64 hexadecimal digits"
    )


def test_images_of_tests_need_digests_too() -> None:
    test = {"name": "smoke", "image": "smoke:1", "command": ["/smoke"], "deadline": "1m"}
    stage = a_stage("dev", "development") | {"tests": [test]}
    agent = an_agent().with_template(image=DIGEST).with_stages(stage)
    refusal = check_governance(agent.build(), a_policy().with_pod_template(imageReferences="Digest").build())
    assert refusal is not None
    assert refusal.reason is AgentReason.DIGEST_REQUIRED
    assert refusal.message.startswith("spec.rollout.stages: stage dev: image of test smoke: ")
