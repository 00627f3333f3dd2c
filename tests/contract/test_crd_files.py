"""The files in crds/ and manifests/admission agree with the types, and with each other."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.api import messages, template_messages
from interlock.api.environments import DEFAULT_ENVIRONMENTS
from interlock.api.pod_policy import DEFAULT_FEATURES
from interlock.deployment.names import (
    agent_account,
    guard_account,
    pod_labels,
    stage_test_account,
    verification_labels,
    verification_name,
)
from interlock.governance.pod_features import FEATURES
from interlock_contract.names import (
    AGENT_LABEL,
    BINDING_LABEL,
    BUDGET_OVERRIDE,
    ENDPOINT_LABEL,
    GROUP,
    GUARD_LABEL,
    HAS_CLAIMS_LABEL,
    ISOLATION_LABEL,
    REVISION_LABEL,
    ROLLOUT_COMMANDS,
    SPEC_AUTHOR,
    STAGE_LABEL,
)
from interlock_kube.resource_types import CHILDREN, JOB, REPLICA_SET
from tests.requirements import requirement
from tests.support.builders import a_binding, a_separate_placement
from tools.crds.__main__ import build_crd, find_drift, find_mistakes, measure_crds
from tools.crds.kinds import KINDS, CrdKind
from tools.crds.lint import MAX_CRD_BYTES

ROOT = Path(__file__).parents[2]
ADMISSION = ROOT / "manifests" / "admission"


@cache
def documents(*folders: Path) -> list[dict[str, Any]]:
    files = (path for folder in folders for path in sorted(folder.glob("*.yaml")) if path.name != "kustomization.yaml")
    return [document for path in files for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def policies() -> dict[str, dict[str, Any]]:
    return {
        document["metadata"]["name"].removesuffix(".interlock.dev"): document["spec"]
        for document in documents(ADMISSION)
        if document["kind"] == "ValidatingAdmissionPolicy"
    }


@requirement("crd.generated")
def test_the_committed_crds_are_those_of_the_types() -> None:
    assert find_drift(ROOT / "crds") == []


@requirement("crd.bounded")
def test_the_crds_keep_the_api_conventions() -> None:
    assert find_mistakes() == []


def test_every_crd_is_far_smaller_than_what_an_annotation_holds() -> None:
    sizes = measure_crds()
    assert len(sizes) >= 3
    assert max(sizes.values()) < MAX_CRD_BYTES < 256 * 1024, sizes


def test_create_and_update_are_judged_alike() -> None:
    create, update = policies()["agents-create"], policies()["agents-update"]
    assert create["variables"] == update["variables"]
    assert create["validations"] == update["validations"]


def test_the_size_of_an_agent_is_estimated_alike() -> None:
    """For the bounds of an update, for what a user may change who may only kill, and for room for a kill."""
    everywhere = {
        document["metadata"]["name"].removesuffix(".interlock.dev"): document["spec"]["variables"]
        for document in documents(ADMISSION)
        if "variables" in document["spec"]
    }
    names = ("all", "texts", "isReadable", "escapes", "size")

    def estimate(policy: str) -> list[tuple[str, str]]:
        found = {one["name"]: one["expression"] for one in everywhere[policy]}
        return [(name, found[name].replace("oldObject", "object")) for name in names]

    assert estimate("agents-kill-only") == estimate("agents-kill-room") == estimate("agents-metadata")


SPEC_CHANGED = "object.metadata.generation != oldObject.metadata.generation"
COMMANDS = str([name.partition("/")[2] for name in (BUDGET_OVERRIDE, *ROLLOUT_COMMANDS)])
NOT_FOR_KILLS = {
    "agents-kill-latch": "oldObject.metadata.?annotations[?'interlock.dev/kill-switch'].orValue('off') != 'off'",
    "agents-release": "object.metadata.?annotations[?'interlock.dev/kill-switch'].orValue('') == 'off'",
    "agents-metadata": "|| object.metadata.?annotations[?'interlock.dev/kill-switch'].orValue('off') == 'off'",
    "agents-kill-only": ".check('update').allowed()",
    "kill-controller": "request.userInfo.username == 'system:serviceaccount:interlock-system:interlock-kill'",
    "agents-commands": f"{COMMANDS}.exists(c, ['', '-by'].exists(end,",
    "spec-author": f"?annotations[?'{SPEC_AUTHOR}'] != oldObject.metadata.?annotations[?'{SPEC_AUTHOR}']",
}
"""Policies for updates of Agents that can refuse one, each with the condition that keeps the kill of a user away."""


@pytest.mark.parametrize("name", NOT_FOR_KILLS)
def test_what_fails_closed_for_updates_of_agents_is_not_for_kills(name: str) -> None:
    conditions = [one["expression"] for one in policies()[name]["matchConditions"]]
    assert any(NOT_FOR_KILLS[name] in condition for condition in conditions)
    assert "paramKind" not in policies()[name]


def test_no_admission_policy_can_refuse_a_kill() -> None:
    """The annotation arrives as UPDATE of agents, so every policy for them must admit it whatever else is broken."""
    bindings = {doc["spec"]["policyName"]: doc["spec"] for doc in documents(ADMISSION) if "policyName" in doc["spec"]}
    for name, policy in policies().items():
        rules = policy["matchConstraints"]["resourceRules"]
        is_for_updates = any("agents" in rule["resources"] and "UPDATE" in rule["operations"] for rule in rules)
        if not is_for_updates or name in NOT_FOR_KILLS:
            continue
        assert policy["failurePolicy"] == "Ignore", name
        assert [condition["expression"] for condition in policy["matchConditions"]] == [SPEC_CHANGED]
        assert bindings[f"{name}.interlock.dev"]["paramRef"]["parameterNotFoundAction"] == "Allow", name


KILLING = (("agents", "UPDATE"), ("agents/status", "UPDATE"), ("pods", "DELETE"), ("deployments/scale", "UPDATE"))
"""The requests of a kill."""


@requirement("protection.kill-cost")
def test_a_kill_is_compared_with_no_object_but_agent_policies_and_by_two_numbers() -> None:
    """The API server evaluates a policy, its conditions too, once for each parameter."""
    judged_by = {
        (name, resource): policy
        for name, policy in policies().items()
        for rule in policy["matchConstraints"]["resourceRules"]
        for resource, operation in KILLING
        if resource in rule["resources"] and operation in rule["operations"] and "paramKind" in policy
    }
    assert set(judged_by) == {("agents-update", "agents")}  # its condition costs the same for an Agent of any size
    assert judged_by["agents-update", "agents"]["matchConditions"][0]["expression"] == SPEC_CHANGED


FOLLOWED = ("Pod", "Service", "ServiceAccount")
"""Kinds that an API server follows for itself, whatever policies it has."""


@requirement("admission.parameters")
def test_no_policy_has_parameters_that_an_api_server_stops_to_follow() -> None:
    """It stops to follow any other built-in kind once no binding names it (kubernetes/kubernetes issue 130887)."""
    kinds = {name: one["paramKind"] for name, one in policies().items() if "paramKind" in one}
    others = {name: kind for name, kind in kinds.items() if not kind["apiVersion"].startswith(GROUP)}
    assert len(kinds) > len(others)
    assert {name: kind for name, kind in others.items() if kind["kind"] not in FOLLOWED} == {}


LABELS = (
    AGENT_LABEL,
    BINDING_LABEL,
    ENDPOINT_LABEL,
    GUARD_LABEL,
    HAS_CLAIMS_LABEL,
    ISOLATION_LABEL,
    REVISION_LABEL,
    STAGE_LABEL,
)


def test_commands_are_read_by_admission_and_by_the_operator_alike() -> None:
    variables = {one["name"]: one["expression"] for one in policies()["agents-commands"]["variables"]}
    assert f"r'{messages.BUDGET_OVERRIDE}'" in variables["override"]
    assert f"'{messages.BUDGET_OVERRIDE_INVALID.replace(' {text}', '')}'" in variables["override"]
    assert variables["revision"] == f"r'{messages.REVISION_NAME}'"
    assert variables["stage"] == f"r'{messages.REVISION_STAGE}'"


def test_every_policy_about_commands_has_the_same_ones() -> None:
    variables = {one["name"]: one["expression"] for one in policies()["agents-commands"]["variables"]}
    assert variables["names"] == COMMANDS
    assert str(re.findall(r"^[{ ]'([a-z-]+)':", variables["commands"], re.MULTILINE)) == COMMANDS
    stamped = next(one for one in documents(ADMISSION) if one["metadata"]["name"] == "identity.interlock.dev")
    named = next(one["expression"] for one in stamped["spec"]["variables"] if one["name"] == "named")
    changed = next(one for one in policies()["agents-kill-only"]["variables"] if one["name"] == "changed")
    assert COMMANDS in named
    assert changed["expression"].startswith(f"{COMMANDS}.filter(c, ['', '-by'].exists(end,")


def test_default_budgets_are_the_same_in_admission() -> None:
    defaults = {one.name: one.daily_budget for one in DEFAULT_ENVIRONMENTS.values()}
    (daily,) = (one["expression"] for one in policies()["agents-create"]["variables"] if one["name"] == "daily")
    assert str(defaults) in daily


RESERVING = ("accounts-reserved", "audit-reserved", "managed-objects", "pods-reserved")


def test_every_kind_that_the_operator_writes_is_protected() -> None:
    rules = [rule for name in RESERVING for rule in policies()[name]["matchConstraints"]["resourceRules"]]
    for kind in (*CHILDREN, JOB, REPLICA_SET):
        group = "" if kind.prefix == "/api/v1" else kind.prefix.split("/")[2]
        for operation in ("CREATE", "UPDATE", "DELETE"):
            assert any(
                group in rule["apiGroups"] and kind.plural in rule["resources"] and operation in rule["operations"]
                for rule in rules
            ), (kind.kind, operation)


@pytest.mark.parametrize("name", RESERVING)
def test_what_protects_fails_closed(name: str) -> None:
    assert policies()[name]["failurePolicy"] == "Fail"


def test_every_label_of_interlock_is_reserved_on_pods() -> None:
    policy = policies()["pods-reserved"]
    (reserved,) = (one["expression"] for one in policy["matchConditions"] if one["name"] == "reserved")
    for label in LABELS:
        assert f"'{label.removeprefix(f'{GROUP}/')}'" in reserved, label


def test_accounts_are_found_by_the_ends_of_their_names() -> None:
    policy = policies()["accounts-reserved"]
    (condition,) = (one["expression"] for one in policy["matchConditions"] if one["name"] == "names-an-account")
    placement = a_separate_placement()
    for name in (
        guard_account(placement),
        agent_account(placement),
        stage_test_account(placement),
        verification_name("crm"),
        verification_name("c" * 63),
    ):
        assert any(name.endswith(end) for end in re.findall(r"endsWith\('([^']+)'\)", condition)), name


@pytest.mark.parametrize("policy", ["kill-controller", "operator-objects"])
def test_a_relabelled_pod_is_known_by_the_account_of_its_placement(policy: str) -> None:
    expressions = str(policies()[policy])
    (pattern,) = re.findall(r"serviceAccountName\.orValue\(''\)\.matches\('([^']+)'\)", expressions)
    placement = a_separate_placement()
    for name in (guard_account(placement), agent_account(placement), stage_test_account(placement)):
        assert re.search(pattern, name), name
    assert re.search(pattern, "triage-guard") is None


MOST_LABELS_OF_OTHERS = 8
"""Labels that the scheduler and the controllers of Kubernetes add to a pod, with room for more."""
MOST_LABELS_OF_TEMPLATES = 8
"""Labels of `spec.template.metadata`."""


def test_a_service_that_can_select_a_pod_of_ours_is_known_by_its_selector() -> None:
    (rule,) = (one["expression"] for one in policies()["services-debug"]["variables"] if one["name"] == "selectsOurs")
    pods = (pod_labels(a_separate_placement(), part) for part in ("agent", "guard"))
    for labels in (*pods, verification_labels(a_binding().build())):
        # More labels than these are not compared.
        assert len(labels) + MOST_LABELS_OF_TEMPLATES + MOST_LABELS_OF_OTHERS < 32
        for label, value in labels.items():
            is_named = label.startswith(f"{GROUP}/") or f"'{label}'" in rule
            assert is_named, label
            assert label.startswith(f"{GROUP}/") or label == "app.kubernetes.io/instance" or f"'{value}'" in rule, value


def test_the_latch_applies_only_to_agents_that_are_killed_already() -> None:
    latch = policies()["agents-kill-latch"]
    assert "paramKind" not in latch
    assert [condition["name"] for condition in latch["matchConditions"]] == ["was-killed"]
    assert "oldObject" in latch["matchConditions"][0]["expression"]


@pytest.mark.parametrize(
    "name",
    [
        "STAGING_MISSING",
        "MINIMUM_STAGING",
        "LIMITED_SCOPE_REQUIRED",
        "MINIMUM_LIMITED_SCOPE",
        "ROW_MISSING",
        "MODEL_NOT_ALLOWED",
        "MODEL_WITHOUT_PROVIDER",
        "MODEL_KEY_NOT_ALLOWED",
        "ENVIRONMENT_UNKNOWN",
        "STAGES_BACKWARDS",
        "BUDGET_RAISED",
    ],
)
def test_admission_uses_the_words_of_the_reconciler(name: str) -> None:
    variables = " ".join(variable["expression"] for variable in policies()["agents-create"]["variables"])
    words = re.sub(r"'\s*\+\s*'", "", variables)
    pieces = re.split(r"\{[a-z]+\}", getattr(messages, name))
    assert [piece for piece in pieces if piece not in words] == []


@pytest.mark.parametrize(
    "name",
    [
        "TEMPLATE_NOT_ALLOWED",
        "GRACE_NOT_ALLOWED",
        "METADATA_KEY_NOT_ALLOWED",
        "AMOUNT_NOT_ALLOWED",
        "DIGEST_REQUIRED",
    ],
)
def test_admission_uses_the_words_of_the_reconciler_on_templates(name: str) -> None:
    variables = " ".join(variable["expression"] for variable in policies()["agents-create"]["variables"])
    words = re.sub(r"'\s*\+\s*'", "", variables)
    pieces = re.split(r"\{[a-z]+\}", getattr(template_messages, name))
    assert [piece for piece in pieces if piece not in words] == []


def test_admission_knows_the_features_of_a_template() -> None:
    variables = {one["name"]: one["expression"] for one in policies()["agents-create"]["variables"]}
    rows = {f"{member} {feature}" for feature, members in FEATURES.items() for member in members}
    assert set(re.findall(r"'([^' ]+ [A-Z][A-Za-z]+)'", variables["used"])) == rows
    assert re.findall(r"'([A-Za-z]+)'", variables["features"]) == list(DEFAULT_FEATURES)


def test_the_kustomization_lists_every_file_of_its_folder() -> None:
    listed = yaml.safe_load((ADMISSION / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert listed == sorted(file.name for file in ADMISSION.glob("*.yaml") if file.name != "kustomization.yaml")


def test_every_policy_is_bound_and_denies() -> None:
    found = documents(ADMISSION)
    bound = {
        doc["spec"]["policyName"]: doc["spec"]["validationActions"]
        for doc in found
        if doc["kind"] == "ValidatingAdmissionPolicyBinding"
    }
    assert bound == {f"{name}.interlock.dev": ["Deny"] for name in policies()}


def page(kind: str) -> str:
    return (ROOT / "docs" / "spec" / "v1alpha1" / f"{kind.lower()}.md").read_text(encoding="utf-8")


def field_paths(node: dict[str, Any], path: str) -> list[str]:
    """Every path below `node` as the pages write it: lists with []."""
    found = []
    for name, member in node.get("properties", {}).items():
        below = f"{path}.{name}" + ("[]" if member.get("type") == "array" else "")
        found += [below, *field_paths(member, below), *field_paths(member.get("items", {}), below)]
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_page_of_a_kind_has_exactly_its_fields(kind: CrdKind) -> None:
    schema = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    documented = re.findall(r"^\| `(spec\.[^`]+)` \|", page(kind.name), flags=re.MULTILINE)
    # The fields of a template are on a page of their own, which is generated.
    assert documented == [one for one in field_paths(schema["properties"]["spec"], "spec") if not is_of_template(one)]


def is_of_template(path: str) -> bool:
    return path.startswith(("spec.template.", "spec.server.stdio."))


def test_the_page_of_templates_has_exactly_their_fields() -> None:
    schemas = (build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for kind in KINDS)
    paths = (path for schema in schemas for path in field_paths(schema["properties"]["spec"], "spec"))
    text = (ROOT / "docs" / "reference" / "pod-template.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(spec\.[^`]+)` \|", text, flags=re.MULTILINE)
    assert sorted(documented) == sorted(path for path in paths if is_of_template(path))


def test_every_message_is_in_the_pages() -> None:
    texts = [text for name, text in vars(messages).items() if name.isupper() and isinstance(text, str) and ": " in text]
    written = [re.sub(r"\{([a-z]+)\}", r"<\1>", text) for text in texts]
    pages = "".join(page(kind.name) for kind in KINDS)
    assert len(written) > 20
    assert [message for message in written if f"`{message}`" not in pages] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_example_of_a_page_is_valid_and_its_columns_are_those_of_the_kind(kind: CrdKind) -> None:
    text = page(kind.name)
    (example,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    kind.model.model_validate(yaml.safe_load(example))
    (shown,) = re.findall(r"^(NAME .*)$", text, flags=re.MULTILINE)
    assert shown.split() == ["NAME", *(column.name.upper() for column in kind.columns if not column.wide)]


PYTHON_NAME = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b|\b_[a-z]\w*\b|`|\b(?:AgentReason|StrEnum|tuple|dict|bool|NoneType)\b")
"""What only a reader of the code understands. None is a value of spec.server.http.network too, so it is allowed."""


def descriptions(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield all descriptions that `kubectl explain` shows, with their places."""
    if isinstance(node, dict):
        if isinstance(node.get("description"), str):
            yield path, node["description"]
        for key, value in node.items():
            yield from descriptions(value, f"{path}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from descriptions(value, path)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kubectl_explain_names_nothing_of_python(kind: CrdKind) -> None:
    found = yaml.safe_load((ROOT / "crds" / f"{kind.plural}.yaml").read_text(encoding="utf-8"))
    named = {place: PYTHON_NAME.findall(text) for place, text in descriptions(found, kind.plural)}
    assert {place: words for place, words in named.items() if words} == {}


def test_the_check_of_descriptions_finds_names_of_python() -> None:
    for text in ("see ready_since", "as `AgentReason` says", "the _private one", "a tuple of names"):
        assert PYTHON_NAME.search(text), text
